"""The golden examples: `schemas/examples/<Event>/<version>/` holds bytes in both framings, the event, its schema."""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

from schemas.events import Event

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "examples"

#: The id that a registry gave the schema in `confluent.bin`.
SCHEMA_ID = 1


@dataclass(frozen=True)
class Example:
    version: int
    single_object: bytes
    confluent: bytes
    event: Event
    schema_text: str

    @property
    def schema(self) -> dict[str, Any]:
        """The schema that wrote it, with its name in full as a registry's client gives it."""
        schema: dict[str, Any] = json.loads(self.schema_text)
        return schema | {"name": f"{schema['namespace']}.{schema['name']}"}


def examples(event_type: type[Event]) -> list[Example]:
    """Return an event type's examples, the oldest version first."""
    folders = sorted((FOLDER / event_type.__name__).iterdir(), key=lambda folder: int(folder.name))
    return [_example(folder, event_type) for folder in folders]


def _example(folder: Path, event_type: type[Event]) -> Example:
    said = json.loads((folder / "event.json").read_text("utf-8"))
    kinds = get_type_hints(event_type)
    event = event_type(**{name: _value(kinds[name], value) for name, value in said.items()})
    return Example(
        int(folder.name),
        (folder / "single-object.bin").read_bytes(),
        (folder / "confluent.bin").read_bytes(),
        event,
        (folder / "schema.avsc").read_text("utf-8"),
    )


def _value(kind: Any, value: Any) -> Any:
    if kind is uuid.UUID:
        return uuid.UUID(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    return tuple(value) if isinstance(value, list) else value
