"""KEDA's part: which replicas a ScaledObject asks for, from none to one and back, and what it tells the HPA.

After https://keda.sh/docs/2.20/scalers/apache-kafka/, /concepts/scaling-deployments/ and kedacore/keda's
pkg/scalers/kafka_scaler.go and pkg/scaling/executor. KEDA switches between none and one; from one on an HPA decides,
which asks KEDA for the metrics, and each such question looks at Kafka anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.autoscaling.hpa import Autoscaler, Behavior, Policy, Rules, per_pod

SCALED_OBJECT: Final = Path(__file__).parents[2] / "deploy" / "k8s" / "components" / "keda" / "scaled-object.yaml"
#: What triggers may look at, by the name they have in the file; arrivals are jobs a second over the last two minutes.
KINDS: Final = ("jobs", "held-back", "oldest-job", "arrivals")


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger; `kind` is what it looks at, one of KINDS."""

    kind: str
    threshold: float
    activation: float = 0.0
    excludes_persistent_lag: bool = False


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is done when a trigger could not be asked `threshold` times in a row."""

    threshold: int
    replicas: int
    behavior: str = "static"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledObject:
    """The settings, KEDA's defaults unless told otherwise."""

    triggers: tuple[Trigger, ...]
    least: int = 0
    most: int = 100
    polling_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    fallback: Fallback | None = None
    behavior: Behavior = field(default_factory=Behavior)


@dataclass(frozen=True, slots=True)
class Sight:
    """What triggers can see: per partition the committed offset and the lag, and what Prometheus knows."""

    committed: Sequence[int]
    lags: Sequence[int]
    held_back: int
    oldest_seconds: float
    arrivals_per_second: float = 0.0  #: over the last two minutes


class Keda:
    """The operator and its HPA for one ScaledObject."""

    def __init__(self, settings: ScaledObject, look: Callable[[], Sight | None]) -> None:
        self.settings = settings
        self._look = look
        self._hpa = Autoscaler(max(1, settings.least), settings.most, settings.behavior)
        self._previous: dict[str, list[int]] = {}
        self._active_at = 0.0
        self._failures = 0

    def poll(self, now: float, replicas: int) -> int:
        """Return the replicas after one of KEDA's own polls, which only switches a fleet on and off."""
        sight = self._look()
        if sight is None:
            self._failures += 1
            return replicas
        self._failures = 0
        values = [(trigger, self._value(trigger, sight, is_activation=True)) for trigger in self.settings.triggers]
        if any(value > trigger.activation for trigger, value in values):
            self._active_at = now
            return replicas or max(1, self.settings.least)
        if now - self._active_at >= self.settings.cooldown_seconds:
            return self.settings.least
        return replicas

    def sync(self, now: float, replicas: int) -> int:
        """Return the replicas after one of the HPA's decisions; it does not decide about none."""
        if not replicas:
            return 0
        sight = self._look()
        proposals: list[int | None]
        if sight is None:
            self._failures += 1
            proposals = [self._fall_back(replicas)] * len(self.settings.triggers)
        else:
            proposals = [
                per_pod(self._value(trigger, sight), trigger.threshold, replicas) for trigger in self.settings.triggers
            ]
        return self._hpa.decide(now, replicas, proposals)

    def _fall_back(self, replicas: int) -> int | None:
        told = self.settings.fallback
        if told is None or self._failures < told.threshold:
            return None
        return max(told.replicas, replicas) if told.behavior == "currentReplicasIfHigher" else told.replicas

    def _value(self, trigger: Trigger, sight: Sight, *, is_activation: bool = False) -> float:
        told = {
            "held-back": sight.held_back,
            "oldest-job": sight.oldest_seconds,
            "arrivals": sight.arrivals_per_second,
        }
        if trigger.kind in told:
            return told[trigger.kind]
        lags = list(sight.lags)
        if trigger.excludes_persistent_lag:
            previous = self._previous.get(trigger.kind)
            self._previous[trigger.kind] = list(sight.committed)
            if previous is not None and not is_activation:
                # an offset that has not moved since anybody looked is taken for stuck, and its lag for none
                lags = [lag * (was != now) for lag, was, now in zip(lags, previous, sight.committed, strict=True)]
        # no more consumers than partitions are asked for (allowIdleConsumers is false)
        return min(sum(lags), len(lags) * trigger.threshold)


def read_scaled_object(path: Path = SCALED_OBJECT, patch: Path | None = None) -> ScaledObject:
    """Return the settings of a ScaledObject's file, after an overlay's JSON patch of it (RFC 6902, `replace` alone).

    The trigger for retries is left out, as no job of the simulation fails for a passing reason.
    """
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for operation in yaml.safe_load(patch.read_text(encoding="utf-8")) if patch else ():
        _replace(document, **operation)
    spec = document["spec"]
    told = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    fallback = spec["fallback"]
    return ScaledObject(
        triggers=tuple(_trigger(one) for one in spec["triggers"] if one["name"] != "retries"),
        least=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        polling_seconds=float(spec["pollingInterval"]),
        cooldown_seconds=float(spec["cooldownPeriod"]),
        fallback=Fallback(fallback["failureThreshold"], fallback["replicas"], fallback.get("behavior", "static")),
        behavior=Behavior(_rules(told["scaleUp"]), _rules(told["scaleDown"])),
    )


def _replace(document: Any, *, op: str, path: str, value: Any) -> None:
    if op != "replace":
        raise ValueError(f"the simulation does not know the operation {op!r} of a patch")
    *way, last = (int(key) if key.isdigit() else key for key in path.strip("/").split("/"))
    for key in way:
        document = document[key]
    if last not in (document if isinstance(document, dict) else range(len(document))):
        raise ValueError(f"there is no {path} to replace")
    document[last] = value


def _trigger(told: dict[str, Any]) -> Trigger:
    data = told["metadata"]
    if told["name"] not in KINDS:
        raise ValueError(f"the simulation does not know what the trigger {told['name']!r} looks at")
    if told["type"] == "kafka":
        return Trigger(
            told["name"],
            float(data["lagThreshold"]),
            float(data["activationLagThreshold"]),
            data["excludePersistentLag"] == "true",
        )
    return Trigger(told["name"], float(data["threshold"]), float(data["activationThreshold"]))


def _rules(told: dict[str, Any]) -> Rules:
    policies = tuple(Policy(one["type"], one["value"], float(one["periodSeconds"])) for one in told["policies"])
    return Rules(float(told["stabilizationWindowSeconds"]), policies)
