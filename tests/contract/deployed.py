"""What must be true of the objects of one build, as functions that return the faults they find.

An API server looks at one object at a time; these look at how objects, the services' settings and the guide fit.
What operators make of their own resources is told here too: pods, Services and Secrets.
"""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from classifier_worker.settings import WorkerSettings
from docfleet.migrate import MigrateSettings
from docfleet.settings import InvalidSettings, Settings
from docfleet.stack.front import Front
from producer_api.settings import ProducerSettings
from schemas.topics import JOBS, RETRY, WORKER_GROUP
from status_service.settings import StatusSettings
from tests.contract.manifests import ROOT, Build, Object

SETTINGS: dict[str, type[Settings]] = {
    "producer-api": ProducerSettings,
    "classifier-worker": WorkerSettings,
    "status-service": StatusSettings,
    "migrate": MigrateSettings,
}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
METRICS = set(re.findall(r"docfleet_\w+", (ROOT / "docs" / "metrics.md").read_text("utf-8")))
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


def wrong_settings(build: Build) -> list[str]:
    faults = []
    for name, _, container in containers(build):
        service = service_of(container)
        if service is None:
            continue
        variables = {key: text for key, text in environment(build, container).items() if key not in FOREIGN}
        try:
            SETTINGS[service].from_mapping(variables)
        except InvalidSettings as error:
            faults.append(f"{name}: {error}")
        known = set().union(*(settings.variables().values() for settings in SETTINGS.values()))
        faults += [f"{name}: {variable} is no setting" for variable in variables.keys() - known]
        own = {variable["name"] for variable in container.get("env", [])} - FOREIGN.keys()
        faults += [f"{name}: does not read {extra}" for extra in own - set(SETTINGS[service].variables().values())]
    return faults


def pods_killed_before_they_have_stopped(build: Build) -> list[str]:
    faults = []
    for name, spec, container in containers(build):
        service = service_of(container)
        if service in (None, "migrate"):
            continue
        settings = SETTINGS[service].from_mapping(
            {key: text for key, text in environment(build, container).items() if key not in FOREIGN}
        )
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not spec["terminationGracePeriodSeconds"] > pause + settings.stop_deadline_seconds:
            faults.append(name)
    return faults


def loose_pods(build: Build) -> list[str]:
    """Pods below the restricted standard, with a writable root, a token, or variables named after Services."""
    faults = []
    for name, spec, container in containers(build):
        context, own = spec["securityContext"], container["securityContext"]
        facts = {
            "may be root": context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0,
            "has no seccomp profile": context.get("seccompProfile") == {"type": "RuntimeDefault"},
            "has a token": spec["automountServiceAccountToken"] is False,
            "gets variables of Services": spec["enableServiceLinks"] is False,
            "may gain rights": own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]},
            "may write its root": own["readOnlyRootFilesystem"] is True,
            "asks for no resources": {"cpu", "memory"} <= container["resources"]["requests"].keys(),
            "has no limit of memory": "memory" in container["resources"]["limits"],
        }
        faults += [f"{name} {fault}" for fault, holds in facts.items() if not holds]
    accounts = of_kind(build, "ServiceAccount")
    faults += [f"{name} hands out a token" for name, found in accounts.items() if found["automountServiceAccountToken"]]
    if "default" not in accounts:
        faults.append("the default account hands out a token")
    return faults


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
    return names | {
        value for key, value in selector.get("matchLabels", {}).items() if key == "app.kubernetes.io/name"
    }


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
    for name, spec, container in containers(build):
        names = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in names:
                faults.append(f"{probe} of {name}")
        service = service_of(container)
        if service not in (None, "migrate"):
            variables = {key: text for key, text in environment(build, container).items() if key not in FOREIGN}
            opened = SETTINGS[service].from_mapping(variables).http_port
            faults += [f"{name} listens on {opened}"] if {port["containerPort"] for port in container["ports"]} != {opened} else []
    asked: list[tuple[str, Any, set[str]]] = []
    for name, found in of_kind(build, "Service").items():
        asked.append((name, {"matchLabels": found["spec"]["selector"]}, {p["targetPort"] for p in found["spec"]["ports"]}))
    for name, found in of_kind(build, "PodMonitor").items():
        asked.append((name, found["spec"]["selector"], {end["port"] for end in found["spec"]["podMetricsEndpoints"]}))
    for name, selector, ports in asked:
        for pod in pods(build):
            if matches(selector, pod.labels) and not ports <= pod.ports.keys():
                faults.append(f"{name}: {pod.name} has no port {ports}")
    return faults


def probes_that_ask_the_wrong_thing(build: Build) -> list[str]:
    faults = []
    for name, _, container in containers(build):
        if service_of(container) in (None, "migrate"):
            continue
        for probe, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
            if container[f"{probe}Probe"]["httpGet"]["path"] != f"/healthz/{path}":
                faults.append(f"{probe} of {name}")
        startup = container["startupProbe"]
        if service_of(container) == "classifier-worker" and startup["periodSeconds"] * startup["failureThreshold"] < 300:
            faults.append(f"{name} has no time to warm up")
    return faults


def shared_settings(build: Build) -> dict[str, str]:
    """Return what the ConfigMap that all services read says."""
    (found,) = (config for config in of_kind(build, "ConfigMap").values() if "DOCFLEET_JOBS_PARTITIONS" in config["data"])
    return found["data"]


def workers_that_no_partition_is_for(build: Build) -> list[str]:
    partitions = int(shared_settings(build)["DOCFLEET_JOBS_PARTITIONS"])
    scaled = of_kind(build, "ScaledObject")
    workers = 0
    for name, workload in of_kind(build, "Deployment").items():
        if name in scaled:
            workers += scaled[name]["spec"]["maxReplicaCount"]
        elif name.startswith("classifier-worker"):
            workers += workload["spec"]["replicas"]
    return [f"{workers} workers, {partitions} partitions"] if workers > partitions else []


def triggers_that_would_mislead(build: Build) -> list[str]:
    """What makes a fleet shrink while it is busy, or never wake up."""
    faults = []
    settings = shared_settings(build)
    for name, found in of_kind(build, "ScaledObject").items():
        spec = found["spec"]
        target = workloads(build)[spec["scaleTargetRef"]["name"]]
        (container,) = target["spec"]["template"]["spec"]["containers"]
        variables = environment(build, container)
        facts = {
            "its Deployment says how many, too": "replicas" not in target["spec"],
            "falls back to fewer": spec["fallback"]["behavior"] == "currentReplicasIfHigher",
            "never sleeps": spec["minReplicaCount"] == 0,
        }
        topics = set()
        for trigger in spec["triggers"]:
            metadata, what = trigger["metadata"], trigger["name"]
            if trigger["type"] == "kafka":
                topics.add(metadata["topic"])
                facts |= {
                    f"{what}: another group": metadata["consumerGroup"] == WORKER_GROUP,
                    f"{what}: long jobs look stuck": metadata["excludePersistentLag"] == "false",
                    f"{what}: a new group's lag is not seen": metadata["offsetResetPolicy"] == "earliest",
                    f"{what}: no brokers": metadata["bootstrapServersFromEnv"] in variables,
                    f"{what}: another way to Kafka": (metadata["sasl"], metadata["tls"]) == _way_to_kafka(settings),
                }
            else:
                facts[f"{what}: no answer means no work"] = metadata["ignoreNullValues"] == "false"
                unknown = set(re.findall(r"docfleet_\w+", metadata["query"])) - METRICS
                facts[f"{what}: no metric {unknown}"] = not unknown
        facts["other topics"] = topics == {JOBS.name, RETRY.name}
        faults += [f"{name}: {fault}" for fault, holds in facts.items() if not holds]
    return faults


def _way_to_kafka(settings: Mapping[str, str]) -> tuple[str, str]:
    """Return what KEDA calls the services' way to the brokers: sasl and tls."""
    protocol = settings.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    names = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}
    sasl = names[settings["KAFKA_SASL_MECHANISM"]] if protocol.startswith("SASL") else "none"
    return sasl, "enable" if protocol.endswith("SSL") else "disable"


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


def routes_that_differ_from_the_local_stack(build: Build) -> list[str]:
    """A path that is routed at all goes to the service that `docfleet up` asks; probes and metrics are not routed."""
    (route,) = of_kind(build, "HTTPRoute").values()
    front = Front(producer_api="producer-api", status_service="status-service")
    faults = []
    for method, path in itertools.product(METHODS, PATHS):
        chosen = _routed(route, method, path)
        if chosen != (None if path in HIDDEN else front._behind(method, path)):
            faults.append(f"{method} {path} goes to {chosen}")
    return faults


METHODS = ("GET", "HEAD", "POST", "DELETE")
HIDDEN = ("/metrics", "/healthz/live", "/classifyx", "/")
PATHS = ("/classify", "/classify/4b3ba5ac", "/classify/4b3ba5ac/cancel", "/openapi.json", "/docs", *HIDDEN)


def _routed(route: Object, method: str, path: str) -> str | None:
    """Return the Service that a request gets to, by the Gateway API's precedence: exact, longer prefix, method."""
    found: list[tuple[tuple[bool, int, bool], str]] = []
    for rule in route["spec"]["rules"]:
        for match in rule["matches"]:
            value, exact = match["path"]["value"], match["path"]["type"] == "Exact"
            fits = path == value if exact else path == value.rstrip("/") or path.startswith(value.rstrip("/") + "/")
            if fits and match.get("method", method) == method:
                found.append(((exact, len(value), "method" in match), rule["backendRefs"][0]["name"]))
    return max(found)[1] if found else None


def requests_cut_before_their_time(build: Build) -> list[str]:
    (route,) = of_kind(build, "HTTPRoute").values()
    longest = {"status-service": 60.0, "producer-api": ProducerSettings.model_fields["upload_total_seconds"].default}
    faults = []
    for rule in route["spec"]["rules"]:
        number, unit = re.fullmatch(r"(\d+)([sm])", rule["timeouts"]["request"]).groups()  # type: ignore[union-attr]
        name = rule["backendRefs"][0]["name"]
        if int(number) * {"s": 1, "m": 60}[unit] <= longest[name]:
            faults.append(name)
    return faults
