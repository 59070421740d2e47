"""How long one tenant's single jobs take behind another tenant's backlog, against a fleet with nothing else to do.

    python -m benchmarks.fairness [--backlog 100000] [--looks 20]

Starts a local stack with one worker whose model is simulated (`simulated@1` in every result, 0.1 s a page; all else
is real). One tenant posts single jobs one after the other, and the time from the POST to the seen end of each is taken:
first with an idle fleet, then while the other tenant's backlog is there (benchmarks/backlog.py says how it came there).
Its end is not waited for: it only has to outlast the looks.
The exit code is 1 when the backlog adds more than `--aim` seconds to the slowest job.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks import backlog
from benchmarks.running import Fleet
from tests import documents

CATEGORIES: Final = ["invoice", "letter", "menu"]
LETTER: Final = documents.pdf(pages=1, text="LETTER\nDear Sir or Madam")
#: What the benchmark sets otherwise than the chaos runs: the limits are those of a fresh installation.
SETTINGS: Final = {
    "DOCFLEET_SIMULATED_MODEL_SECONDS": "0.1",
    "DOCFLEET_MAX_JOBS_IN_FLIGHT": "256",
    "DOCFLEET_SESSION_TIMEOUT_SECONDS": "15",
}
_LONGEST_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.5


def look(fleet: Fleet) -> float:
    """Post one job and return the seconds until its end is seen; RuntimeError when it did not complete."""
    began = time.monotonic()
    answer = fleet.post(LETTER, CATEGORIES)
    answer.raise_for_status()
    job = fleet.finished(answer.json()["job_id"], within_seconds=_LONGEST_SECONDS)
    if job["status"] != "completed":
        raise RuntimeError(f"a job of the small tenant: {job}")
    return time.monotonic() - began


def looks(fleet: Fleet, count: int) -> list[float]:
    """Return the seconds of so many single jobs, one after the other."""
    seconds = []
    for _ in range(count):
        seconds.append(look(fleet))
        time.sleep(_PAUSE_SECONDS)
    return seconds


def line(name: str, seconds: Sequence[float]) -> str:
    """Return one line of the table."""
    return (
        f"{name:28} median {statistics.median(seconds):6.2f} s  slowest {max(seconds):6.2f} s  of {len(seconds)} jobs"
    )


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--looks", type=int, default=20)
    parser.add_argument("--aim", type=float, default=5.0, help="seconds that a backlog may add to the slowest job")
    options = parser.parse_args()
    with backlog.fleet(SETTINGS) as fleet:
        look(fleet)  # the first job of a fleet meets cold caches
        idle = looks(fleet, options.looks)
        backlog.put(fleet, options.backlog, LETTER, CATEGORIES)
        before = backlog.left(fleet)
        began = time.monotonic()
        behind = looks(fleet, options.looks)
        seconds, after = time.monotonic() - began, backlog.left(fleet)
    print(line("nothing else to do", idle))
    print(line(f"behind {before} jobs", behind))
    print(f"meanwhile {(before - after) / seconds:.1f} jobs/s of the backlog ended; {after} were left")
    return 0 if after and max(behind) - max(idle) <= options.aim else 1


if __name__ == "__main__":
    sys.exit(main())
