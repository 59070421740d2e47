"""Prints what was found of one way to run the towers."""

from typing import Any, Final

_NUMBERS: Final = (
    "import_and_load_seconds",
    "start_seconds",
    "graphs",
    "memory_gib",
    "memory_peak_gib",
    "peak_flops",
    "bare_pages_per_second",
    "engine_pages_per_second",
    "engine_share_of_bare",
    "prepare_ms",
    "prepare_see_ms",
    "prepare_image_ms",
    "prepared_pages_per_second",
    "tokens",
    "judge_ms",
)
_TABLES: Final = (
    "warm_up_seconds",
    "encoder",
    "encoder_timeline",
    "latency_ms",
    "trickle",
    "engine_batches",
    "equality",
    "half_weights",
)


def show(way: str, found: dict[str, Any]) -> None:
    """Print the figures that are there."""
    print(f"\n== {way}: ended {found['ended']}, {found['seconds']:.0f} s")
    for key in (*_NUMBERS, *_TABLES):
        if key in found:
            print(f"{key:28} {_short(found[key])}")
    for key, rates in found.items():
        if "_alone" in key and isinstance(rates, dict):
            told = (f"{rows}: {one['per_second']:.0f}/s {one['share_of_peak']:.0%}" for rows, one in rates.items())
            print(f"{key:28} {'  '.join(told)}")
    for error in found.get("errors", []):
        print(f"FAILED {error}")


def _short(told: object) -> object:
    if isinstance(told, dict):
        return ", ".join(f"{key} {_short(value)}" for key, value in told.items())
    return f"{told:.4g}" if isinstance(told, float) else told
