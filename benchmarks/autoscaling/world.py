"""One day of one fleet: jobs arrive, tenants take turns, workers work, a controller decides; what came of it."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscaling.agenda import Agenda
from benchmarks.autoscaling.cluster import Cluster
from benchmarks.autoscaling.controls import Control, CpuControl, FixedControl, KedaControl
from benchmarks.autoscaling.group import Group
from benchmarks.autoscaling.hpa import SYNC_SECONDS
from benchmarks.autoscaling.keda import Keda, ScaledObject, Sight
from benchmarks.autoscaling.load import Jobs
from benchmarks.autoscaling.measured import ClusterFigures, WorkerFigures

#: What Prometheus' rate of accepted jobs looks back over.
RATE_SECONDS = 120.0
#: How often the curves are drawn.
SAMPLE_SECONDS = 60.0
#: A day that is not done after so long beyond its end is stopped; what is unfinished is told.
_MOST_OVERTIME_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How a fleet is run: by a ScaledObject, by an HPA on the processor, or fixed (neither)."""

    name: str
    partitions: int = 48
    floor: int = 0  #: workers that stay, on nodes paid in full
    keda: ScaledObject | None = None
    cpu_target: float | None = None
    least: int = 0
    most: int = 48
    tenant_jobs_in_flight: int = 200  #: DOCFLEET_TENANT_JOBS_IN_FLIGHT; 0: no such limit
    outage: tuple[float, float] | None = None  #: when no trigger can be asked


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet at one moment."""

    at: float
    lag: int
    held_back: int
    wanted: int
    ready: int
    nodes: int
    oldest_seconds: float


@dataclass(slots=True)
class Outcome:
    """What a day came to."""

    fleet: Fleet
    waits: NDArray[np.float64]  #: (J,) seconds from accepted to done; NaN for what was not done
    samples: list[Sample] = field(default_factory=list)
    spot_hours: float = 0.0
    full_hours: float = 0.0
    starts: int = 0
    rebalances: int = 0
    preemptions: int = 0
    most_ready: int = 0


class World:
    """The day as it goes."""

    def __init__(
        self, fleet: Fleet, jobs: Jobs, *, worker: WorkerFigures, cluster: ClusterFigures, seconds: float, seed: int
    ) -> None:
        self.agenda = Agenda()
        self._fleet = fleet
        self._jobs = jobs
        self._seconds = seconds
        self._arrives_at = jobs.arrives_at.tolist()
        self._tenant = jobs.tenant.tolist()
        self._in_kafka: dict[int, int] = {}
        self._held: dict[int, deque[int]] = {}
        self._arrived = 0
        self._done = 0
        self._oldest = 0
        self._is_done = bytearray(len(jobs))
        self._cores: dict[int, tuple[float, float]] = {}
        self._worker = worker
        self.outcome = Outcome(fleet, np.full(len(jobs), np.nan))
        self.group = Group(
            self.agenda, jobs, partitions=fleet.partitions, worker=worker, cluster=cluster, on_done=self._on_done
        )
        self.cluster = Cluster(self.agenda, self.group, worker=worker, cluster=cluster, floor=fleet.floor, seed=seed)
        self.cluster.scale(fleet.least)
        self._control = self._controlled(fleet)
        self.agenda.at(0.0, self._sync)
        self.agenda.at(0.0, self._sample)
        if self._control.poll_seconds:
            self.agenda.at(0.0, self._poll)

    def _controlled(self, fleet: Fleet) -> Control:
        if fleet.keda:
            return KedaControl(Keda(fleet.keda, self._look))
        if fleet.cpu_target:
            return CpuControl(least=fleet.least, most=fleet.most, target=fleet.cpu_target, uses=self._uses)
        return FixedControl()

    def run(self) -> Outcome:
        """Let the day go by until all jobs are done; return what it came to."""
        agenda, arrives_at = self.agenda, self._arrives_at
        latest = self._seconds + _MOST_OVERTIME_SECONDS
        while agenda.now < self._seconds or (self._done < len(arrives_at) and agenda.now < latest):
            if self._arrived < len(arrives_at) and arrives_at[self._arrived] <= agenda.next_at:
                agenda.now = arrives_at[self._arrived]
                self._arrived += 1
                self._accept(self._arrived - 1)
            else:
                agenda.step()
        outcome = self.outcome
        outcome.spot_hours, outcome.full_hours = self.cluster.gpu_hours(agenda.now)
        outcome.starts, outcome.rebalances = self.group.starts, self.group.rebalances
        outcome.preemptions = self.cluster.preemptions
        return outcome

    def _accept(self, job: int) -> None:
        """Publish a job, or hold it back while its tenant has enough in Kafka."""
        tenant, limit = self._tenant[job], self._fleet.tenant_jobs_in_flight
        if limit and self._in_kafka.get(tenant, 0) >= limit:
            self._held.setdefault(tenant, deque()).append(job)
            return
        self._in_kafka[tenant] = self._in_kafka.get(tenant, 0) + 1
        self.group.publish(job)

    def _on_done(self, job: int) -> None:
        self._done += 1
        self._is_done[job] = True
        self.outcome.waits[job] = self.agenda.now - self._arrives_at[job]
        tenant = self._tenant[job]
        held = self._held.get(tenant)
        if held:
            self.group.publish(held.popleft())
        else:
            self._in_kafka[tenant] -= 1

    @property
    def _held_back(self) -> int:
        return sum(len(held) for held in self._held.values())

    @property
    def _oldest_seconds(self) -> float:
        while self._oldest < self._arrived and self._is_done[self._oldest]:
            self._oldest += 1
        return self.agenda.now - self._arrives_at[self._oldest] if self._oldest < self._arrived else 0.0

    def _look(self) -> Sight | None:
        outage = self._fleet.outage
        if outage and outage[0] <= self.agenda.now < outage[1]:
            return None
        partitions = self.group.partitions
        return Sight(
            [partition.committed for partition in partitions],
            [partition.lag for partition in partitions],
            self._held_back,
            self._oldest_seconds,
            (self._arrived - bisect_left(self._arrives_at, self.agenda.now - RATE_SECONDS)) / RATE_SECONDS,
        )

    def _uses(self) -> tuple[Sequence[float], int]:
        """Return the processor use of each pod since last asked, in parts of its request, and the pods not ready."""
        now, used = self.agenda.now, []
        seen: dict[int, tuple[float, float]] = {}
        for pod in self.cluster.pods:
            if pod.is_ready and pod.number in self.group.workers:
                worker = self.group.workers[pod.number]
                self.group.count(worker)
                at, before = self._cores.get(pod.number, (now, worker.core_seconds))
                seen[pod.number] = (now, worker.core_seconds)
                if now > at:
                    used.append((worker.core_seconds - before) / (now - at) / self._worker.requested_cores)
        self._cores = seen
        return used, len(self.cluster.pods) - len(used)

    def _poll(self) -> None:
        self.cluster.scale(self._control.poll(self.agenda.now, self.cluster.wanted))
        self.agenda.after(self._control.poll_seconds or SYNC_SECONDS, self._poll)

    def _sync(self) -> None:
        self.cluster.scale(self._control.sync(self.agenda.now, self.cluster.wanted))
        self.outcome.most_ready = max(self.outcome.most_ready, self.cluster.ready)
        self.agenda.after(SYNC_SECONDS, self._sync)

    def _sample(self) -> None:
        nodes = sum(node.gone_at is None for node in self.cluster.nodes)
        self.outcome.samples.append(
            Sample(
                self.agenda.now,
                self.group.lag,
                self._held_back,
                self.cluster.floor + self.cluster.wanted,
                self.cluster.ready,
                nodes,
                self._oldest_seconds,
            )
        )
        self.agenda.after(SAMPLE_SECONDS, self._sample)


def live_through(
    fleet: Fleet, jobs: Jobs, *, worker: WorkerFigures, cluster: ClusterFigures, seconds: float, seed: int
) -> Outcome:
    """Return what the day's jobs come to with that fleet; the same for the same arguments."""
    return World(fleet, jobs, worker=worker, cluster=cluster, seconds=seconds, seed=seed).run()
