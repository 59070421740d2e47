"""Who can open a connection to whom under a build's NetworkPolicies, and who should, by the diagram of the parts.

A connection needs an egress rule of the client and an ingress rule of the server, where policies select them at all.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.contract.deployed import matches, of_kind, pods
from tests.contract.manifests import Build

#: What pods of the namespace, by their label's name, listen on.
LISTENS = {
    "producer-api": (8080,),
    "status-service": (8080,),
    "classifier-worker": (8080,),
    "gcs": (4443,),
    "kafka": (8443, 9090, 9091, 9092),
    "postgres": (5432, 8000),
    "migrate": (),
}
SERVICES = ("producer-api", "status-service", "classifier-worker")
#: Which of ours talk to what; the diagram in docs/architecture.md.
CLIENTS_OF = {
    "kafka": ("migrate", *SERVICES),
    "postgres": ("migrate", "producer-api", "status-service"),
    "objects": ("producer-api", "classifier-worker"),
}


@dataclass(frozen=True)
class Place:
    """One end of a connection: a pod of the namespace, a pod of another (its labels), or an address."""

    name: str
    labels: Mapping[str, str] | None = None
    namespace: Mapping[str, str] | None = None
    address: str = "10.64.0.7"
    ports: tuple[int, ...] = ()
    named_ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.labels is not None and self.namespace is None


Edge = tuple[str, str, int]

OUTSIDE = (
    Place("gateway", {"app": "envoy"}, {"docfleet.io/gateway": "true"}),
    Place("prometheus", {"app": "prometheus"}, {"docfleet.io/metrics": "true"}),
    Place("keda", {"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"}),
    Place("strimzi", {"app": "strimzi"}, {"kubernetes.io/metadata.name": "strimzi"}),
    Place("cnpg", {"app": "cnpg"}, {"kubernetes.io/metadata.name": "cnpg-system"}),
    Place("stranger", {"app": "stranger"}, {"kubernetes.io/metadata.name": "default"}, ports=(80, 443, 8080)),
    Place("dns", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}, ports=(53,)),
    Place("kubernetes", address="10.0.0.1", ports=(443, 6443)),
    Place("internet", address="142.250.1.1", ports=(22, 80, 443)),
    Place("metadata server", address="169.254.169.254", ports=(80,)),
    Place("metadata server on its node", address="169.254.169.252", ports=(988,)),
    Place("another Kafka", address="10.1.1.1", ports=(9092,)),
    Place("another PostgreSQL", address="10.1.1.2", ports=(5432,)),
)


def places(build: Build) -> list[Place]:
    """Return the pods of the build and what is around them."""
    ours = []
    for pod in pods(build):
        kind = pod.labels.get("app.kubernetes.io/name", pod.name)
        ours.append(Place(pod.name, pod.labels, ports=LISTENS[kind], named_ports=pod.ports))
    return [*ours, *OUTSIDE]


def open_ways(build: Build) -> set[Edge]:
    """Return (client, server, port) of every connection that the policies let through; one end is in the namespace."""
    policies = [policy["spec"] for policy in of_kind(build, "NetworkPolicy").values()]
    found, all_places = set(), places(build)
    for client in all_places:
        for server in all_places:
            if client.is_ours or server.is_ours:
                found |= {
                    (client.name, server.name, port)
                    for port in server.ports
                    if _lets(policies, "Egress", client, server, port, server)
                    and _lets(policies, "Ingress", server, client, port, server)
                }
    return {edge for edge in found if edge[0] != edge[1] or edge[0] in ("kafka", "postgres")}


def _lets(
    policies: list[Mapping[str, Any]], direction: str, here: Place, there: Place, port: int, server: Place
) -> bool:
    """Tell whether the policies of one end allow the other."""
    if not here.is_ours:
        return True
    assert here.labels is not None
    mine = [p for p in policies if direction in p["policyTypes"] and matches(p["podSelector"], here.labels)]
    side, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return not mine or any(
        _port_fits(rule, port, server) and (peers not in rule or any(_is_peer(peer, there) for peer in rule[peers]))
        for policy in mine
        for rule in policy.get(side, [])
    )


def _port_fits(rule: Mapping[str, Any], port: int, server: Place) -> bool:
    if "ports" not in rule:
        return True
    for allowed in rule["ports"]:
        first = server.named_ports.get(allowed["port"], allowed["port"])
        if first == port or (isinstance(first, int) and first <= port <= allowed.get("endPort", first)):
            return True
    return False


def _is_peer(peer: Mapping[str, Any], place: Place) -> bool:
    if "ipBlock" in peer:
        address = ipaddress.ip_address(place.address)
        block, excepted = peer["ipBlock"]["cidr"], peer["ipBlock"].get("except", [])
        return _is_in(address, block) and not any(_is_in(address, other) for other in excepted)
    if place.labels is None or not matches(peer.get("podSelector"), place.labels):
        return False
    if "namespaceSelector" in peer:
        return place.namespace is not None and matches(peer["namespaceSelector"], place.namespace)
    return place.namespace is None


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, block: str) -> bool:
    return address in ipaddress.ip_network(block)


def wanted_ways(build: Build) -> set[Edge]:
    """Return the connections of the diagram, for the components that the build has."""
    named: dict[str, list[str]] = {}
    for pod in pods(build):
        named.setdefault(pod.labels.get("app.kubernetes.io/name", pod.name), []).append(pod.name)

    def from_all(kinds: tuple[str, ...], server: str, *ports: int) -> set[Edge]:
        return {(client, server, port) for kind in kinds for client in named.get(kind, []) for port in ports}

    ways = from_all(tuple(named), "dns", 53)
    ways |= {("gateway", service, 8080) for service in ("producer-api", "status-service")}
    ways |= {("prometheus", pod, 8080) for service in SERVICES for pod in named[service]}
    ways |= from_all(CLIENTS_OF["kafka"], "kafka" if "kafka" in named else "another Kafka", 9092)
    ways |= from_all(CLIENTS_OF["postgres"], "postgres" if "postgres" in named else "another PostgreSQL", 5432)
    ways |= from_all(("producer-api",), "internet", 80, 443)  # file_url
    if "gcs" in named:
        ways |= from_all(("migrate", *CLIENTS_OF["objects"]), "gcs", 4443)
    else:
        ways |= from_all(CLIENTS_OF["objects"], "internet", 443)
    if "metadata-server" in of_kind(build, "NetworkPolicy"):
        ways |= from_all(CLIENTS_OF["objects"], "metadata server", 80)
        ways |= from_all(CLIENTS_OF["objects"], "metadata server on its node", 988)
    if "kafka" in named:
        ways |= {("kafka", "kafka", 9090), ("kafka", "kafka", 9091)}
        ways |= {("strimzi", "kafka", port) for port in (8443, 9090, 9091)}
        if of_kind(build, "ScaledObject"):
            ways.add(("keda", "kafka", 9092))
    if "postgres" in named:
        ways |= {(client, "postgres", port) for client in ("postgres", "cnpg") for port in (5432, 8000)}
        # the Kubernetes API may be anywhere
        ways |= {("postgres", place.name, port) for place in OUTSIDE for port in place.ports if port in (443, 6443)}
    return ways


def ways_that_differ_from_the_diagram(build: Build) -> list[str]:
    there, wanted = open_ways(build), wanted_ways(build)
    shut = [f"shut: {client} to {server}:{port}" for client, server, port in sorted(wanted - there)]
    return shut + [f"open: {client} to {server}:{port}" for client, server, port in sorted(there - wanted)]
