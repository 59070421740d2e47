"""handoff: what waits in a worker starts by turns of tenants, and what the breaker ended is not done again."""

import time
import uuid
from collections.abc import Callable

import pytest

from classifier_worker.core.held import Bounds
from classifier_worker.handoff import HandOffOptions, HeadLimits, RawMessage
from classifier_worker.partition_handoff import PartitionHandOff
from schemas import codec, events
from tests.events import requested

Decode = Callable[[bytes | None], events.ClassificationRequested]

PLACE = ("docfleet.jobs", 0)


def decode(value: bytes | None) -> events.ClassificationRequested:
    event = codec.decode(value)
    assert isinstance(event, events.ClassificationRequested)
    return event


def filled(*tenants: str, head: HeadLimits | None = None, decoding: Decode = decode) -> PartitionHandOff:
    handoff = PartitionHandOff(HandOffOptions(bounds=Bounds(200, 1 << 30), decode=decoding, head=head or HeadLimits()))
    handoff.assign([PLACE])
    for offset, tenant in enumerate(tenants):
        job_id = uuid.UUID(int=offset)
        message = RawMessage(None, codec.encode(requested(job_id, tenant_id=tenant)), [])
        handoff.arrive(PLACE, offset, message, 0.0)
    return handoff


def taken(handoff: PartitionHandOff, count: int) -> list[str]:
    deliveries = [handoff.receive(0) for _ in range(count)]
    return [delivery.tenant for delivery in deliveries if delivery is not None]


def test_one_tenants_backlog_in_a_worker_delays_anothers_job_by_one_job() -> None:
    assert taken(filled(*["a"] * 100, "b"), 3) == ["a", "b", "a"]


def test_a_job_that_arrives_later_takes_its_turn_at_once() -> None:
    handoff = filled(*["a"] * 50)
    assert taken(handoff, 10) == ["a"] * 10
    handoff.arrive(PLACE, 50, RawMessage(None, codec.encode(requested(tenant_id="b")), []), 0.0)
    assert "b" in taken(handoff, 2)


def test_a_message_that_is_no_job_takes_a_turn_too() -> None:
    handoff = filled("a", "a", "a")
    handoff.arrive(PLACE, 3, RawMessage(None, b"{}", []), 0.0)
    assert taken(handoff, 2) == ["a", ""]


def test_a_message_whose_schema_cannot_be_asked_for_holds_up_no_other_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_away = True

    def ask(value: bytes | None) -> events.ClassificationRequested:
        if is_away and decode(value).tenant_id == "unknown schema":
            raise ConnectionError("the registry is away")
        return decode(value)

    handoff = filled("unknown schema", "b", decoding=ask)
    assert taken(handoff, 2) == ["b"]
    is_away = False
    assert handoff.is_holding_back
    seconds = time.time()
    monkeypatch.setattr(time, "time", lambda: seconds + 5)
    handoff.admit_due()
    assert taken(handoff, 2) == ["unknown schema"]


def test_a_job_that_the_breaker_ended_is_not_done_again_when_its_thread_hands_it_back() -> None:
    handoff = filled("a")
    delivery = handoff.receive(0)
    assert delivery is not None
    handoff.ack(delivery)  # by the breaker
    handoff.release(delivery)  # by the thread
    handoff.admit_due()
    assert handoff.jobs == 0
    assert not handoff.is_holding_back
    assert handoff.advanced() == {PLACE: (1, frozenset())}


def test_what_waits_of_a_log_that_began_anew_takes_no_room() -> None:
    handoff = PartitionHandOff(HandOffOptions(bounds=Bounds(2, 1 << 30), decode=decode))
    handoff.assign([PLACE])
    message = RawMessage(None, codec.encode(requested()), [])
    for offset in range(100, 104):
        handoff.arrive(PLACE, offset, message, 0.0)
    for offset in range(3):
        handoff.arrive(PLACE, offset, message, 0.0)
        delivery = handoff.receive(0)
        assert delivery is not None
        assert delivery.ticket.offset == offset
        handoff.ack(delivery)
        handoff.admit_due()
    assert handoff.jobs == 0
    assert handoff.to_pause() == frozenset()
    assert handoff.advanced() == {PLACE: (3, frozenset())}


def test_a_job_whose_end_is_being_told_is_not_overdue() -> None:
    handoff = filled("a", head=HeadLimits(seconds=0.0))
    delivery = handoff.receive(0)
    assert delivery is not None
    assert handoff.overdue() == [delivery]
    delivery.ending.claim()
    assert handoff.overdue() == []
