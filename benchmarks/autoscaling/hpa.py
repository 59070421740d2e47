"""The HorizontalPodAutoscaler's decision, every 15 seconds: metrics to replicas, stabilised and at a bounded pace.

After https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ and
kubernetes/pkg/controller/podautoscaler (replica_calculator.go, horizontal.go). Pure: the time is an argument.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

SYNC_SECONDS: Final = 15.0
TOLERANCE: Final = 0.1
#: Changes that are kept; more than any period here holds.
_REMEMBERED: Final = 100


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so many pods, or percent of the pods, more or less within a period."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """How fast the fleet may grow, or shrink."""

    stabilization_seconds: float
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Behavior:
    """Kubernetes' defaults, unless told otherwise; of several policies the one that allows most counts."""

    up: Rules = Rules(0.0, (Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)))
    down: Rules = Rules(300.0, (Policy("Percent", 100, 15.0),))


@dataclass(slots=True)
class Autoscaler:
    """What the controller remembers of one HPA."""

    least: int
    most: int
    behavior: Behavior
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, replicas: int, proposals: Sequence[int | None]) -> int:
        """Return how many replicas there shall be; a proposal that is None is of a metric that nobody could tell.

        Without all metrics the fleet may grow and does not shrink.
        """
        told = [proposal for proposal in proposals if proposal is not None]
        if not told:
            return replicas
        wanted = max(told)
        if len(told) < len(proposals):
            wanted = max(wanted, replicas)
        wanted = self._stabilised(now, replicas, min(max(wanted, self.least), self.most))
        decided = min(max(self._paced(now, replicas, wanted), self.least), self.most)
        if decided != replicas:
            self._changes = [*self._changes[-_REMEMBERED:], (now, decided - replicas)]
        return decided

    def _stabilised(self, now: float, replicas: int, wanted: int) -> int:
        """Shrink to no less than was wanted within the window, grow to no more."""
        self._recommended.append((now, wanted))
        up, down = self.behavior.up.stabilization_seconds, self.behavior.down.stabilization_seconds
        self._recommended = [(at, count) for at, count in self._recommended if at >= now - max(up, down)]
        lowest = min(count for at, count in self._recommended if at >= now - up)
        highest = max(count for at, count in self._recommended if at >= now - down)
        return max(lowest, min(replicas, highest))

    def _paced(self, now: float, replicas: int, wanted: int) -> int:
        """Take no more than one period's step."""
        if wanted > replicas:
            limits = [_grown(self._before(now, replicas, policy), policy) for policy in self.behavior.up.policies]
            return min(wanted, max(limits))
        if wanted < replicas:
            limits = [_shrunk(self._before(now, replicas, policy), policy) for policy in self.behavior.down.policies]
            return max(wanted, min(limits))
        return wanted

    def _before(self, now: float, replicas: int, policy: Policy) -> int:
        """Return the replicas at the policy's period's start."""
        return replicas - sum(change for at, change in self._changes if at > now - policy.period_seconds)


def _grown(before: int, policy: Policy) -> int:
    return before + policy.value if policy.kind == "Pods" else math.ceil(before * (1 + policy.value / 100))


def _shrunk(before: int, policy: Policy) -> int:
    return before - policy.value if policy.kind == "Pods" else math.floor(before * (1 - policy.value / 100))


def per_pod(value: float, target: float, replicas: int) -> int:
    """Return the replicas that bring an external metric to `target` for each (type AverageValue)."""
    if replicas and abs(value / (target * replicas) - 1) <= TOLERANCE:
        return replicas
    return math.ceil(value / target)


def utilisation(used: Sequence[float], target: float, unready: int) -> int:
    """Return the replicas that bring the mean of ready pods' use to `target`; pods not ready yet count as idle.

    They do so only where the fleet would grow, so that it does not grow twice for one need.
    """
    ready = len(used)
    if not ready:
        return unready
    ratio = sum(used) / ready / target
    if ratio > 1 and unready:
        damped = sum(used) / (ready + unready) / target
        return ready + unready if damped <= 1 + TOLERANCE else math.ceil(damped * (ready + unready))
    return ready + unready if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * ready)
