"""What is deployed fits together and fits the code: names, variables, ports, times, extras."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from classifier_worker.settings import WorkerSettings
from docfleet.migrate import MigrateSettings
from docfleet.settings import Settings
from producer_api.settings import ProducerSettings
from status_service.settings import StatusSettings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy" / "k8s" / "base"
SETTINGS: dict[str, type[Settings]] = {
    "producer-api": ProducerSettings,
    "classifier-worker": WorkerSettings,
    "status-service": StatusSettings,
    "migrate": MigrateSettings,
}
KUSTOMIZATION = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))
OBJECTS: list[dict[str, Any]] = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((BASE / name).read_text("utf-8"))
    if document
]
CONFIG = {
    generator["name"]: dict(literal.split("=", 1) for literal in generator["literals"])
    for generator in KUSTOMIZATION["configMapGenerator"]
}
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] == kind}


WORKLOADS = of_kind("Deployment") | of_kind("Job")
each_workload = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    return workload["spec"]["template"]["spec"]


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(workload)["containers"]
    return container


def environment_of(workload: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a container; those from Secrets with a text that stands for the secret."""
    container, variables = container_of(workload), {}
    for source in container.get("envFrom", []):
        variables |= CONFIG[source["configMapRef"]["name"]]
    for variable in container.get("env", []):
        variables[variable["name"]] = variable.get("value", "postgresql://secret")
    return variables


def test_every_file_of_the_base_is_listed():
    assert {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"} == set(KUSTOMIZATION["resources"])


@pytest.mark.skipif(not (shutil.which("kubectl") or shutil.which("kustomize")), reason="needs kubectl or kustomize")
def test_kustomize_builds_the_base():
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    done = subprocess.run([*command, str(BASE)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    built = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert len(built) == len(OBJECTS) + len(CONFIG)
    assert {found["metadata"]["namespace"] for found in built if found["kind"] != "Namespace"} == {"docfleet"}


@each_workload
def test_variables_are_settings_that_the_service_accepts(workload):
    name = workload["metadata"]["name"]
    environment = environment_of(workload)
    SETTINGS[name].from_mapping(environment)
    shared = set().union(*CONFIG.values())
    assert set(environment) - shared <= set(SETTINGS[name].variables().values())


@each_workload
def test_names_that_a_pod_refers_to_exist(workload):
    pod, container = pod_of(workload), container_of(workload)
    assert pod["serviceAccountName"] in of_kind("ServiceAccount")
    for source in container.get("envFrom", []):
        assert source["configMapRef"]["name"] in CONFIG
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes


@each_workload
def test_keys_of_the_secret_are_those_that_the_guide_creates(workload):
    guide = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    (created,) = re.findall(r"create secret generic (\S+) ", guide)
    keys = set(re.findall(r"--from-literal=([A-Z_]+)=", guide))
    for variable in container_of(workload).get("env", []):
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["name"] == created
        assert reference["key"] in keys
        assert reference.get("optional", False) == (reference["key"] != "DATABASE_URL")


@each_workload
def test_pods_keep_the_restricted_standard_and_a_read_only_root(workload):
    pod, container = pod_of(workload), container_of(workload)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("workload", of_kind("Deployment").values(), ids=of_kind("Deployment"))
def test_a_pod_may_stop_for_longer_than_its_process_takes(workload):
    settings = SETTINGS[workload["metadata"]["name"]].from_mapping(environment_of(workload))
    assert pod_of(workload)["terminationGracePeriodSeconds"] > settings.stop_deadline_seconds


@pytest.mark.parametrize("workload", of_kind("Deployment").values(), ids=of_kind("Deployment"))
def test_ports_selectors_and_probes_meet(workload):
    name, container = workload["metadata"]["name"], container_of(workload)
    labels = workload["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["http"] == SETTINGS[name].from_mapping(environment_of(workload)).http_port
    for probe, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
        asked = container[f"{probe}Probe"]["httpGet"]
        assert (asked["path"], asked["port"]) == (f"/healthz/{path}", "http")
    service, budget = of_kind("Service")[name], of_kind("PodDisruptionBudget")[name]
    for selector in (workload["spec"]["selector"], budget["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)


def test_routes_lead_to_ports_of_services():
    services = {
        (name, port["port"]) for name, service in of_kind("Service").items() for port in service["spec"]["ports"]
    }
    for rule in of_kind("HTTPRoute")["docfleet"]["spec"]["rules"]:
        for backend in rule["backendRefs"]:
            assert (backend["name"], backend["port"]) in services


def test_network_policies_select_pods_that_exist():
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in WORKLOADS.values()]
    names = {label["app.kubernetes.io/name"] for label in labels}
    for policy in of_kind("NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]
        for expression in selector.get("matchExpressions", []):
            assert expression["key"] == "app.kubernetes.io/name"
            assert set(expression["values"]) <= names
        assert set(selector.get("matchLabels", {}).values()) <= names


def test_workers_reach_no_database_and_nobody_may_call_them_but_prometheus():
    reaching = {
        name: policy["spec"]["podSelector"]["matchExpressions"][0]["values"]
        for name, policy in of_kind("NetworkPolicy").items()
        if "matchExpressions" in policy["spec"]["podSelector"]
    }
    assert {name for name, pods in reaching.items() if "classifier-worker" in pods} == {
        "kafka",
        "object-store",
        "metrics",
    }
    variables = {variable["name"] for variable in container_of(WORKLOADS["classifier-worker"])["env"]}
    assert "DATABASE_URL" not in variables


COMPOSED = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_variables_are_settings_that_the_service_accepts(name):
    service, settings = COMPOSED[name], SETTINGS[name.replace("_", "-")]
    accepted = settings.from_mapping(service["environment"])
    standard = {variable for variable in service["environment"] if variable.startswith("OTEL_")}
    assert set(service["environment"]) - standard <= set(settings.variables().values())
    documented = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert all(f"| `{variable}` |" in documented for variable in standard)
    assert bool(standard) == (name != "migrate")
    if name != "migrate":
        assert float(service["stop_grace_period"].removesuffix("s")) > accepted.stop_deadline_seconds


@pytest.mark.parametrize("name", COMPOSED)
def test_compose_builds_the_image_that_the_service_needs(name):
    arguments = COMPOSED[name]["build"]["args"]
    assert arguments["EXTRA"] in EXTRAS
    assert (ROOT / arguments["SERVICE"] / "__main__.py").exists()
    extra_of = {"producer_api": "api", "classifier_worker": "worker", "status_service": "status"}
    assert arguments["EXTRA"] == extra_of[arguments["SERVICE"]]


def test_compose_mounts_files_and_folders_that_exist():
    mounts = [mount for service in COMPOSE["services"].values() for mount in service.get("volumes", [])]
    for source in (mount.split(":")[0] for mount in mounts):
        assert source in COMPOSE["volumes"] if not source.startswith(".") else (ROOT / source).exists()


def test_dockerfile_copies_and_installs_what_the_project_has():
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []
    (installed,) = re.findall(r'pip install --no-cache-dir "\.\[(.+)\]"', dockerfile)
    assert [extra for extra in installed.split(",") if not extra.startswith("${EXTRA")] == ["registry", "otel"]
    builds = re.findall(r"--build-arg EXTRA=(\S+) +--build-arg SERVICE=(\S+)", dockerfile)
    assert builds == [("api", "producer_api"), ("worker", "classifier_worker"), ("status", "status_service")]
    assert {extra for extra, _ in builds} | {"registry", "otel"} <= set(EXTRAS)
    assert re.search(r"^USER (?!0)\d+:\d+$", dockerfile, re.MULTILINE)


def test_the_build_context_holds_what_the_dockerfile_copies():
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    }
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignore
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == copied
