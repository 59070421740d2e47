"""Nodes and pods: how a wanted number of workers becomes workers that are ready, and what that costs in GPU hours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.autoscaling.agenda import Agenda
from benchmarks.autoscaling.group import Group
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures


@dataclass(slots=True)
class Node:
    """One machine with one GPU."""

    number: int
    is_spot: bool
    born_at: float
    is_up: bool = False
    is_new: bool = True  #: holds no image yet
    is_leaving: bool = False
    pod: "Pod | None" = None
    free_since: float = 0.0
    gone_at: float | None = None


@dataclass(slots=True)
class Pod:
    """One worker's pod; it counts as a replica until it is told to stop."""

    number: int
    is_ready: bool = False
    is_stopping: bool = False
    node: Node | None = None


class Cluster:
    """Nodes that come for pods without one and go when they have been idle; pods that join the group when ready."""

    def __init__(
        self, agenda: Agenda, group: Group, *, worker: WorkerFigures, cluster: ClusterFigures, floor: int, seed: int
    ) -> None:
        self._agenda = agenda
        self._group = group
        self._worker = worker
        self._figures = cluster
        self._draw = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self._pods: dict[int, Pod] = {}
        self._made = 0
        self.wanted = 0
        self.preemptions = 0
        for _ in range(floor):
            self._made += 1
            group.join(self._made)
            self._new_node(is_spot=False).is_up = True
        self.floor = floor
        agenda.at(cluster.spot_raid_at, self._raid)

    @property
    def pods(self) -> list[Pod]:
        """Pods that count as replicas, ready or not; the floor's are not among them."""
        return [pod for pod in self._pods.values() if not pod.is_stopping]

    @property
    def ready(self) -> int:
        """Workers that take jobs, the floor's included."""
        return self.floor + sum(pod.is_ready for pod in self.pods)

    def scale(self, wanted: int) -> None:
        """Make or stop pods until there are `wanted`: first those that are not ready, then the youngest."""
        self.wanted = wanted
        pods = self.pods
        for _ in range(wanted - len(pods)):
            self._new_pod()
        for pod in sorted(pods, key=lambda one: (one.is_ready, -one.number))[: max(0, len(pods) - wanted)]:
            self._stop(pod, self._figures.stop_seconds)

    def gpu_hours(self, until: float) -> tuple[float, float]:
        """Return the hours of nodes so far: spot, and paid in full."""
        spot = full = 0.0
        for node in self.nodes:
            hours = ((node.gone_at or until) - node.born_at) / 3600
            spot, full = (spot + hours, full) if node.is_spot else (spot, full + hours)
        return spot, full

    def _new_pod(self) -> None:
        self._made += 1
        pod = self._pods[self._made] = Pod(self._made)
        for node in self._free():
            self._bind(pod, node)
            return
        node = self._new_node(is_spot=True)
        node.pod = pod
        pod.node = node
        self._agenda.after(self._figures.node_seconds, self._come_up, node)

    def _free(self) -> Iterator[Node]:
        # a node that is on its way for a pod that is gone takes the next one
        there = (node for node in self.nodes if node.gone_at is None and not node.is_leaving)
        return (node for node in there if node.is_spot and not node.pod)

    def _new_node(self, *, is_spot: bool) -> Node:
        node = Node(len(self.nodes), is_spot, self._agenda.now)
        self.nodes.append(node)
        return node

    def _come_up(self, node: Node) -> None:
        node.is_up = True
        self._agenda.after(self._draw.exponential(self._figures.spot_life_seconds), self._preempt, node)
        if node.pod:
            self._start(node.pod, node)
        else:
            self._release(node)

    def _bind(self, pod: Pod, node: Node) -> None:
        node.pod, pod.node = pod, node
        if node.is_up:
            self._start(pod, node)

    def _start(self, pod: Pod, node: Node) -> None:
        seconds = self._worker.load_seconds + (self._figures.image_seconds if node.is_new else 0.0)
        node.is_new = False
        self._agenda.after(seconds, self._become_ready, pod)

    def _become_ready(self, pod: Pod) -> None:
        if not pod.is_stopping:
            pod.is_ready = True
            self._group.join(pod.number)

    def _stop(self, pod: Pod, seconds: float) -> None:
        pod.is_stopping = True
        if pod.is_ready:
            self._group.stop(pod.number, seconds, lambda: self._gone(pod))
        else:
            self._gone(pod)

    def _gone(self, pod: Pod) -> None:
        del self._pods[pod.number]
        if pod.node and not pod.node.is_leaving:
            self._release(pod.node)
        self._agenda.after(0.0, lambda: self.scale(self.wanted))  # for one that was taken away, another

    def _release(self, node: Node) -> None:
        node.pod, node.free_since = None, self._agenda.now
        self._agenda.after(self._figures.node_idle_seconds, self._remove_if_idle, node, node.free_since)

    def _remove_if_idle(self, node: Node, since: float) -> None:
        if node.gone_at is None and node.is_up and not node.pod and node.free_since == since:
            node.gone_at = self._agenda.now

    def _raid(self) -> None:
        for node in [node for node in self.nodes if node.is_spot and node.is_up and node.gone_at is None]:
            if self._draw.uniform() < self._figures.spot_raid_share:
                self._preempt(node)

    def _preempt(self, node: Node) -> None:
        if node.gone_at is not None or node.is_leaving:
            return
        self.preemptions += 1
        node.is_leaving = True
        self._agenda.after(self._figures.spot_notice_seconds, self._take_away, node)
        if node.pod and not node.pod.is_stopping:
            self._stop(node.pod, self._figures.spot_notice_seconds)

    def _take_away(self, node: Node) -> None:
        node.gone_at = self._agenda.now
