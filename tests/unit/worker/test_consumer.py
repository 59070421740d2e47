"""consumer: when a message may be worked on."""

import pytest

from classifier_worker.consumer import due_at
from classifier_worker.core.retry import DELAY_SECONDS_MAX
from classifier_worker.handoff import RawMessage
from schemas.topics import NOT_BEFORE_HEADER

SENT_AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def due(not_before: str) -> float:
    return due_at(RawMessage(None, None, [(NOT_BEFORE_HEADER, not_before.encode())]), SENT_AT)


def test_a_message_is_due_at_its_time() -> None:
    assert due("2026-01-01T00:00:30Z") == SENT_AT + 30


def test_a_time_that_no_retry_has_holds_a_message_back_no_longer_than_the_longest_wait() -> None:
    assert due("9999-12-31T00:00:00Z") == SENT_AT + DELAY_SECONDS_MAX


@pytest.mark.parametrize("not_before", ["", "soon", "0001-01-01T00:00:00"])
def test_a_time_that_is_none_means_at_once(not_before: str) -> None:
    assert due(not_before) == 0.0
