"""What the worker's engine makes of a GPU, with the production bundle's towers at their real sizes and random weights.

    python -m benchmarks.gpu [--seconds 235] [--out FILE] [--tiny] [--ways blocks,ready,eager,whole]

Each way to run the towers is measured in a process of its own, so that one that fails or takes too long costs only
its own figures: `blocks` (as the worker does: torch.compile block by block), `ready` (the same again with the
compiler's cache filled, only until it is ready), `eager` (not compiled) and `whole` (one graph for each tower and
shape). Prints one table per way and writes all figures to FILE as JSON. `--tiny` runs the same code in small, anywhere.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.showing import show

WAYS: Final = ("blocks", "ready", "eager", "whole")
#: The longest part of the time that one way gets, so that the others have some left.
_SHARE: Final = 0.68


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=235.0, help="the whole program ends within this time")
    parser.add_argument("--out", type=Path, help="where all figures go, as JSON")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--ways", default=",".join(WAYS), help="which ways to run the towers are measured")
    parser.add_argument("--device", default="", help="cuda or cpu; cuda where there is one")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make the bundle, measure each way in a child, print and write."""
    arguments = parse()
    began = time.monotonic()
    import torch

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.way:
        measure_one(arguments, device)
        return
    found: dict[str, Any] = {"device": device_name(device), "torch": torch.__version__, "is_tiny": arguments.tiny}
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            [sys.executable, "-c", _MAKE.format(folder=folder, device=device, is_tiny=arguments.tiny)], check=False
        )
        found["make_seconds"] = time.monotonic() - began
        if made.returncode:
            raise SystemExit("the bundle could not be made")
        for way in arguments.ways.split(","):
            left = arguments.seconds - (time.monotonic() - began) - 5
            if left < 15:
                print(f"no time left for {way}")
                continue
            found[way] = run_child(way, folder, device, min(left, arguments.seconds * _SHARE), is_tiny=arguments.tiny)
            if arguments.out:
                arguments.out.write_text(json.dumps(found, indent=1))
            show(way, found[way])
    print(f"{found['device']}, torch {found['torch']}, {time.monotonic() - began:.0f} s in all")


_MAKE: Final = (
    "from pathlib import Path; from benchmarks.gpu.making import make_bundle;"
    " make_bundle(Path({folder!r}), device={device!r}, is_tiny={is_tiny!r})"
)


def device_name(device: str) -> str:
    """Return the name of the GPU, or cpu."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def run_child(way: str, folder: str, device: str, seconds: float, *, is_tiny: bool) -> dict[str, Any]:
    """Return what a child found of `way` within `seconds`; what it had found when it was stopped, else."""
    out = Path(folder) / f"{way}.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--way", way, "--bundle", folder, "--device", device]
    command += ["--out", str(out), "--seconds", str(seconds), *(["--tiny"] if is_tiny else [])]
    cache = Path(folder) / ("cache-blocks" if way == "ready" else f"cache-{way}")
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TRITON_CACHE_DIR": str(cache / "triton")}
    began = time.monotonic()
    try:
        ended: int | str = subprocess.run(command, env=environment, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        ended = f"stopped after {seconds:.0f} s"
    found = json.loads(out.read_text()) if out.exists() else {}
    return {"ended": ended, "seconds": time.monotonic() - began} | found


def measure_one(arguments: argparse.Namespace, device: str) -> None:
    """Measure one way, step by step, as long as there is time; a step that fails is noted and skipped."""
    began = time.perf_counter()
    from benchmarks.gpu.making import make_pages
    from benchmarks.gpu.measuring import Measuring

    way = "blocks" if arguments.way == "ready" else arguments.way
    measuring = Measuring(
        arguments.bundle,
        device=device,
        way=way,
        is_tiny=arguments.tiny,
        keep=lambda found: arguments.out.write_text(json.dumps(found)),
    )
    measuring.tell("import_and_load_seconds", time.perf_counter() - began)
    pages = make_pages(8 if arguments.tiny else 64)
    span = 1.0 if arguments.tiny else 8.0
    steps: list[tuple[str, Callable[[], None]]] = [("start", measuring.start)]
    if arguments.way != "ready":
        steps += [
            ("latency", lambda: measuring.latency(pages, count=5 if arguments.tiny else 40)),
            ("bare loop", lambda: measuring.bare_loop(pages)),
            ("throughput", lambda: measuring.throughput(pages, seconds=span)),
            ("steps", lambda: measuring.steps(pages)),
            ("equality", lambda: measuring.equality(pages)),
            ("trickle", lambda: measuring.trickle(pages, per_second=8, count=5 if arguments.tiny else 32)),
            ("towers alone", lambda: measuring.towers_alone(pages)),
            ("half weights", lambda: measuring.half_weights(pages)),
        ]
    errors = []
    for name, step in steps:
        if time.perf_counter() - began > arguments.seconds - 5:
            errors.append(f"{name}: no time left")
            continue
        try:
            step()
        except Exception:
            traceback.print_exc()
            errors.append(f"{name}: {traceback.format_exc(limit=-2)}")
            if name == "start":
                break
    measuring.tell("errors", errors)
    os._exit(0)  # threads of the engine that a failed start left behind would keep the process


if __name__ == "__main__":
    main()
