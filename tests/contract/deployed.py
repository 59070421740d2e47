"""What the objects of one build lead to: pods and their environment, Services, Secrets.

What operators make of their own resources is told here too.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from classifier_worker.settings import WorkerSettings
from docfleet.migrate import MigrateSettings
from docfleet.settings import Settings
from producer_api.settings import ProducerSettings
from status_service.settings import StatusSettings
from tests.contract.manifests import ROOT, Build, Object

SETTINGS: dict[str, type[Settings]] = {
    "producer-api": ProducerSettings,
    "classifier-worker": WorkerSettings,
    "status-service": StatusSettings,
    "migrate": MigrateSettings,
}
#: Variables that are no settings of ours, and who reads them.
FOREIGN = {"LD_LIBRARY_PATH": "the dynamic linker, to find the GPU's driver"}
#: Secrets that the guide creates, and their keys.
GUIDE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
SECRETS = {
    name: set(re.findall(r"--from-literal=([A-Z_]+)=", command)) or {"tls.crt", "tls.key"}
    for name, command in re.findall(r"create secret (?:generic|tls) (\S+)((?:.*\\\n)*.*)", GUIDE)
}


@dataclass(frozen=True)
class Pod:
    """A pod that a build leads to; `ports` by name. `spec` is empty for an operator's pod."""

    name: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    spec: Mapping[str, Any]


def of_kind(build: Build, *kinds: str) -> dict[str, Object]:
    return {found["metadata"]["name"]: found for found in build if found["kind"] in kinds}


def workloads(build: Build) -> dict[str, Object]:
    return of_kind(build, "Deployment", "Job")


def pods(build: Build) -> list[Pod]:
    """Return a pod of each workload, and those that Strimzi and CloudNativePG start."""
    found = []
    for name, workload in workloads(build).items():
        template = workload["spec"]["template"]
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        found.append(Pod(name, template["metadata"]["labels"], ports, template["spec"]))
    for name in of_kind(build, "Kafka"):
        found.append(Pod("kafka", {"strimzi.io/cluster": name, "strimzi.io/name": f"{name}-kafka"}, {}, {}))
    for name in of_kind(build, "Cluster"):
        found.append(Pod("postgres", {"cnpg.io/cluster": name}, {}, {}))
    return found


def service_names(build: Build) -> set[tuple[str, int]]:
    """Return the Services' names with their ports, those that operators make among them."""
    ours = {
        (name, port["port"]) for name, found in of_kind(build, "Service").items() for port in found["spec"]["ports"]
    }
    kafka = {
        (f"{name}-kafka-bootstrap", listener["port"])
        for name, found in of_kind(build, "Kafka").items()
        for listener in found["spec"]["kafka"]["listeners"]
    }
    return ours | kafka


def secret_keys(build: Build) -> dict[str, set[str]]:
    made = {f"{name}-app": {"uri"} for name in of_kind(build, "Cluster")}
    return SECRETS | made


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects; an empty one selects everything."""
    selector = selector or {}
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def containers(build: Build) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the name of each workload with its pod's spec and container."""
    for name, workload in workloads(build).items():
        spec = workload["spec"]["template"]["spec"]
        for container in spec["containers"]:
            yield name, spec, container


def service_of(container: Mapping[str, Any]) -> str | None:
    """Return which of our services a container runs."""
    return container["name"] if container["name"] in SETTINGS else None


def environment(build: Build, container: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's variables; those from Secrets with a text that stands for the secret."""
    variables: dict[str, str] = {}
    configs, secrets = of_kind(build, "ConfigMap"), secret_keys(build)
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            variables |= configs[source["configMapRef"]["name"]]["data"]
        else:
            variables |= dict.fromkeys(secrets[source["secretRef"]["name"]], "secret")
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "postgresql://secret")
    return variables


def settings_of(build: Build, container: Mapping[str, Any]) -> Settings:
    """Return the settings that a container of ours starts with.

    Raises:
        InvalidSettings: it would not start.

    """
    variables = {key: text for key, text in environment(build, container).items() if key not in FOREIGN}
    return _checked(container["name"], tuple(sorted(variables.items())))


@cache
def _checked(service: str, variables: tuple[tuple[str, str], ...]) -> Settings:
    return SETTINGS[service].from_mapping(dict(variables))


def shared_settings(build: Build) -> dict[str, str]:
    """Return what the ConfigMap that all services read says."""
    (found,) = (
        config for config in of_kind(build, "ConfigMap").values() if "DOCFLEET_JOBS_PARTITIONS" in config["data"]
    )
    return found["data"]
