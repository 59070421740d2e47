"""core/retry: what follows a failed attempt, and when intake stands still."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier_worker.core.retry import Fuse, FuseLimits, GiveUp, Retry, RetryPolicy, after_failure, backoff_seconds
from schemas.errors import ERRORS, ErrorCode
from tests.events import requested

POLICY = RetryPolicy(max_attempts=3, base_seconds=1.0, max_seconds=60.0)


@given(attempt=st.integers(1, 10_000), randomness=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_the_largest_nor_than_the_doubled_base(attempt: int, randomness: float) -> None:
    seconds = backoff_seconds(attempt, POLICY, randomness=randomness)
    assert 0 <= seconds <= min(60.0, 2.0 ** min(attempt - 1, 30))


PERMANENT = {code for code, kind in ERRORS.items() if not kind.is_transient}
SECOND_TRY = {ErrorCode.READER_CRASHED}


@pytest.mark.parametrize("code", sorted(PERMANENT - SECOND_TRY))
def test_a_permanent_error_ends_the_job_at_once_with_its_own_code(code: ErrorCode) -> None:
    assert after_failure(requested(), code, "why", policy=POLICY, randomness=0.5) == GiveUp(code, "why", False)


def test_a_passing_error_is_tried_again_with_the_next_number_until_the_attempts_are_used_up() -> None:
    code = ErrorCode.STORAGE_UNAVAILABLE
    again = after_failure(requested(attempt=2), code, "away", policy=POLICY, randomness=0.5)
    assert isinstance(again, Retry)
    assert again.request.attempt == 3
    assert again.delay_seconds == pytest.approx(1.0)
    end = after_failure(again.request, code, "away", policy=POLICY, randomness=0.5)
    assert isinstance(end, GiveUp)
    assert (end.error_code, end.is_dead_letter) == (ErrorCode.ATTEMPTS_EXHAUSTED, True)
    assert "3 times" in end.sentence
    assert "away" in end.sentence


def test_a_document_may_kill_one_reader_and_not_two() -> None:
    code = ErrorCode.READER_CRASHED
    again = after_failure(requested(), code, "crashed", policy=POLICY, randomness=0.9)
    assert isinstance(again, Retry)
    assert (again.request.reader_deaths, again.delay_seconds) == (1, 0.0)
    assert after_failure(again.request, code, "crashed", policy=POLICY, randomness=0.9) == GiveUp(
        code, "crashed", False
    )


LIMITS = FuseLimits(window=10, rejected=4, first_seconds=60.0, max_seconds=200.0)


def blow(fuse: Fuse, now: float) -> list[bool]:
    return [fuse.record(now, is_rejected=True) for _ in range(LIMITS.rejected)]


def test_the_fuse_blows_at_the_limit_and_mends_after_its_time() -> None:
    fuse = Fuse(LIMITS)
    assert blow(fuse, 100.0) == [False, False, False, True]
    assert fuse.is_blown(159.9)
    assert not fuse.is_blown(160.0)


def test_good_messages_push_bad_ones_out_of_the_window() -> None:
    fuse = Fuse(LIMITS)
    for _ in range(50):
        for is_rejected in [True] * 3 + [False] * 7:
            assert not fuse.record(0.0, is_rejected=is_rejected)


def test_a_fuse_that_blows_again_holds_twice_as_long_up_to_a_limit_and_forgets_after_a_clean_window() -> None:
    fuse = Fuse(LIMITS)
    held = []
    for now in (0.0, 1000.0, 2000.0):
        blow(fuse, now)
        held.append(next(s for s in range(1000) if not fuse.is_blown(now + s)))
    assert held == [60, 120, 200]
    for _ in range(LIMITS.window):
        fuse.record(3000.0, is_rejected=False)
    for _ in range(LIMITS.rejected):
        fuse.record(4000.0, is_rejected=True)
    assert fuse.is_blown(4059.0)
    assert not fuse.is_blown(4060.0)
