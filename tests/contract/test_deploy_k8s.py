"""Every overlay and combination of components is built, and its objects fit each other, the code and the guide."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.contract import deployed, deployed_behaviour, deployed_fit, reachability
from tests.contract.deployed import of_kind
from tests.contract.manifests import COMPONENTS, K8S, NAMESPACE, OVERLAYS, Build, combinations

RULES: tuple[Callable[[Build], list[str]], ...] = (
    deployed_fit.dangling_references_of_pods,
    deployed_fit.dangling_references_of_others,
    deployed_behaviour.wrong_settings,
    deployed_behaviour.pods_killed_before_they_have_stopped,
    deployed_behaviour.loose_pods,
    deployed_fit.selectors_without_a_pod,
    deployed_fit.pods_that_two_objects_claim,
    deployed_fit.ports_that_nobody_opens,
    deployed_behaviour.probes_that_ask_the_wrong_thing,
    deployed_behaviour.workers_that_no_partition_is_for,
    deployed_behaviour.triggers_that_would_mislead,
    deployed_fit.images_of_another_version,
    deployed_fit.kafka_listeners_open_to_others,
    deployed_behaviour.routes_that_differ_from_the_local_stack,
    deployed_behaviour.requests_cut_before_their_time,
    reachability.ways_that_differ_from_the_diagram,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_combination_has(rule, builds):
    faults = {name: found for name, build in builds.items() if (found := rule(build))}
    assert dict(list(faults.items())[:3]) == {}, f"{len(faults)} of {len(builds)}"


def kustomization(*folders: str) -> dict[str, Any]:
    return yaml.safe_load(K8S.joinpath(*folders, "kustomization.yaml").read_text("utf-8"))


def test_every_component_and_overlay_is_built(builds):
    assert {folder.name for folder in (K8S / "components").iterdir()} == set(COMPONENTS)
    assert {folder.name for folder in (K8S / "overlays").iterdir()} == set(OVERLAYS)
    # three choices about documents (neither, fake, Google's own) times the others
    assert len(combinations()) == 3 * 2 ** (len(COMPONENTS) - 2)
    assert len(builds) == len(combinations()) + len(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_list_components_in_the_order_that_makes_them_fit(overlay):
    chosen = [path.rpartition("/")[2] for path in kustomization("overlays", overlay)["components"]]
    assert chosen == [name for name in COMPONENTS if name in chosen]


@pytest.mark.parametrize(
    "folder", sorted(K8S.rglob("kustomization.yaml")), ids=lambda path: str(path.parent.relative_to(K8S))
)
def test_every_file_is_used(folder):
    text = folder.read_text("utf-8")
    assert [
        f.name for f in folder.parent.iterdir() if f.name != folder.name and f.name not in text and f.is_file()
    ] == []


def test_everything_is_in_one_namespace_that_keeps_the_restricted_standard(builds):
    for build in builds.values():
        (namespace,) = of_kind(build, "Namespace").values()
        assert namespace["metadata"]["name"] == NAMESPACE
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        placed = {
            found["metadata"].get("namespace") for found in build if found["kind"] not in ("Namespace", "GatewayClass")
        }
        assert placed == {NAMESPACE}


def test_workers_have_no_database(builds):
    for build in builds.values():
        for name, _, container in deployed.containers(build):
            assert ("DATABASE_URL" in deployed.environment(build, container)) == (
                deployed.service_of(container) not in ("classifier-worker", None)
            ), name


def test_budgets_let_a_node_drain_that_holds_a_pod_that_is_not_ready(builds):
    for build in builds.values():
        budgets = of_kind(build, "PodDisruptionBudget")
        assert {"producer-api", "status-service", "classifier-worker"} <= budgets.keys()
        for budget in budgets.values():
            assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            assert "maxUnavailable" in budget["spec"]


def test_spot_nodes_are_for_workers_that_come_and_go(builds):
    found = of_kind(builds["gke"], "Deployment")
    tolerates = {
        name
        for name, deployment in found.items()
        if any(
            t["key"] == "cloud.google.com/gke-spot"
            for t in deployment["spec"]["template"]["spec"].get("tolerations", [])
        )
    }
    assert tolerates == {"classifier-worker"}
    assert found["classifier-worker-floor"]["spec"]["replicas"] >= 1


#: A rule, an object of the GKE overlay (of `kind` where that has none), and a change that the rule must find.
MUTANTS = [
    (deployed_fit.dangling_references_of_pods, "Deployment/producer-api", "POD/serviceAccountName", "other"),
    (
        deployed_fit.dangling_references_of_pods,
        "Job/migrate",
        "POD/containers/0/env/0/valueFrom/secretKeyRef/key",
        "other",
    ),
    (deployed_fit.dangling_references_of_others, "HTTPRoute/docfleet", "spec/rules/0/backendRefs/0/port", 81),
    (
        deployed_fit.dangling_references_of_others,
        "ScaledObject/classifier-worker",
        "spec/triggers/0/authenticationRef/name",
        "other",
    ),
    (
        deployed_behaviour.pods_killed_before_they_have_stopped,
        "Deployment/status-service",
        "POD/terminationGracePeriodSeconds",
        30,
    ),
    (deployed_behaviour.loose_pods, "Deployment/status-service", "POD/enableServiceLinks", True),
    (
        deployed_fit.selectors_without_a_pod,
        "Service/producer-api",
        "spec/selector",
        {"app.kubernetes.io/name": "other"},
    ),
    (
        deployed_fit.selectors_without_a_pod,
        "NetworkPolicy/kafka",
        "spec/podSelector/matchExpressions/0/values",
        ["migrate", "other"],
    ),
    (
        deployed_fit.pods_that_two_objects_claim,
        "PodDisruptionBudget/classifier-worker",
        "spec/selector/matchLabels",
        {"app.kubernetes.io/name": "classifier-worker"},
    ),
    (deployed_fit.ports_that_nobody_opens, "PodMonitor/docfleet", "spec/podMetricsEndpoints/0/port", "other"),
    (
        deployed_behaviour.probes_that_ask_the_wrong_thing,
        "Deployment/classifier-worker",
        "POD/containers/0/livenessProbe/httpGet/path",
        "/healthz/ready",
    ),
    (deployed_behaviour.workers_that_no_partition_is_for, "ScaledObject/classifier-worker", "spec/maxReplicaCount", 47),
    (
        deployed_behaviour.triggers_that_would_mislead,
        "ScaledObject/classifier-worker",
        "spec/triggers/1/metadata/sasl",
        "none",
    ),
    (
        deployed_behaviour.triggers_that_would_mislead,
        "ScaledObject/classifier-worker",
        "spec/triggers/3/metadata/query",
        "max(docfleet_other_seconds)",
    ),
    (
        deployed_fit.images_of_another_version,
        "Deployment/producer-api",
        "POD/containers/0/image",
        "docfleet/producer-api:latest",
    ),
    (deployed_fit.kafka_listeners_open_to_others, "Kafka/docfleet", "spec/kafka/listeners/0/networkPolicyPeers", []),
    (
        deployed_behaviour.routes_that_differ_from_the_local_stack,
        "HTTPRoute/docfleet",
        "spec/rules/1/matches/0/path",
        {"type": "PathPrefix", "value": "/"},
    ),
    (deployed_behaviour.requests_cut_before_their_time, "HTTPRoute/docfleet", "spec/rules/0/timeouts/request", "60s"),
    (reachability.ways_that_differ_from_the_diagram, "NetworkPolicy/gateway", "spec/ingress/0/ports", [{"port": 9090}]),
    (reachability.ways_that_differ_from_the_diagram, "NetworkPolicy/postgres", "spec/podSelector", {}),
    (reachability.ways_that_differ_from_the_diagram, "NetworkPolicy/file-url", "spec/egress/0/to/0/ipBlock/except", []),
]


@pytest.mark.parametrize(("rule", "which", "path", "value"), MUTANTS)
def test_a_fault_is_found(rule, which, path, value, builds):
    kind, name = which.split("/")
    build = copy.deepcopy(builds["kind" if kind == "Kafka" else "gke"])
    assert rule(build) == []
    place: Any = of_kind(build, kind)[name]
    *steps, last = (
        int(step) if step.isdigit() else step for step in path.replace("POD", "spec/template/spec").split("/")
    )
    for step in steps:
        place = place[step]
    assert place[last] != value
    place[last] = value
    assert rule(build) != []


@pytest.mark.parametrize(
    ("literal", "fault"),
    [("DOCFLEET_READERS=none", "DOCFLEET_READERS"), ("DOCFLEET_BUCKETS=x", "DOCFLEET_BUCKETS"), ("OTHER=x", "OTHER")],
)
def test_a_wrong_setting_is_found(literal, fault, builds):
    build = copy.deepcopy(builds["kind"])
    name, _, value = literal.partition("=")
    deployed.shared_settings(build)[name] = value
    assert any(fault in found for found in deployed_behaviour.wrong_settings(build))


def test_the_guide_installs_operators_where_the_manifests_look_for_them(builds):
    installed = dict(re.findall(r"helm install (\S+) (?:.|\n)*?--namespace (\S+) --create-namespace", deployed.GUIDE))
    policies = [policy for build in builds.values() for policy in of_kind(build, "NetworkPolicy").values()]
    assert set(re.findall(r"'kubernetes.io/metadata.name': '([^']+)'", str(policies))) <= set(installed.values())
    triggers = of_kind(builds["gke"], "ScaledObject")["classifier-worker"]["spec"]["triggers"]
    asked = {trigger["metadata"]["serverAddress"] for trigger in triggers if trigger["type"] == "prometheus"}
    release = "kube-prometheus-stack"
    assert asked == {f"http://{release}-prometheus.{installed[release]}.svc:9090"}


def test_the_guide_names_what_there_is():
    for folder in re.findall(r"-k (deploy/\S+)", deployed.GUIDE):
        assert (K8S.parents[1] / folder / "kustomization.yaml").exists(), folder
    assert set(re.findall(r"^\| `([a-z-]+)` \| .* \| .* \|$", deployed.GUIDE, re.MULTILINE)) == set(COMPONENTS)
    tags = set(re.findall(r"(?:docfleet/[a-z-]+|\$IMAGE):([0-9.]+)", deployed.GUIDE))
    assert tags == {deployed_fit.VERSION}
