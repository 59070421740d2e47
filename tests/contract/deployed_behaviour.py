"""How the pods of one build must start, stop, scale and be reached, as functions that return the faults they find."""

import itertools
import re
from collections.abc import Mapping

from docfleet.settings import InvalidSettings
from docfleet.stack.front import Front
from producer_api.settings import ProducerSettings
from schemas.topics import JOBS, RETRY, WORKER_GROUP
from tests.contract.deployed import (
    FOREIGN,
    SETTINGS,
    containers,
    environment,
    of_kind,
    service_of,
    settings_of,
    shared_settings,
    workloads,
)
from tests.contract.manifests import ROOT, Build, Object

KNOWN = frozenset().union(*(settings.variables().values() for settings in SETTINGS.values()))
METRICS = set(re.findall(r"docfleet_\w+", (ROOT / "docs" / "metrics.md").read_text("utf-8")))
METHODS = ("GET", "HEAD", "POST", "DELETE")
HIDDEN = ("/metrics", "/healthz/live", "/classifyx", "/")
PATHS = ("/classify", "/classify/4b3ba5ac", "/classify/4b3ba5ac/cancel", "/openapi.json", "/docs", *HIDDEN)


def wrong_settings(build: Build) -> list[str]:
    faults = []
    for name, _, container in containers(build):
        service = service_of(container)
        if service is None:
            continue
        try:
            settings_of(build, container)
        except InvalidSettings as error:
            faults.append(f"{name}: {error}")
        unknown = environment(build, container).keys() - KNOWN - FOREIGN.keys()
        faults += [f"{name}: {variable} is no setting" for variable in unknown]
        own = {variable["name"] for variable in container.get("env", [])} - FOREIGN.keys()
        faults += [f"{name}: does not read {extra}" for extra in own - set(SETTINGS[service].variables().values())]
    return faults


def pods_killed_before_they_have_stopped(build: Build) -> list[str]:
    faults = []
    for name, spec, container in containers(build):
        service = service_of(container)
        if service in (None, "migrate"):
            continue
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if not spec["terminationGracePeriodSeconds"] > pause + settings_of(build, container).stop_deadline_seconds:
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


def probes_that_ask_the_wrong_thing(build: Build) -> list[str]:
    faults = []
    for name, _, container in containers(build):
        if service_of(container) in (None, "migrate"):
            continue
        for probe, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
            if container[f"{probe}Probe"]["httpGet"]["path"] != f"/healthz/{path}":
                faults.append(f"{probe} of {name}")
        startup = container["startupProbe"]
        if (
            service_of(container) == "classifier-worker"
            and startup["periodSeconds"] * startup["failureThreshold"] < 300
        ):
            faults.append(f"{name} has no time to warm up")
    return faults


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
