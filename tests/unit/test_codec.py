"""Events to bytes and headers, and back; bytes that are no event are refused and nothing else."""

import contextlib
import dataclasses
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import codec
from schemas.events import EVENT_TYPES, Event, event_id
from tests.events import at, cancelled, completed, failed, progressed, requested, started

BUILDERS = (requested, started, progressed, completed, failed, cancelled)
JOB = uuid.UUID("01932f3c-7d1e-7a3b-9c4d-5e6f70819203")


class OneSchema:
    def __init__(self, event: Event) -> None:
        self._name = codec.full_name(type(event))

    def id_of(self, full_name: str) -> int:
        return 70_000

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        return {70_000: codec.schema_of(self._name) | {"name": self._name}}[schema_id]


@pytest.mark.parametrize("build", BUILDERS)
def test_event_comes_back_in_either_framing(build: Any):
    event = build()
    ids = OneSchema(event)
    assert codec.decode(codec.encode(event)) == event
    assert codec.encode(event)[:2] == b"\xc3\x01"
    assert codec.decode(codec.encode(event, ids), ids) == event
    assert codec.encode(event, ids)[:5] == b"\x00" + (70_000).to_bytes(4, "big")


@given(st.text(), st.text(), st.integers(-(2**31), 2**31 - 1))
def test_any_text_and_number_survive(error: str, tenant: str, attempt: int):
    event = failed(error=error, tenant_id=tenant, attempt=attempt)
    assert codec.decode(codec.encode(event)) == event


@given(st.binary(max_size=200), st.sampled_from(BUILDERS), st.integers(0, 60))
@example(b"", requested, 10)
def test_hostile_bytes_are_an_event_or_undecodable_and_nothing_else(tail: bytes, build: Any, kept: int):
    value = codec.encode(build())[:kept] + tail
    with contextlib.suppress(codec.UndecodableMessage):
        assert isinstance(codec.decode(value), Event)


def test_fields_of_the_schemas_are_those_of_the_classes():
    for event_type in EVENT_TYPES:
        named = [field["name"] for field in codec.schema_of(codec.full_name(event_type))["fields"]]
        assert named == [field.name for field in dataclasses.fields(event_type)]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no value"),
        (b"", "no value"),
        (b"{}", "unknown framing"),
        (b"\xc3\x01" + b"\x11" * 8, "unknown schema fingerprint 1111111111111111"),
        (b"\x00\x00\x00\x00\x05abc", "SCHEMA_REGISTRY_URL is not set"),
    ],
)
def test_refusal_says_at_which_bytes_it_fails(value: bytes | None, why: str):
    with pytest.raises(codec.UndecodableMessage, match=why):
        codec.decode(value)


def test_headers_are_cloudevents_in_binary_mode():
    event = started(JOB, seconds=0.25)
    traceparent = codec.new_traceparent(uuid.UUID(int=1), b"12345678")
    headers = dict(codec.headers_of(event, source="classifier_worker", traceparent=traceparent))
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": str(event_id(event)).encode(),
        "ce_type": b"docfleet.v1.ClassificationStarted",
        "ce_source": b"/docfleet/classifier_worker",
        "ce_time": b"2026-03-01T12:00:00.250000Z",
        "ce_subject": str(JOB).encode(),
        "ce_partitionkey": str(JOB).encode(),
        "traceparent": b"00-00000000000000000000000000000001-3132333435363738-01",
        "content-type": b"application/avro",
    }


def test_header_is_the_last_of_its_name_and_broken_text_is_none():
    assert codec.header([("a", b"1"), ("a", b"2"), ("b", b"3")], "a") == "2"
    assert codec.header([("a", b"\xff")], "a") is None
    assert codec.header(None, "a") is None


def test_times_are_said_in_utc():
    assert codec.utc(datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))) == "2026-03-01T12:00:00Z"
    assert datetime.fromisoformat(codec.utc(at(1.5))) == at(1.5).astimezone(UTC)


def test_same_thing_said_again_has_the_same_id():
    assert event_id(started(JOB, 1)) == event_id(started(JOB, 99))
    assert event_id(started(JOB)) != event_id(started(JOB, attempt=2))
    assert event_id(started(JOB)) != event_id(requested(JOB))
    ends = {event_id(build(JOB, attempt=attempt)) for build in (completed, failed, cancelled) for attempt in (1, 2)}
    assert ends == {uuid.UUID("27ddefea-d606-5810-94d5-6681fa3f4b6a")}
    words = {event_id(progressed(JOB, progress=f"Processing page {page} of 4")) for page in (1, 2)}
    assert len(words) == 2
