"""Reads from a trace of the profiler how busy the device was, and whether copies ran beside computing."""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

Span = tuple[float, float]


def device_timeline(work: Callable[[], object]) -> dict[str, float]:
    """Run `work` under the profiler; return milliseconds and shares of what the device did meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            work()
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return shares(events)


def shares(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return what the trace's events tell: the device's busy share, and the share of copy time beside kernels."""
    kernels: list[Span] = []
    copies_in: list[Span] = []
    copies_out: list[Span] = []
    for event in events:
        if event.get("ph") != "X":
            continue
        span = (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        if event.get("cat") == "kernel":
            kernels.append(span)
        elif event.get("cat") == "gpu_memcpy":
            (copies_in if "HtoD" in event["name"] else copies_out).append(span)
    if not kernels:
        return {}
    computing = merge(kernels)
    busy = merge([*kernels, *copies_in, *copies_out])
    whole = busy[-1][1] - busy[0][0]
    copying = length(merge(copies_in))
    beside = copying + length(computing) - length(merge([*computing, *copies_in]))
    return {
        "whole_ms": whole / 1000,
        "kernels": len(kernels),
        "computing_share": length(computing) / whole,
        "busy_share": length(busy) / whole,
        "copy_in_ms": copying / 1000,
        "copy_in_beside_computing_share": beside / copying if copying else 0.0,
        "copy_out_ms": length(merge(copies_out)) / 1000,
    }


def merge(spans: Iterable[Span]) -> list[Span]:
    """Return the union of the spans as spans that do not touch, rising."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def length(spans: Iterable[Span]) -> float:
    """Return the sum of the spans' lengths."""
    return sum(end - start for start, end in spans)
