"""Events to Kafka messages and back: Avro in either framing, and the CloudEvents headers.

Two framings, told apart by the first bytes, so a reader takes both whatever it writes itself:

- Confluent wire format: 0x00, schema id (4 bytes, big endian), Avro body; ids come from a registry.
- Avro single-object encoding (Avro 1.12 specification): 0xC3 0x01, CRC-64-AVRO fingerprint of the
  writer's schema (8 bytes, little endian), Avro body; needs no registry.

Headers follow the CloudEvents 1.0 Kafka binding in binary mode and W3C Trace Context. No socket
here: `docfleet.registry` fetches schema ids and hands them in. Without a registry a reader knows the schemas of its own
release and of those before (the golden examples); so that services can be replaced in any order, an event is then
written with the oldest of them that says all of it.
"""

import dataclasses
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final, Protocol

import fastavro
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from schemas import validity
from schemas.events import EVENT_TYPES, Event, event_id

Headers = list[tuple[str, bytes]]

NAMESPACE: Final = "docfleet.v1"
CONTENT_TYPE: Final = b"application/avro"
_SINGLE_OBJECT_MARK: Final = b"\xc3\x01"
_CONFLUENT_MARK: Final = b"\x00"
_HEADER_BYTES: Final = {_SINGLE_OBJECT_MARK: 10, _CONFLUENT_MARK: 5}


class UndecodableMessage(ValueError):
    """A Kafka message that is no event of ours; the text says at which byte or name it fails."""


class SchemaIds(Protocol):
    """Where Confluent schema ids come from."""

    def id_of(self, full_name: str) -> int:
        """Return the registry's id of our current schema of `full_name`."""

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        """Return the record schema registered under `schema_id`, its name in full; KeyError when there is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Version:
    fields: frozenset[str]
    parsed: Any
    fingerprint: bytes
    is_part_of_today: bool  #: what is read with it needs only defaults to be today's record, which takes half the time


@dataclasses.dataclass(frozen=True, slots=True)
class _Contract:
    event_type: type[Event]
    schema: dict[str, Any]
    parsed: Any
    defaults: dict[str, Any]
    versions: tuple[_Version, ...]  #: every schema that it was ever written with, the oldest first

    def oldest_for(self, record: Mapping[str, Any]) -> _Version:
        """Return the oldest version that loses nothing of the record."""
        told = {name for name, value in record.items() if name not in self.defaults or value != self.defaults[name]}
        return next(version for version in self.versions if told <= version.fields)


def _load(event_type: type[Event]) -> _Contract:
    text = (resources.files("schemas") / "avro" / f"{NAMESPACE}.{event_type.__name__}.avsc").read_text("utf-8")
    schema = json.loads(text)
    examples = (resources.files("schemas") / "examples" / event_type.__name__).iterdir()
    folders = sorted(examples, key=lambda folder: int(folder.name))
    released = [json.loads((folder / "schema.avsc").read_text("utf-8")) for folder in folders]
    defaults = {field["name"]: field["default"] for field in schema["fields"] if "default" in field}
    versions = tuple(_version(version, schema, defaults) for version in [*released, schema])
    return _Contract(event_type, schema, parse_schema(schema), defaults, versions)


def _version(schema: Mapping[str, Any], today: Mapping[str, Any], defaults: Mapping[str, Any]) -> _Version:
    types, types_today = ({field["name"]: field["type"] for field in one["fields"]} for one in (schema, today))
    is_part = types.items() <= types_today.items() and types_today.keys() - types.keys() <= defaults.keys()
    return _Version(frozenset(types), parse_schema(dict(schema)), _fingerprint(schema), is_part)


def _fingerprint(schema: Mapping[str, Any]) -> bytes:
    canonical = to_parsing_canonical_form(parse_schema(dict(schema)))
    return bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


_BY_TYPE: Final = {event_type: _load(event_type) for event_type in EVENT_TYPES}
_BY_NAME: Final = {f"{NAMESPACE}.{event_type.__name__}": contract for event_type, contract in _BY_TYPE.items()}
_BY_FINGERPRINT: Final = {
    version.fingerprint: (contract, version) for contract in _BY_TYPE.values() for version in contract.versions
}


def full_name(event_type: type[Event]) -> str:
    """Return the event's full name, e.g. `docfleet.v1.ClassificationStarted`: Avro name and `ce_type`."""
    return f"{NAMESPACE}.{event_type.__name__}"


def schema_of(name: str) -> dict[str, Any]:
    """Return the current Avro schema of the event called `name` in full."""
    return _BY_NAME[name].schema


def record_schema(text: str) -> dict[str, Any] | None:
    """Return the Avro record schema in a text, its name in full; None for anything else, such as Protobuf."""
    try:
        schema: Any = parse_schema(json.loads(text))
    except Exception:  # noqa: BLE001  # other people's schemas fail in any way
        return None
    return schema if isinstance(schema, dict) and schema.get("type") == "record" else None


def encode(event: Event, schema_ids: SchemaIds | None = None) -> bytes:
    """Return the message value: Confluent framing when `schema_ids` are given, else single-object encoding."""
    contract = _BY_TYPE[type(event)]
    record = _to_record(event)
    body = io.BytesIO()
    if schema_ids is None:
        version = contract.oldest_for(record)
        body.write(_SINGLE_OBJECT_MARK + version.fingerprint)
        writer = version.parsed
    else:
        body.write(_CONFLUENT_MARK + schema_ids.id_of(full_name(type(event))).to_bytes(4, "big"))
        writer = contract.parsed
    fastavro.schemaless_writer(body, writer, record)
    return body.getvalue()


def decode(value: bytes | None, schema_ids: SchemaIds | None = None) -> Event:
    """Return the event in a message value of either framing. What `schema_ids` raises else is let through.

    Raises:
        UndecodableMessage: the bytes are no event of this system, say what no event may say, or need a registry that
            is not set.

    """
    if not value:
        raise UndecodableMessage("the message has no value")
    mark = next((m for m in _HEADER_BYTES if value.startswith(m)), None)
    if mark is None:
        raise UndecodableMessage(f"unknown framing: first bytes {value[:2].hex()}, expected c301 or 00")
    header = value[: _HEADER_BYTES[mark]]
    if mark == _SINGLE_OBJECT_MARK:
        if header[2:] not in _BY_FINGERPRINT:
            raise UndecodableMessage(f"unknown schema fingerprint {header[2:].hex()}")
        contract, version = _BY_FINGERPRINT[header[2:]]
        writer, reader = version.parsed, None if version.is_part_of_today else contract.parsed
    else:
        schema = _registered(int.from_bytes(header[1:], "big"), schema_ids)
        if schema.get("name") not in _BY_NAME:
            raise UndecodableMessage(f"schema {schema.get('name')} is no event of this system")
        contract = _BY_NAME[schema["name"]]
        writer, reader = schema, contract.parsed
    try:
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[len(header) :]), writer, reader)
        event = _from_record(contract.event_type, record if reader is not None else contract.defaults | record)
    except Exception as error:  # what others wrote, by schemas that others wrote, fails in any way
        why = f"{type(error).__name__}: {error}"
        raise UndecodableMessage(f"{contract.schema['name']} with a broken body: {why}") from error
    if (fault := validity.fault_of(event)) is not None:
        raise UndecodableMessage(f"{contract.schema['name']}: {fault}")
    return event


def headers_of(event: Event, *, source: str, traceparent: str | None) -> Headers:
    """Return the CloudEvents 1.0 binary-mode headers; `source` is the service, e.g. `producer_api`."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(event_id(event)),
        "ce_type": full_name(type(event)),
        "ce_source": f"/docfleet/{source}",
        "ce_time": event.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce_subject": str(event.job_id),
        "ce_partitionkey": str(event.job_id),
    }
    if traceparent:
        headers["traceparent"] = traceparent
    return [(name, text.encode()) for name, text in headers.items()] + [("content-type", CONTENT_TYPE)]


def header(headers: Sequence[tuple[str, bytes | None]] | None, name: str) -> str | None:
    """Return the text of the last header called `name`, None when there is none or it is no UTF-8."""
    for key, value in reversed(headers or ()):
        if key == name and value is not None:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def _registered(schema_id: int, schema_ids: SchemaIds | None) -> dict[str, Any]:
    if schema_ids is None:
        raise UndecodableMessage(f"Confluent framing with schema id {schema_id}, but SCHEMA_REGISTRY_URL is not set")
    try:
        return schema_ids.schema_of(schema_id)
    except KeyError as error:
        raise UndecodableMessage(f"the registry has no record schema with id {schema_id}") from error


def _to_record(event: Event) -> dict[str, Any]:
    record = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}


def _from_record(event_type: type[Event], record: Any) -> Event:
    # the reader's schema has the fields of the class and no others; a test holds them together
    values: dict[str, Any] = {name: tuple(value) if type(value) is list else value for name, value in record.items()}
    return event_type(**values)


def utc(at: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with a `Z`, as in every JSON and header of this system."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def new_traceparent(trace_id: uuid.UUID, span_id: bytes) -> str:
    """Return a W3C `traceparent` (version 00, sampled) from a random 16-byte trace id and 8-byte span id."""
    return f"00-{trace_id.hex}-{span_id.hex()}-01"
