"""Whether an event can be believed: the bounds that the contract sets, for messages that somebody else wrote.

A schema says what type a field has and not how much it may hold, and a writer's schema from a registry need not
even say the logical types. Pure.
"""

import dataclasses
import uuid
from datetime import datetime
from typing import Any, Final

from schemas import events

CATEGORIES_MAX: Final = 500
CATEGORY_CHARACTERS_MAX: Final = 200
#: As of the names of API keys (`api_keys.name`).
TENANT_CHARACTERS_MAX: Final = 200
#: Far above `DOCFLEET_MAX_ATTEMPTS`, and far below what the column holds, to which the sweeper adds one.
ATTEMPTS_MAX: Final = 1_000_000
#: Google Cloud Storage's own limit is 1024 bytes.
_OBJECT_NAME_CHARACTERS_MAX: Final = 1024

_TYPES: Final[dict[Any, tuple[type, ...]]] = {
    uuid.UUID: (uuid.UUID,),
    str: (str,),
    int: (int,),
    bool: (bool,),
    datetime: (datetime,),
    tuple[str, ...]: (tuple,),
    float | None: (float, int, type(None)),
}
_FIELDS: Final = {
    event_type: [(field.name, _TYPES[field.type]) for field in dataclasses.fields(event_type)]
    for event_type in events.EVENT_TYPES
}


def fault_of(event: events.Event) -> str | None:
    """Return what is wrong with what an event says; None when nothing is."""
    for name, types in _FIELDS[type(event)]:
        if not isinstance(getattr(event, name), types):
            return f"{name} is a {type(getattr(event, name)).__name__}"
    if event.accepted_at.tzinfo is None or event.occurred_at.tzinfo is None:
        return "a time without a zone"
    if not 1 <= event.attempt <= ATTEMPTS_MAX:
        return f"attempt {event.attempt} is not from 1 to {ATTEMPTS_MAX}"
    if not 1 <= len(event.tenant_id) <= TENANT_CHARACTERS_MAX:
        return f"tenant_id has {len(event.tenant_id)} characters, not 1 to {TENANT_CHARACTERS_MAX}"
    return _fault_of_request(event) if isinstance(event, events.ClassificationRequested) else None


def _fault_of_request(event: events.ClassificationRequested) -> str | None:
    if not 1 <= len(event.object_name) <= _OBJECT_NAME_CHARACTERS_MAX:
        return f"object_name has {len(event.object_name)} characters, not 1 to {_OBJECT_NAME_CHARACTERS_MAX}"
    if event.size_bytes < 0 or event.reader_deaths < 0:
        return f"size_bytes {event.size_bytes} or reader_deaths {event.reader_deaths} is below 0"
    if not 1 <= len(event.categories) <= CATEGORIES_MAX:
        return f"{len(event.categories)} categories, not 1 to {CATEGORIES_MAX}"
    if not all(isinstance(name, str) and 1 <= len(name) <= CATEGORY_CHARACTERS_MAX for name in event.categories):
        return f"a category is no text of 1 to {CATEGORY_CHARACTERS_MAX} characters"
    if event.none_of_these is not None and not 0 <= event.none_of_these <= 1:
        return f"none_of_these {event.none_of_these} is not from 0 to 1"
    return None
