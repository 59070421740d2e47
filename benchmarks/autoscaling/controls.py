"""Who decides how many workers there are: KEDA with its HPA, an HPA on processor use, or nobody."""

from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.autoscaling.hpa import Autoscaler, Behavior, utilisation
from benchmarks.autoscaling.keda import Keda


class Control(Protocol):
    """What is asked for the number of replicas; `poll_seconds` is None where nobody polls."""

    poll_seconds: float | None

    def poll(self, now: float, replicas: int) -> int:
        """Return the replicas after one poll."""
        ...

    def sync(self, now: float, replicas: int) -> int:
        """Return the replicas after one of the HPA's rounds."""
        ...


class KedaControl:
    """KEDA switches on and off, its HPA does the rest."""

    def __init__(self, keda: Keda) -> None:
        self.poll_seconds: float | None = keda.settings.polling_seconds
        self.poll, self.sync = keda.poll, keda.sync


class CpuControl:
    """An HPA on the mean processor use of the pods, in parts of what they request; it cannot reach none."""

    poll_seconds: float | None = None

    def __init__(
        self, *, least: int, most: int, target: float, uses: Callable[[], tuple[Sequence[float], int]]
    ) -> None:
        self._hpa = Autoscaler(least, most, Behavior())
        self._target = target
        self._uses = uses

    def poll(self, now: float, replicas: int) -> int:  # noqa: ARG002  # the protocol's
        """Do nothing."""
        return replicas

    def sync(self, now: float, replicas: int) -> int:
        """Return what the HPA decides."""
        used, unready = self._uses()
        return self._hpa.decide(now, replicas, [utilisation(used, self._target, unready)])


class FixedControl:
    """As many as there were."""

    poll_seconds: float | None = None

    def poll(self, now: float, replicas: int) -> int:  # noqa: ARG002  # the protocol's
        """Do nothing."""
        return replicas

    sync = poll
