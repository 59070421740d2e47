"""schemas/http/openapi.yaml holds together and says what the code has: errors, states, formats, routes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import ERRORS, ErrorCode
from schemas.lifecycle import JobState

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "schemas" / "http" / "openapi.yaml").read_text("utf-8"))
METHODS = {"get", "post", "put", "patch", "delete", "head"}
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in METHODS
}


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_document_is_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")


def test_every_reference_leads_somewhere():
    for reference in references(DOCUMENT):
        assert reference.startswith("#/"), reference
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_component_is_used():
    components = DOCUMENT["components"]
    used = set(references(DOCUMENT))
    defined = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in components[kind]}
    assert defined - used == set()


def test_every_status_of_the_error_table_is_an_answer_of_some_route():
    answered = {status for operation in OPERATIONS.values() for status in operation["responses"]}
    outside = {ErrorCode.NOT_FOUND, ErrorCode.METHOD_NOT_ALLOWED}  # of paths and methods that are no route
    statuses = {str(kind.http_status) for code, kind in ERRORS.items() if kind.http_status and code not in outside}
    assert statuses - answered == set()


def test_states_are_those_of_the_lifecycle():
    assert set(DOCUMENT["components"]["schemas"]["Job"]["properties"]["status"]["enum"]) == set(JobState)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_operation_has_a_summary_an_id_and_an_answer(operation):
    assert operation["summary"]
    assert operation["operationId"]
    assert any(status.startswith("2") for status in operation["responses"])


def test_only_probes_and_metrics_are_open():
    opened = {name for name, operation in OPERATIONS.items() if operation.get("security") == []}
    assert opened == {"GET /healthz/live", "GET /healthz/ready", "GET /metrics"}
    assert DOCUMENT["security"]
