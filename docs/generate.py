"""Writes the tables of docs/ from the code: `python docs/generate.py --write`; `--check` says which are stale.

A page is prose written by hand around tables between `<!-- begin NAME -->` and `<!-- end NAME -->`; only
what lies between is written here. The program stands beside the pages because it has to see the
services' settings, which `docfleet` must not import, and because no installed wheel needs it.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from classifier_worker.settings import WorkerSettings
from docfleet import metrics
from docfleet.metric_section import Entry, Open, Values
from docfleet.migrate import MigrateSettings
from docfleet.settings import COMMAND_VARIABLES, Settings, documented_fields
from producer_api.settings import ProducerSettings
from schemas import codec, topics
from schemas.errors import ERRORS, ErrorCode
from schemas.events import EVENT_TYPES
from status_service.settings import StatusSettings

DOCS: Final = Path(__file__).parent
OPENAPI: Final = DOCS.parent / "schemas" / "http" / "openapi.yaml"

#: Who reads which settings.
SERVICES: Final[dict[str, type[Settings]]] = {
    "producer_api": ProducerSettings,
    "classifier_worker": WorkerSettings,
    "status_service": StatusSettings,
    "migrate": MigrateSettings,
}
_COMMAND: Final = {
    "DOCFLEET_URL": "Address of the system that the command talks to; without it, the local stack's.",
    "DOCFLEET_API_KEY": "API key that the command sends; without it, the local stack's.",
}
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head"})
_KINDS: Final = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
_HOUR_MS: Final = 60 * 60 * 1000
_SECTION: Final = re.compile(r"(<!-- begin (?P<name>[a-z_]+) -->\n).*?(<!-- end (?P=name) -->)", re.DOTALL)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heads), *(list(row) for row in rows)]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([text[0], "|" + " --- |" * len(lines[0]), *text[1:]]) + "\n"


def settings_table() -> str:
    """Return one row per environment variable, whoever reads it."""
    meanings: dict[str, tuple[str, str, str]] = {}
    readers: dict[str, list[str]] = {}
    for service, settings in SERVICES.items():
        for variable, kind, default, meaning in documented_fields(settings):
            known = meanings.setdefault(variable, (kind, default, meaning))
            if known[1] != default:
                raise SystemExit(f"{variable} has two defaults: {known[1]} and {default}")
            readers.setdefault(variable, []).append(service)
    rows = [
        (
            f"`{variable}`",
            _KINDS.get(kind.removesuffix(" | None"), kind.removesuffix(" | None")),
            f"`{default}`" if default not in {"", "required"} else default,
            meaning,
            "all" if len(readers[variable]) == len(SERVICES) else ", ".join(readers[variable]),
        )
        for variable, (kind, default, meaning) in sorted(meanings.items())
    ]
    return _table(("Variable", "Type", "Default", "Meaning", "Read by"), rows)


def command_table() -> str:
    """Return the variables of the command."""
    return _table(("Variable", "Meaning"), [(f"`{name}`", _COMMAND[name]) for name in sorted(COMMAND_VARIABLES)])


def metrics_tables() -> str:
    """Return the catalogue by section, in the order of docfleet/metrics.py."""
    heads = ("Metric", "Type", "Labels", "Meaning")
    parts = []
    for section in metrics.CATALOGUE:
        rows = [(f"`{entry.name}`", entry.kind, _labels(entry), entry.meaning) for entry in section.entries]
        parts.append(f"## {section.title}\n\n{_table(heads, rows)}")
    return "\n".join(parts)


def _labels(entry: Entry) -> str:
    return "; ".join(f"`{name}`: {_values(values)}" for name, values in entry.labels.items())


def _values(values: Values) -> str:
    if isinstance(values, Open):
        return values.meaning
    if set(values) - {""} <= set(ErrorCode):
        return "a code of [errors.md](errors.md)" + (", or nothing" if "" in values else "")
    return ", ".join(values)


def errors_table() -> str:
    """Return one row per error code."""
    rows = [
        (f"`{code}`", str(kind.http_status or "—"), "yes" if kind.is_transient else "no", kind.sentence)
        for code, kind in ERRORS.items()
    ]
    return _table(("Code", "HTTP status", "Retry helps", "Sentence"), rows)


def events_tables() -> str:
    """Return each event's fields, from its .avsc file."""
    parts = []
    for event_type in EVENT_TYPES:
        name = codec.full_name(event_type)
        schema = codec.schema_of(name)
        carried_by = ", ".join(f"`{topic.name}`" for topic in topics.TOPICS if event_type in topic.event_types)
        rows = [(f"`{field['name']}`", _avro(field["type"]), field["doc"]) for field in schema["fields"]]
        opening = f"## {event_type.__name__}\n\n{schema['doc']} Carried by {carried_by}; schema `{name}.avsc`.\n\n"
        parts.append(opening + _table(("Field", "Type", "Meaning"), rows))
    return "\n".join(parts)


def topics_table() -> str:
    """Return one row per topic."""
    rows = [
        (
            f"`{topic.name}`",
            topic.purpose,
            ", ".join(event.__name__ for event in topic.event_types),
            ", ".join(topic.written_by),
            ", ".join(topic.read_by),
            str(topic.partitions),
            _duration(topic.retention_ms),
        )
        for topic in topics.TOPICS
    ]
    return _table(("Topic", "Purpose", "Events", "Written by", "Read by", "Partitions", "Kept for"), rows)


def groups_table() -> str:
    """Return the consumer groups."""
    groups = {
        topics.WORKER_GROUP: "classifier_worker",
        topics.STATUS_GROUP: "status_service",
        topics.DLQ_REVIEW_GROUP: "people, by `docfleet dlq drop`",
    }
    return _table(("Group", "Used by"), [(f"`{group}`", user) for group, user in groups.items()])


def topic_headers_table() -> str:
    """Return the headers that only messages of one topic have."""
    rows = [
        (topics.RETRY, topics.NOT_BEFORE_HEADER, "RFC 3339 time before which the message is not worked on"),
        (topics.DLQ, topics.DLQ_ERROR_CODE_HEADER, "why the message is here: a code of [errors.md](errors.md)"),
        (topics.DLQ, topics.DLQ_ERROR_HEADER, "the same as a sentence"),
        (topics.DLQ, topics.DLQ_TOPIC_HEADER, "the topic that the message came from"),
        (topics.DLQ, topics.DLQ_PARTITION_HEADER, "its partition there"),
        (topics.DLQ, topics.DLQ_OFFSET_HEADER, "its offset there"),
    ]
    return _table(("Topic", "Header", "Value"), [(f"`{topic.name}`", f"`{name}`", text) for topic, name, text in rows])


def routes_table() -> str:
    """Return one row per route of openapi.yaml."""
    document = yaml.safe_load(OPENAPI.read_text("utf-8"))
    rows = [
        (f"`{method.upper()} {path}`", operation["summary"], ", ".join(map(str, operation["responses"])))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    return _table(("Route", "What it does", "Answers"), rows)


def _avro(kind: Any) -> str:
    if isinstance(kind, dict) and "logicalType" in kind:
        return f"{kind['type']} ({kind['logicalType']})"
    if isinstance(kind, list):
        return " or ".join(map(_avro, kind))
    return f"array of {kind['items']}" if isinstance(kind, dict) else str(kind)


def _duration(milliseconds: int) -> str:
    hours = milliseconds // _HOUR_MS
    return "ever" if milliseconds < 0 else f"{hours // 24} days" if hours % 24 == 0 else f"{hours} h"


TABLES: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_table,
    "command": command_table,
    "metrics": metrics_tables,
    "errors": errors_table,
    "events": events_tables,
    "topics": topics_table,
    "groups": groups_table,
    "topic_headers": topic_headers_table,
    "routes": routes_table,
}


def renewed(page: str) -> str:
    """Return the page's text with each table that it holds written anew."""
    return _SECTION.sub(lambda found: found[1] + TABLES[found["name"]]() + found[3], page)


def main() -> int:
    """Return the exit code: 0 written or up to date, 1 stale."""
    parser = argparse.ArgumentParser(description="Write the tables in docs/ from the code.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write them")
    mode.add_argument("--check", action="store_true", help="name the pages that --write would change")
    is_check = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text("utf-8")
        new = renewed(text)
        if new != text and is_check:
            stale.append(path.name)
        elif new != text:
            path.write_text(new, "utf-8")
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `python docs/generate.py --write`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
