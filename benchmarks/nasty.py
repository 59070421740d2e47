"""Post every file of a nasty corpus over HTTP and check that each ends as its `expected` column says.

    python -m benchmarks.nasty [--corpus ../shared/corpus]

The corpus is a folder with `nasty.csv` (columns path, expected). A file passes when it ends as
expected within 10 s, no reader process of the local stack grew beyond 1 GB, and a plain document
posted right after it completes. The last line is `N/N as expected`; the exit code is 0 when all are.
"""

import argparse
import csv
import sys
import threading
import time
from pathlib import Path

from benchmarks.running import Fleet, descendants, fleet, peak_bytes
from tests import documents

CATEGORIES = ["invoice", "letter", "form", "scientific paper", "identity document", "recipe"]
MOST_SECONDS = 10.0
MOST_BYTES = 1_000_000_000


class ReaderMemory(threading.Thread):
    """Keeps the highest resident size seen of any reader process, which may end at any time."""

    def __init__(self, running: Fleet) -> None:
        super().__init__(daemon=True)
        self._workers = running.pids("classifier_worker") if running.stack else []
        self._ended = threading.Event()
        self.most_bytes = 0

    def run(self) -> None:
        """Look every 20 ms until `end`."""
        while not self._ended.wait(0.02):
            for worker in self._workers:
                self.most_bytes = max([self.most_bytes, *map(peak_bytes, descendants(worker))])

    def end(self) -> int:
        """Stop looking and return the highest size in bytes."""
        self._ended.set()
        self.join()
        return self.most_bytes


def outcome_of(running: Fleet, document: bytes) -> tuple[str, str]:
    """Return (`readable` or `clear error`, what was said) for one document."""
    answer = running.post(document, CATEGORIES)
    if answer.status_code != 202:
        body = answer.json()
        is_clear = 400 <= answer.status_code < 500 and body.get("error_code") and body.get("detail")
        return ("clear error" if is_clear else "unclear"), f"{answer.status_code} {body.get('error_code')}"
    job = running.finished(answer.json()["job_id"], within_seconds=60)
    if job["status"] == "completed":
        result = job["result"]
        said = f"{result['classification']} {result['confidence']:.2f}, {result['total_pages']} pages"
        return "readable", said
    is_clear = job["status"] == "failed" and job["error_code"] and job["error"]
    return ("clear error" if is_clear else "unclear"), f"{job['error_code']}: {job['error']}"


def faults_of(expected: str, outcome: str, said: str, seconds: float, most_bytes: int) -> list[str]:
    """Return what was not as expected; empty when all was."""
    faults = []
    if outcome not in expected:
        faults.append(f"expected {expected}")
    if outcome == "readable" and "2 pages" in expected and not said.endswith("2 pages"):
        faults.append("expected 2 pages")
    if seconds > MOST_SECONDS:
        faults.append(f"took {seconds:.1f} s")
    if most_bytes > MOST_BYTES:
        faults.append(f"took {most_bytes / 1e6:.0f} MB")
    return faults


def main() -> int:
    """Run, print a line a file and the sum; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/corpus"))
    corpus = parser.parse_args().corpus
    rows = list(csv.DictReader((corpus / "nasty.csv").open(encoding="utf-8", newline="")))
    plain = documents.pdf(pages=1, text="Invoice number 42. Amount due 100.00. Please pay within 30 days.")
    as_expected = 0
    with fleet() as running:
        for row in rows:
            memory = ReaderMemory(running)
            memory.start()
            begun = time.monotonic()
            outcome, said = outcome_of(running, (corpus / row["path"]).read_bytes())
            seconds = time.monotonic() - begun
            most_bytes = memory.end()
            faults = faults_of(row["expected"], outcome, said, seconds, most_bytes)
            after, said_after = outcome_of(running, plain)
            if after != "readable":
                faults.append(f"the next document ended with {said_after}")
            as_expected += not faults
            mark = "ok " if not faults else "BAD"
            size = f"{most_bytes / 1e6:4.0f} MB" if most_bytes else "   -   "
            print(f"{mark} {seconds:5.2f} s {size}  {Path(row['path']).name:45} {said} {'; '.join(faults)}", flush=True)
    print(f"{as_expected}/{len(rows)} as expected")
    return 0 if as_expected == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
