"""Each object of every overlay and combination is what Kubernetes and the operators take.

Kubernetes' own kinds are held to its published schemas, unknown fields refused. No package carries current schemas of
the operators' kinds, so these are held to custom_resources.yaml beside this file: our own and strict, but only as
true as what was looked up when a field was added. What a field means is for an API server to say: docs/kubernetes.md.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from tests.contract.deployed import of_kind
from tests.contract.manifests import Object, distinct

KUBERNETES = "1.37"
SCHEMAS = f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict"
#: Groups of Kubernetes itself have no dot, or end so.
OWN_GROUPS = ("apps", "batch", "policy", "v1", "k8s.io")
RESOURCES = yaml.safe_load(Path(__file__).with_name("custom_resources.yaml").read_text("utf-8"))
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"},
        "namespace": {"type": "string"},
        "labels": {"$ref": "#/definitions/texts"},
        "annotations": {"$ref": "#/definitions/texts"},
    },
}


def fault_of(found: Object) -> str | None:
    """Return what is wrong with an object by its schema; None when nothing is."""
    held_to = validator_of_kubernetes if is_of_kubernetes(found) else validator_of_ours
    error = jsonschema.exceptions.best_match(held_to(found["apiVersion"], found["kind"]).iter_errors(found))
    return error and f"{found['kind']} {found['metadata']['name']}: {error.json_path}: {error.message}"


def is_of_kubernetes(found: Object) -> bool:
    group = found["apiVersion"].split("/")[0]
    return group in OWN_GROUPS or (group.endswith(".k8s.io") and not group.startswith("gateway."))


@cache
def validator_of_kubernetes(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    # the package's own `validate` reads all schemas anew for each object
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.split(".")[0], version) if part)
    return jsonschema.Draft202012Validator(
        schema_contents(f"{SCHEMAS}/{name}.json", KUBERNETES), registry=definitions()
    )


@cache
def definitions() -> Registry:
    return Resource.from_contents(schema_contents(f"{SCHEMAS}/_definitions.json", KUBERNETES)) @ Registry()


@cache
def validator_of_ours(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    schema = {
        "definitions": RESOURCES["definitions"],
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": api_version},
            "kind": {"const": kind},
            "metadata": METADATA,
            "spec": {"type": "object", "additionalProperties": False, **RESOURCES[f"{api_version}/{kind}"]},
        },
    }
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_object_keeps_its_schema(builds):
    assert [fault for found in distinct(builds) if (fault := fault_of(found))] == []


def test_every_schema_of_ours_is_used(builds):
    used = {f"{found['apiVersion']}/{found['kind']}" for found in distinct(builds)}
    assert RESOURCES.keys() - used == {"definitions"}


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Deployment", "producer-api", ("spec", "template", "spec", "terminationGracePeriod"), 40),
        ("Deployment", "producer-api", ("spec", "replicas"), "2"),
        ("NetworkPolicy", "gateway", ("spec", "ingress", 0, "form"), []),
        ("ScaledObject", "classifier-worker", ("spec", "cooldownPeriod"), "600"),
        ("ScaledObject", "classifier-worker", ("spec", "triggers", 0, "metadata", "excludePersistentLags"), "false"),
        ("ScaledObject", "classifier-worker", ("spec", "triggers", 3, "metadata", "threshold"), 60),
        ("ScaledObject", "classifier-worker", ("spec", "fallback", "behavior"), "currentReplica"),
        ("HTTPRoute", "docfleet", ("spec", "rules", 0, "timeouts", "request"), "90"),
        ("Gateway", "docfleet", ("metadata", "label"), {}),
    ],
)
def test_a_wrong_field_is_found(kind: str, name: str, path: tuple[Any, ...], value: Any, builds):
    found = copy.deepcopy(of_kind(builds["gke"], kind)[name])
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert fault_of(found) is not None
