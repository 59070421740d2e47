"""Damaged documents end in a result or a clear error and harm nobody; `python -m benchmarks.fuzz` reads more."""

from benchmarks import fuzz
from benchmarks.mutations import MUTATIONS, mutated
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from schemas.errors import DocfleetError, ErrorCode
from tests import documents

FILES = 200
LIMITS = ReaderLimits(document_seconds=5, memory_bytes=700 << 20)


def test_every_damaged_file_ends_in_a_result_or_a_clear_error() -> None:
    pool = ReaderPool(LIMITS, 1)
    pool.start()
    try:
        report = fuzz.Fuzzer(pool, fuzz.seeds_of(None), seed=4, ocr_every=0).run(range(FILES))
    finally:
        pool.close(5)
    assert report.files == FILES
    assert not report.offences, str(report)
    assert len(report.outcomes) > 4, "the damage is too much alike"
    assert report.outcomes["read"] > FILES // 10, "the damage is too great to come past the front door"


def test_a_file_is_made_again_from_its_seed_and_number() -> None:
    seeds = [documents.pdf(), documents.tiff(pages=1)]
    files = [mutated(7, number, seeds)[0] for number in range(50)]
    assert files == [mutated(7, number, seeds)[0] for number in range(50)]
    assert len(set(files)) > 40
    assert files != [mutated(8, number, seeds)[0] for number in range(50)]


def test_every_mutation_is_used() -> None:
    used = {name for number in range(200) for name in mutated(1, number, [documents.pdf()])[2].split(" + ")}
    assert used == {mutation.__name__ for mutation in MUTATIONS}


def test_what_is_no_clear_error_is_an_offence() -> None:
    assert fuzz.fault_of(ValueError("x"))
    assert fuzz.fault_of(DocfleetError(ErrorCode.UNREADABLE_DOCUMENT, "no sentence"))
    assert fuzz.fault_of(DocfleetError(ErrorCode.READER_CRASHED, "It made its reader process crash (exit code 1)."))
    assert not fuzz.fault_of(DocfleetError(ErrorCode.UNREADABLE_DOCUMENT))
