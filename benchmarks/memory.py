"""Resident memory of every process of a local stack while it works off a long backlog.

    python -m benchmarks.memory [--jobs 100000]

One worker whose model is simulated (`simulated@1` in every result; all else is real) works off one tenant's backlog
(benchmarks/backlog.py says how it came there), while another tenant posts a job every second and waits for its end, so
that the HTTP services have work too. Every two seconds the resident size of each process is taken, the readers of the
worker together. Printed is, for each, the median while the first tenth of the backlog was worked off, the median of the
last tenth, and their ratio. The exit code is 1 when one of docfleet's own processes grew by more than a tenth.
"""

import argparse
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks import backlog
from benchmarks.fairness import CATEGORIES, LETTER
from benchmarks.running import Fleet, descendants

MOST_GROWTH: Final = 1.1
SETTINGS: Final = {"DOCFLEET_SIMULATED_MODEL_SECONDS": "0.001", "DOCFLEET_MAX_JOBS_IN_FLIGHT": "256"}
OWN: Final = ("producer_api", "status_service", "classifier_worker")
READERS: Final = " readers"

_LOOK_SECONDS: Final = 2.0
_TELL_SECONDS: Final = 60.0
_LONGEST_JOB_SECONDS: Final = 300.0
_PAGE_BYTES: Final = 4096


def resident_bytes(pid: int) -> int:
    """Return the resident size of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def look(fleet: Fleet) -> dict[str, int]:
    """Return the resident bytes of each process of the stack with its children; a worker's readers by themselves."""
    sizes = {}
    for process in fleet.stack["processes"]:
        name, pid = process["name"], process["pid"]
        sizes[name] = resident_bytes(pid)
        if children := descendants(pid):
            below = name + READERS if name.startswith("classifier_worker") else name
            sizes[below] = sizes.get(below, 0) + sum(map(resident_bytes, children))
    return sizes


def trickle(fleet: Fleet, ended: threading.Event) -> Counter[str]:
    """Post a job a second and wait for its end, until told to stop; returns how the jobs ended."""
    counts: Counter[str] = Counter()
    while not ended.wait(1.0):
        answer = fleet.post(LETTER, CATEGORIES)
        answer.raise_for_status()
        job = fleet.finished(answer.json()["job_id"], within_seconds=_LONGEST_JOB_SECONDS)
        counts[job["status"]] += 1
    return counts


def watch(fleet: Fleet, jobs: int) -> list[tuple[int, dict[str, int]]]:
    """Return (jobs of the backlog ended, sizes) of every look until all have ended."""
    looks: list[tuple[int, dict[str, int]]] = []
    began = told = time.monotonic()
    while not looks or looks[-1][0] < jobs:
        looks.append((jobs - backlog.left(fleet), look(fleet)))
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            print(f"{told - began:6.0f} s  {looks[-1][0]} of {jobs} ended", file=sys.stderr, flush=True)
        time.sleep(_LOOK_SECONDS)
    return looks


def report(looks: list[tuple[int, dict[str, int]]], jobs: int) -> float:
    """Print the table and return the largest growth of one of docfleet's own processes, as a ratio."""
    first: dict[str, list[int]] = defaultdict(list)
    last: dict[str, list[int]] = defaultdict(list)
    for ended, sizes in looks:
        for name, size in sizes.items():
            if 0 < ended <= jobs / 10:
                first[name].append(size)
            elif jobs * 9 / 10 <= ended < jobs:
                last[name].append(size)
    worst = 0.0
    print(f"{'process':30} {'first tenth':>12} {'last tenth':>12} {'ratio':>7}")
    for name in sorted(first.keys() & last.keys()):
        before, after = statistics.median(first[name]), statistics.median(last[name])
        print(f"{name:30} {before / 1e6:9.1f} MB {after / 1e6:9.1f} MB {after / before:7.3f}")
        if name.startswith(OWN):
            worst = max(worst, after / before)
    return worst


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    options = parser.parse_args()
    with backlog.fleet(SETTINGS) as fleet:
        backlog.put(fleet, options.jobs, LETTER, CATEGORIES)
        ended = threading.Event()
        with ThreadPoolExecutor(1) as posting:
            posted = posting.submit(trickle, fleet, ended)
            began = time.monotonic()
            try:
                looks = watch(fleet, options.jobs)
            finally:
                ended.set()
            seconds = time.monotonic() - began
    print(f"{options.jobs} jobs in {seconds:.0f} s, and posted meanwhile: {dict(posted.result())}")
    worst = report(looks, options.jobs)
    print(f"largest growth of our own: {worst:.3f} (at most {MOST_GROWTH:g})")
    return 0 if 0 < worst <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
