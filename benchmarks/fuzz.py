"""Read damaged files through the real reader pool: each must end in a result or a clear error, within its limits.

    python -m benchmarks.fuzz [--files 10000] [--seed N] [--corpus DIR] [--first N] [--offences DIR]

The seeds are the files of a nasty corpus, where there is one, and documents made here; see benchmarks/mutations.py for
what is done to them. An offence is: an exception that is no DocfleetError, an error without a code of the table or a
sentence, a child that met a Python exception or spoke nonsense, a child or a parent beyond its memory, a file beyond
its time, descriptors that stay open. A parser that crashes in its child is none: that is what the child is for, and
those are counted. Each offence is written to a file whose name holds the seed and the file's number; `--seed S --first
N --files 1` makes it again. The exit code is 0 when there was none.
"""

import argparse
import random
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.mutations import mutated
from benchmarks.reader import InMemory
from benchmarks.running import peak_bytes
from classifier_worker.core.page import Document
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import ERRORS, DocfleetError, ErrorCode
from tests import documents

CORPUS: Final = Path(__file__).parents[2] / "shared" / "corpus" / "nasty"
LIMITS: Final = ReaderLimits(document_seconds=10.0, memory_bytes=1000 << 20)
#: A limit is enforced by looking every 50 ms, on a machine that does other things too.
_SLACK_SECONDS: Final = 5.0
_SLACK_SHARE: Final = 1.1
#: What the parent may gain after its first tenth: allocator and caches, but nothing a file.
_PARENT_GROWTH_BYTES: Final = 64 << 20
_LARGEST_SEED_BYTES: Final = 1 << 20
_SLOWEST: Final = 5
OCR_EVERY: Final = 12  #: OCR costs a hundred times what all else costs


@dataclass(frozen=True, slots=True)
class Offence:
    """What should not have happened with a file."""

    number: int
    what: str
    made_by: str
    data: bytes


@dataclass(slots=True)
class Report:
    """What a run saw."""

    seed: int
    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    offences: list[Offence] = field(default_factory=list)
    slowest: list[tuple[float, int, str]] = field(default_factory=list)
    child_peak_bytes: int = 0
    parent_bytes: tuple[int, int] = (0, 0)  #: after the first tenth, at the end
    children: int = 0
    killed: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [f"{count:7}  {name}" for name, count in self.outcomes.most_common()]
        lines += [f"slow     {seconds:.2f} s, file {number}: {said}" for seconds, number, said in self.slowest]
        killed = ", ".join(f"{count} by {why}" for why, count in sorted(self.killed.items()))
        before, after = (size / 1e6 for size in self.parent_bytes)
        lines += [
            f"children {self.children} used up ({killed})",
            f"memory   largest child {self.child_peak_bytes / 1e6:.0f} MB; parent {before:.0f} MB, then {after:.0f} MB",
        ]
        lines += [f"OFFENCE  file {one.number}: {one.what} [{one.made_by}]" for one in self.offences]
        lines.append(f"{self.files} files, seed {self.seed}: {len(self.offences)} offences")
        return "\n".join(lines)


class PeakMemory(threading.Thread):
    """Keeps the highest resident size of any child of a pool."""

    def __init__(self, pool: ReaderPool) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._ended = threading.Event()
        self.most_bytes = 0

    def run(self) -> None:
        """Look every 20 ms until `end`."""
        while not self._ended.wait(0.02):
            self.most_bytes = max([self.most_bytes, *map(peak_bytes, self._pool.pids)])

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def seeds_of(corpus: Path | None) -> list[bytes]:
    """Return the seed files: those of the corpus that are not too large, and documents of every kind made here."""
    found = sorted(corpus.iterdir()) if corpus is not None and corpus.is_dir() else []
    seeds = [path.read_bytes() for path in found if path.stat().st_size <= _LARGEST_SEED_BYTES]
    small = documents.page_picture(size_px=(310, 438))
    made = [
        documents.pdf(pages=3, extra=documents.TABLE),
        documents.turned_pdf(90),
        documents.scanned_pdf(small, stamp="page 1"),
        documents.encrypted_pdf(user_password=b""),
        documents.encrypted_pdf(),
        documents.deep_pdf(500),
        documents.tiff(pages=2, compression="tiff_lzw"),
        documents.tiff(pages=1, compression="tiff_jpeg"),
        documents.png_bomb(3000),
        documents.tiff_bomb(3000),
        *documents.pictures().values(),
    ]
    return seeds + made


def request_of(rng: random.Random, number: int, ocr_every: int) -> ReadRequest:
    """Return how a file is read: as the worker does, with more or less structure, a few with OCR."""
    return ReadRequest(structure_pages=rng.choice((0, 1, 1, 4)), ocr=bool(ocr_every) and number % ocr_every == 0)


def fault_of(error: Exception) -> str:
    """Return why an error of a read is no clear answer; empty when it is one."""
    if not isinstance(error, DocfleetError):
        return f"{type(error).__name__}: {error}"
    if error.code not in ERRORS or not error.sentence.strip().endswith((".", "?", "!")):
        return f"no clear error: {error!r}"
    if error.code is ErrorCode.READER_CRASHED and ("exit code" in error.sentence or "go wrong" in error.sentence):
        return f"our part of the child failed: {error.sentence}"
    return ""


def outcome_of(result: Document | DocfleetError) -> str:
    """Return the line under which a result is counted."""
    if isinstance(result, Document):
        return "read" if all(not hasattr(page, "error") for page in result.pages) else "read, some pages unreadable"
    said = f"{result.code}"
    return f"{said}: {result.sentence}" if result.code is ErrorCode.READER_CRASHED else said


class Fuzzer:
    """Feeds one pool; every `ocr_every`-th file may be read by OCR, none where it is 0."""

    def __init__(self, pool: ReaderPool, seeds: Sequence[bytes], seed: int, *, ocr_every: int = OCR_EVERY) -> None:
        self._pool = pool
        self._seeds = seeds
        self._ocr_every = ocr_every
        self.report = Report(seed)

    def run(self, numbers: range) -> Report:
        """Read these files and return what was seen."""
        peak = PeakMemory(self._pool)
        peak.start()
        tenth = numbers[len(numbers) // 10] if len(numbers) > 1 else numbers.start
        before_bytes, descriptors = _resident_bytes(), 0
        began = shown = time.monotonic()
        for number in numbers:
            if number == tenth:
                before_bytes, descriptors = _resident_bytes(), _descriptors()
            self._read(number)
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                rate = (number - numbers.start + 1) / (shown - began)
                print(f"         file {number} of {numbers.stop}, {rate:.1f} files/s", file=sys.stderr, flush=True)
        peak.end()
        self._judge_memory(peak.most_bytes, before_bytes, _descriptors() - descriptors, numbers.stop - 1)
        counters = self._pool.counters
        report = self.report
        report.children = counters.started - self._pool.size - 1
        report.killed = Counter(
            crash=counters.deaths, time=counters.timeouts, memory=counters.memory_kills, age=counters.recycled
        )
        return report

    def _read(self, number: int) -> None:
        data, rng, made_by = mutated(self.report.seed, number, self._seeds)
        request = request_of(rng, number, self._ocr_every)
        began = time.monotonic()
        fault = ""
        try:
            outcome = outcome_of(self._pool.read(InMemory(data), request))
        except DocfleetError as error:
            outcome, fault = outcome_of(error), fault_of(error)
        except Exception as error:
            outcome, fault = "an exception", fault_of(error)
        seconds = time.monotonic() - began
        if seconds > self._pool.limits.document_seconds + _SLACK_SECONDS:
            fault = fault or f"took {seconds:.1f} s"
        report = self.report
        report.files += 1
        report.outcomes[outcome] += 1
        report.slowest = sorted([*report.slowest, (seconds, number, f"{outcome} [{made_by}]")], reverse=True)[:_SLOWEST]
        if fault:
            report.offences.append(Offence(number, fault, made_by, data))

    def _judge_memory(self, child_bytes: int, before_bytes: int, descriptors: int, last: int) -> None:
        report = self.report
        report.child_peak_bytes = max(report.child_peak_bytes, child_bytes)
        report.parent_bytes = (before_bytes, _resident_bytes())
        faults = []
        if child_bytes > _SLACK_SHARE * self._pool.limits.memory_bytes:
            faults.append(f"a child took {child_bytes / 1e6:.0f} MB")
        if report.parent_bytes[1] - before_bytes > _PARENT_GROWTH_BYTES:
            faults.append(f"the parent grew from {before_bytes / 1e6:.0f} to {report.parent_bytes[1] / 1e6:.0f} MB")
        if descriptors > 2 * (self._pool.size + 1):  # a child that is being replaced has two
            faults.append(f"{descriptors} descriptors stay open")
        report.offences += [Offence(last, fault, "the run", b"") for fault in faults]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * 4096


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main() -> int:
    """Run, print the counts, keep the offences; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--offences", type=Path, default=Path("fuzz-offences"))
    options = parser.parse_args()
    seeds = seeds_of(options.corpus)
    print(f"seed {options.seed}, {len(seeds)} seed files", flush=True)
    pool = ReaderPool(LIMITS, 1)
    pool.start()
    try:
        report = Fuzzer(pool, seeds, options.seed).run(range(options.first, options.first + options.files))
    finally:
        pool.close(5)
    for offence in report.offences:
        options.offences.mkdir(parents=True, exist_ok=True)
        (options.offences / f"seed-{options.seed}-file-{offence.number}").write_bytes(offence.data)
    print(report)
    return 1 if report.offences else 0


if __name__ == "__main__":
    sys.exit(main())
