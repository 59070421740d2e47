"""The simulated HPA and KEDA: what Kubernetes and KEDA document, case by case."""

from dataclasses import replace

import pytest

from benchmarks.autoscaling.fleets import ours, variants
from benchmarks.autoscaling.hpa import Autoscaler, Behavior, Policy, Rules, per_pod, utilisation
from benchmarks.autoscaling.keda import Fallback, Keda, ScaledObject, Sight, Trigger, read_scaled_object

SLOWLY = Behavior(
    up=Rules(0, (Policy("Percent", 100, 30), Policy("Pods", 4, 30))), down=Rules(60, (Policy("Percent", 25, 120),))
)


def sight(lags: list[int], committed: list[int] | None = None, held_back: int = 0, oldest: float = 0) -> Sight:
    return Sight(committed or [0] * len(lags), lags, held_back, oldest)


def test_metric_within_a_tenth_of_its_target_changes_nothing() -> None:
    assert per_pod(210, 100, 2) == 2
    assert per_pod(230, 100, 2) == 3
    assert per_pod(0, 100, 2) == 0


def test_fleet_grows_by_the_policy_that_allows_most_and_no_more_within_its_period() -> None:
    hpa = Autoscaler(1, 50, SLOWLY)
    assert hpa.decide(0, 1, [40]) == 5
    assert hpa.decide(15, 5, [40]) == 5
    assert hpa.decide(30, 5, [40]) == 10
    assert hpa.decide(60, 10, [40]) == 20


def test_fleet_shrinks_only_when_less_was_wanted_all_through_the_window_and_then_in_steps() -> None:
    hpa = Autoscaler(1, 50, SLOWLY)
    assert hpa.decide(0, 20, [20]) == 20
    assert hpa.decide(45, 20, [2]) == 20
    assert hpa.decide(75, 20, [2]) == 15
    assert hpa.decide(90, 15, [2]) == 15
    assert hpa.decide(200, 15, [2]) == 11


def test_without_some_metrics_the_fleet_grows_but_does_not_shrink() -> None:
    assert Autoscaler(1, 50, Behavior()).decide(0, 5, [None, 2]) == 5
    assert Autoscaler(1, 50, Behavior()).decide(0, 5, [None, 8]) == 8
    assert Autoscaler(1, 50, Behavior()).decide(0, 5, [None]) == 5


def test_pods_that_are_not_ready_count_as_idle_while_the_fleet_grows() -> None:
    assert utilisation([1.0, 1.0], 0.5, 0) == 4
    assert utilisation([1.0, 1.0], 0.5, 2) == 4
    assert utilisation([0.2, 0.2, 0.2, 0.2], 0.8, 0) == 1


def test_keda_starts_the_first_worker_and_stops_the_last_after_the_cooldown() -> None:
    now = sight([0, 0])
    keda = Keda(ScaledObject(triggers=(Trigger("jobs", 10),), cooldown_seconds=100), lambda: now)
    now = sight([3, 0])
    assert keda.sync(0, 0) == 0, "an HPA does not start a fleet"
    assert keda.poll(10, 0) == 1
    now = sight([0, 0])
    assert keda.poll(100, 1) == 1
    assert keda.poll(111, 1) == 0


@pytest.mark.parametrize(("excludes", "expected"), [(False, 5), (True, 1)])
def test_lag_that_nobody_works_on_is_no_lag_where_persistent_lag_is_excluded(excludes: bool, expected: int) -> None:
    """As while the first worker starts: nothing is committed for minutes, and the fleet stays at one."""
    keda = Keda(ScaledObject(triggers=(Trigger("jobs", 100, 0, excludes),)), lambda: sight([50] * 20, [7] * 20))
    assert keda.poll(0, 0) == 1
    assert keda.sync(15, 1) == expected


def test_lag_that_is_worked_on_counts_where_persistent_lag_is_excluded() -> None:
    seen = [sight([50] * 20, [number] * 20) for number in range(3)]
    keda = Keda(ScaledObject(triggers=(Trigger("jobs", 100, 0, True),)), lambda: seen.pop(0))
    assert keda.poll(0, 0) == 1
    assert keda.sync(15, 1) == 5


def test_no_more_workers_than_partitions_are_asked_for() -> None:
    keda = Keda(ScaledObject(triggers=(Trigger("jobs", 10),), behavior=Behavior()), lambda: sight([900, 900, 900]))
    assert keda.sync(0, 2) == 3


@pytest.mark.parametrize(("fallback", "expected"), [("static", 2), ("currentReplicasIfHigher", 8)])
def test_fleet_without_metrics_keeps_its_size_unless_the_fallback_is_static(fallback: str, expected: int) -> None:
    settings = ScaledObject(triggers=(Trigger("jobs", 10),), fallback=Fallback(3, 2, fallback))
    keda = Keda(settings, lambda: None)
    replicas = 8
    for at in range(0, 900, 15):
        replicas = keda.sync(at, replicas)
    assert replicas == expected


def test_our_settings_are_those_of_the_files_and_variants_differ_from_them() -> None:
    keda, fleet = read_scaled_object(), ours()
    assert {trigger.kind for trigger in keda.triggers} == {"jobs", "held-back", "arrivals", "oldest-job"}
    assert not any(trigger.excludes_persistent_lag for trigger in keda.triggers)
    assert fleet.keda is not None
    assert fleet.keda.most + fleet.floor == fleet.partitions
    assert fleet.keda.fallback is not None
    assert fleet.keda.fallback.behavior == "currentReplicasIfHigher"
    for other in variants(fleet):
        assert replace(other, name=fleet.name) != fleet, other.name
