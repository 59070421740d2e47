"""How the objects of one build must fit each other and the guide, as functions that return the faults they find.

An API server looks at one object at a time and sees none of this.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from tests.contract.deployed import (
    containers,
    matches,
    of_kind,
    pods,
    secret_keys,
    service_names,
    service_of,
    settings_of,
    workloads,
)
from tests.contract.manifests import ROOT, Build, Object

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def dangling_references_of_pods(build: Build) -> list[str]:
    accounts, claims = of_kind(build, "ServiceAccount"), of_kind(build, "PersistentVolumeClaim")
    configs, secrets = of_kind(build, "ConfigMap"), secret_keys(build)
    faults = []
    for name, spec, container in containers(build):
        wanted = [(spec["serviceAccountName"], accounts)]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        wanted += [(mount["name"], volumes) for mount in container.get("volumeMounts", [])]
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                wanted.append((volume["persistentVolumeClaim"]["claimName"], claims))
        for source in container.get("envFrom", []):
            kind = "configMapRef" if "configMapRef" in source else "secretRef"
            wanted.append((source[kind]["name"], configs if kind == "configMapRef" else secrets))
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                wanted.append((reference["key"], secrets.get(reference["name"], {})))
        faults += [f"{name}: no {asked}" for asked, there in wanted if asked not in there]
    return faults


def dangling_references_of_others(build: Build) -> list[str]:
    """Routes, gateways, scaled objects, node pools, addresses in settings."""
    services, secrets = service_names(build), secret_keys(build)
    wanted: list[tuple[Any, Any]] = []
    for route in of_kind(build, "HTTPRoute").values():
        wanted += [(parent["name"], of_kind(build, "Gateway")) for parent in route["spec"]["parentRefs"]]
        for rule in route["spec"]["rules"]:
            wanted += [((backend["name"], backend["port"]), services) for backend in rule["backendRefs"]]
    for gateway in of_kind(build, "Gateway").values():
        wanted.append((gateway["spec"]["gatewayClassName"], of_kind(build, "GatewayClass")))
        for listener in gateway["spec"]["listeners"]:
            wanted += [(ref["name"], secrets) for ref in listener.get("tls", {}).get("certificateRefs", [])]
    for pool in of_kind(build, "KafkaNodePool").values():
        wanted.append((pool["metadata"]["labels"]["strimzi.io/cluster"], of_kind(build, "Kafka")))
    for config in of_kind(build, "ConfigMap").values():
        for variable in ("KAFKA_BOOTSTRAP_SERVERS", "STORAGE_EMULATOR_HOST"):
            host, _, port = config.get("data", {}).get(variable, "").removeprefix("http://").partition(":")
            # a name without a dot is one of this namespace; the base alone has a stand-in
            if host and "." not in host and not (variable.startswith("KAFKA") and not of_kind(build, "Kafka")):
                wanted.append(((host, int(port)), services))
    for scaled in of_kind(build, "ScaledObject").values():
        target = scaled["spec"]["scaleTargetRef"]["name"]
        wanted.append((target, workloads(build)))
        for trigger in scaled["spec"]["triggers"]:
            if "authenticationRef" in trigger:
                wanted.append((trigger["authenticationRef"]["name"], of_kind(build, "TriggerAuthentication")))
    return [f"no {asked}" for asked, there in wanted if asked not in there]


def selectors_without_a_pod(build: Build) -> list[str]:
    labels = [pod.labels for pod in pods(build)]
    selectors: list[tuple[str, Any]] = []
    for name, found in of_kind(build, "Service").items():
        selectors.append((f"Service {name}", {"matchLabels": found["spec"]["selector"]}))
    for kind in ("PodDisruptionBudget", "PodMonitor", "Deployment"):
        selectors += [(f"{kind} {name}", found["spec"]["selector"]) for name, found in of_kind(build, kind).items()]
    for name, policy in of_kind(build, "NetworkPolicy").items():
        selectors.append((f"NetworkPolicy {name}", policy["spec"]["podSelector"]))
        chosen = [policy["spec"]["podSelector"], *_selectors_of_peers(policy)]
        named = {value for selector in chosen for value in _names_in(selector)}
        there = {label.get("app.kubernetes.io/name") for label in labels}
        selectors += [(f"NetworkPolicy {name}", {"matchLabels": {"name": value}}) for value in named - there]
        selectors += [(f"a peer of NetworkPolicy {name}", selector) for selector in chosen[1:]]
    for name, spec, _ in containers(build):
        for constraint in spec.get("topologySpreadConstraints", []):
            selectors.append((f"spread of {name}", constraint["labelSelector"]))
    return [what for what, selector in selectors if not any(matches(selector, label) for label in labels)]


def _selectors_of_peers(policy: Object) -> list[Any]:
    rules = [(rule, "from") for rule in policy["spec"].get("ingress", [])]
    rules += [(rule, "to") for rule in policy["spec"].get("egress", [])]
    peers = [peer for rule, side in rules for peer in rule.get(side, [])]
    return [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]


def _names_in(selector: Mapping[str, Any]) -> set[str]:
    names = {
        value
        for expression in selector.get("matchExpressions", [])
        if expression["key"] == "app.kubernetes.io/name"
        for value in expression["values"]
    }
    return names | {value for key, value in selector.get("matchLabels", {}).items() if key == "app.kubernetes.io/name"}


def pods_that_two_objects_claim(build: Build) -> list[str]:
    """Two Deployments fight over a pod; an eviction is refused where two budgets cover one."""
    faults = []
    for kind in ("Deployment", "PodDisruptionBudget"):
        for pod in pods(build):
            claimed = [
                name for name, found in of_kind(build, kind).items() if matches(found["spec"]["selector"], pod.labels)
            ]
            faults += [f"{kind} {claimed}: {pod.name}"] if len(claimed) > 1 else []
    return faults


def ports_that_nobody_opens(build: Build) -> list[str]:
    faults = []
    for name, _, container in containers(build):
        names = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in names:
                faults.append(f"{probe} of {name}")
        service = service_of(container)
        if service not in (None, "migrate"):
            opened = settings_of(build, container).http_port
            if [port["containerPort"] for port in container["ports"]] != [opened]:
                faults.append(f"{name} listens on {opened}")
    asked: list[tuple[str, Any, set[str]]] = []
    for name, found in of_kind(build, "Service").items():
        asked.append(
            (name, {"matchLabels": found["spec"]["selector"]}, {p["targetPort"] for p in found["spec"]["ports"]})
        )
    for name, found in of_kind(build, "PodMonitor").items():
        asked.append((name, found["spec"]["selector"], {end["port"] for end in found["spec"]["podMetricsEndpoints"]}))
    for name, selector, ports in asked:
        for pod in pods(build):
            if matches(selector, pod.labels) and not ports <= pod.ports.keys():
                faults.append(f"{name}: {pod.name} has no port {ports}")
    return faults


def images_of_another_version(build: Build) -> list[str]:
    ours = [container["image"] for _, _, container in containers(build) if service_of(container)]
    return [image for image in ours if not image.endswith(f":{VERSION}")]


def kafka_listeners_open_to_others(build: Build) -> list[str]:
    """Strimzi writes a policy of its own for each listener; it must name the peers that ours names."""
    faults = []
    for found in of_kind(build, "Kafka").values():
        for listener in found["spec"]["kafka"]["listeners"]:
            rules = of_kind(build, "NetworkPolicy")["kafka-server"]["spec"]["ingress"]
            (ours,) = (rule["from"] for rule in rules if {"port": listener["port"]} in rule["ports"])
            if listener["networkPolicyPeers"] != ours:
                faults.append(listener["name"])
    return faults
