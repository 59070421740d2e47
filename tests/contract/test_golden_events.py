"""Every byte string of a released version is read today, and today's bytes are what they were."""

import io
from typing import Any

import fastavro
import pytest

from schemas import codec
from schemas.events import EVENT_TYPES, Event
from tests.contract.golden import FOLDER, SCHEMA_ID, Example, examples

EXAMPLES = [(event_type, example) for event_type in EVENT_TYPES for example in examples(event_type)]
each_example = pytest.mark.parametrize(
    ("event_type", "example"), EXAMPLES, ids=[f"{one.__name__}-{example.version}" for one, example in EXAMPLES]
)


class Ids:
    """The registry as it was when the examples were made."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    def id_of(self, full_name: str) -> int:
        return SCHEMA_ID

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        return {SCHEMA_ID: self._schema}[schema_id]


def test_every_event_type_has_an_example_and_nothing_else_has():
    assert {folder.name for folder in FOLDER.iterdir()} == {event_type.__name__ for event_type in EVENT_TYPES}
    assert {event_type for event_type, _ in EXAMPLES} == set(EVENT_TYPES)


@each_example
def test_released_bytes_are_read_as_the_event_they_were(event_type: type[Event], example: Example):
    ids = Ids(example.schema)
    assert codec.decode(example.single_object) == example.event
    assert codec.decode(example.single_object, ids) == example.event
    assert codec.decode(example.confluent, ids) == example.event


@each_example
def test_event_of_today_is_read_by_whoever_has_the_released_schema(event_type: type[Event], example: Example):
    body = io.BytesIO(codec.encode(example.event, Ids(example.schema))[5:])
    writer = fastavro.parse_schema(dict(codec.schema_of(codec.full_name(event_type))))
    record: Any = fastavro.schemaless_reader(body, writer, fastavro.parse_schema(dict(example.schema)))
    for name in (field["name"] for field in example.schema["fields"]):
        value = getattr(example.event, name)
        assert record[name] == (list(value) if isinstance(value, tuple) else value)


@each_example
def test_event_that_says_nothing_new_is_read_by_a_release_that_has_no_registry(
    event_type: type[Event], example: Example
):
    assert codec.encode(example.event) == example.single_object


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_newest_version_is_what_is_written_today(event_type: type[Event]):
    newest = examples(event_type)[-1]
    assert codec.encode(newest.event) == newest.single_object
    assert codec.encode(newest.event, Ids(newest.schema)) == newest.confluent
    assert newest.schema == codec.schema_of(codec.full_name(event_type)) | {"name": codec.full_name(event_type)}
