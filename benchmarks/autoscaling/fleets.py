"""The fleets that are compared: ours as deploy/k8s says, two that are set up without much thought, and ours changed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.autoscaling.hpa import Behavior
from benchmarks.autoscaling.keda import SCALED_OBJECT, Fallback, ScaledObject, Trigger, read_scaled_object
from benchmarks.autoscaling.world import Fleet

_K8S: Final = SCALED_OBJECT.parents[2]
_OUTAGE: Final = (12.5 * 3600, 13.5 * 3600)  #: of all triggers, at the height of the day
Change = Callable[[ScaledObject], ScaledObject]


def ours() -> Fleet:
    """Return the fleet of the overlay gke: KEDA's component, its patches, and the two workers that stay (ha)."""
    keda = read_scaled_object(patch=_K8S / "overlays" / "gke" / "scaled-object.yaml")
    partitions = _setting("DOCFLEET_JOBS_PARTITIONS", _K8S / "overlays" / "gke" / "kustomization.yaml")
    return Fleet(name="docfleet, overlay gke", partitions=partitions, floor=2, keda=keda)


def naive() -> list[Fleet]:
    """Return two fleets as one finds them, and a fixed one as the yardstick for waits."""
    example = ScaledObject(triggers=(Trigger("jobs", 10.0, excludes_persistent_lag=True),), most=48)
    return [
        Fleet(name="HPA on processor use, 70 %", cpu_target=0.7, least=2, most=48),
        Fleet(name="KEDA, lagThreshold 10, excludePersistentLag", keda=example),
        Fleet(name="always 24 workers", least=24),
    ]


def variants(fleet: Fleet) -> list[Fleet]:
    """Return `fleet` with one thing changed in each; what it has already is left out."""

    def other(name: str, change: Change, **settings: Any) -> Fleet:
        assert fleet.keda is not None
        return replace(fleet, name=name, keda=change(fleet.keda), **settings)

    def same(keda: ScaledObject) -> ScaledObject:
        return keda

    changed = [
        replace(
            with_thresholds(fleet, {"jobs": 50, "held-back": 50, "oldest-job": 60}),
            name="one worker for 50 jobs (lag, held back) and each minute of the oldest",
        ),
        other("no trigger on arrivals", _without_arrivals),
        other("excludePersistentLag", _persistent),
        other("it shrinks as Kubernetes does by default", lambda keda: replace(keda, behavior=Behavior())),
        other("no workers that stay", lambda keda: replace(keda, most=fleet.partitions), floor=0),
        other("12 partitions", lambda keda: replace(keda, most=10), partitions=12),
        other("a tenant may have 1000 jobs in Kafka", same, tenant_jobs_in_flight=1000),
        other("nothing held back", same, tenant_jobs_in_flight=0),
        other("an hour without metrics", same, outage=_OUTAGE),
        other(
            "an hour without metrics, fallback static 2",
            lambda keda: replace(keda, fallback=Fallback(4, 2)),
            outage=_OUTAGE,
        ),
    ]
    return [one for one in changed if replace(one, name=fleet.name) != fleet]


def with_thresholds(fleet: Fleet, told: Mapping[str, float]) -> Fleet:
    """Return `fleet` with other thresholds, by kind of trigger."""
    assert fleet.keda is not None
    triggers = tuple(replace(one, threshold=told.get(one.kind, one.threshold)) for one in fleet.keda.triggers)
    return replace(fleet, keda=replace(fleet.keda, triggers=triggers))


def _without_arrivals(keda: ScaledObject) -> ScaledObject:
    return replace(keda, triggers=tuple(one for one in keda.triggers if one.kind != "arrivals"))


def _persistent(keda: ScaledObject) -> ScaledObject:
    return replace(
        keda, triggers=tuple(replace(one, excludes_persistent_lag=one.kind == "jobs") for one in keda.triggers)
    )


def _setting(name: str, path: Path) -> int:
    literals = [
        one
        for part in yaml.safe_load(path.read_text(encoding="utf-8"))["configMapGenerator"]
        for one in part["literals"]
    ]
    return int(dict(literal.split("=", 1) for literal in literals)[name])
