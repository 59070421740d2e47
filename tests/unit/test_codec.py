"""Events to bytes and headers, and back; bytes that are no event are refused and nothing else."""

import contextlib
import dataclasses
import io
import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import fastavro
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


@given(st.text(), st.text(min_size=1, max_size=200), st.integers(1, 1_000_000))
def test_any_text_and_number_survive(error: str, tenant: str, attempt: int):
    event = failed(error=error, tenant_id=tenant, attempt=attempt)
    assert codec.decode(codec.encode(event)) == event


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (started(attempt=0), "attempt 0 is not"),
        (started(attempt=2**31 - 1), "attempt 2147483647 is not"),
        (started(tenant_id=""), "tenant_id has 0 characters"),
        (failed(tenant_id="t" * 201), "tenant_id has 201 characters"),
        (requested(object_name=""), "object_name has 0 characters"),
        (requested(size_bytes=-1), "size_bytes -1"),
        (requested(reader_deaths=-1), "reader_deaths -1"),
        (requested(categories=()), "0 categories"),
        (requested(categories=tuple(map(str, range(501)))), "501 categories"),
        (requested(categories=("a", "")), "a category is no text of 1 to 200"),
        (requested(categories=("a" * 201,)), "a category is no text of 1 to 200"),
        (requested(none_of_these=float("nan")), "none_of_these nan is not"),
        (requested(none_of_these=1.5), "none_of_these 1.5 is not"),
    ],
)
def test_event_that_says_what_none_may_say_is_refused(event: Event, why: str):
    with pytest.raises(codec.UndecodableMessage, match=why):
        codec.decode(codec.encode(event))


class Registered:
    """A registry in which somebody registered what they liked."""

    def __init__(self, schema: Any) -> None:
        self._schema = codec.record_schema(json.dumps(schema))

    def id_of(self, full_name: str) -> int:
        raise AssertionError("nothing is written here")

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if self._schema is None:
            raise KeyError(schema_id)
        return self._schema


def _record(*fields: tuple[str, Any], name: str = "docfleet.v1.ClassificationStarted") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": name, "type": type_} for name, type_ in fields]}


_TIMES = (("accepted_at", "long"), ("occurred_at", "long"))
_WITHOUT_LOGICAL_TYPES = _record(("job_id", "string"), ("tenant_id", "string"), ("attempt", "int"), *_TIMES)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("string", "no record schema"),
        (["null", "string"], "no record schema"),
        ({"type": "array", "items": "string"}, "no record schema"),
        (_record(("other", "their.own.Reference")), "no record schema"),
        (_record(("a", "string"), name="their.own.Event"), "their.own.Event is no event of this system"),
        (_record(("job_id", "string")), "broken body"),
        (_record(("job_id", "long")), "broken body"),
        (_WITHOUT_LOGICAL_TYPES, "is a str|is a int"),
    ],
)
def test_message_of_somebody_elses_schema_is_undecodable(schema: Any, why: str):
    body = io.BytesIO()
    said = {"job_id": str(JOB), "tenant_id": "t", "attempt": 1, "accepted_at": 1, "occurred_at": 1}
    fastavro.schemaless_writer(body, _WITHOUT_LOGICAL_TYPES, said)
    with pytest.raises(codec.UndecodableMessage, match=why):
        codec.decode(b"\x00\x00\x00\x00\x07" + body.getvalue(), Registered(schema))


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
