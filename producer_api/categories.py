"""The `categories` field: JSON text to names. Pure."""

import json
import unicodedata
from typing import Any

from schemas.errors import DocfleetError, ErrorCode
from schemas.validity import CATEGORIES_MAX, CATEGORY_CHARACTERS_MAX


def parse_categories(text: str | None) -> tuple[str, ...]:
    """Return 1 to 500 trimmed names in the client's order.

    Raises:
        DocfleetError: INVALID_CATEGORIES, naming the fault and its position (counted from 1).

    """
    if text is None:
        raise _invalid("categories must be provided: a JSON array of 1 to 500 names or objects with a name")
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        raise _invalid(f"categories is no valid JSON{where}") from error
    if not isinstance(entries, list):
        raise _invalid("categories must be a JSON array")
    if not 1 <= len(entries) <= CATEGORIES_MAX:
        raise _invalid(f"categories must have 1 to {CATEGORIES_MAX} names, not {len(entries)}")
    names: list[str] = []
    seen: dict[str, int] = {}
    for position, entry in enumerate(entries, start=1):
        name = _name(entry, position)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if folded in seen:
            raise _invalid(f"category {position} has the same name as category {seen[folded]}")
        seen[folded] = position
        names.append(name)
    return tuple(names)


def _name(entry: Any, position: int) -> str:
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(name, str):
        raise _invalid(f'category {position} must be a text or an object with a text "name"')
    name = name.strip()
    if not name:
        raise _invalid(f"category {position} is blank")
    if len(name) > CATEGORY_CHARACTERS_MAX:
        raise _invalid(f"category {position} has {len(name)} characters, more than {CATEGORY_CHARACTERS_MAX}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise _invalid(f"category {position} has control characters or lone surrogates")
    return name


def _invalid(fault: str) -> DocfleetError:
    return DocfleetError(ErrorCode.INVALID_CATEGORIES, fault + ".")
