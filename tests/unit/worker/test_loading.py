"""A model that does not load is tried again where that can help, and counted, and known to be missing meanwhile."""

import pytest
from prometheus_client import REGISTRY

from classifier_worker import loading
from classifier_worker.models.choice import ChosenModel, Meter
from classifier_worker.models.simulated import PAGE_WEIGHTS, SimulatedEngine
from classifier_worker.models.weights import InvalidBundle
from classifier_worker.settings import WorkerSettings
from docfleet import metrics

SETTINGS = WorkerSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": "nowhere:1"})


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.expose(metrics.CLASSIFIER_WORKER)
    metrics.MODEL_READY.set(0)
    monkeypatch.setattr(loading, "_PAUSES_SECONDS", (0.0, 0.0))


def load(monkeypatch: pytest.MonkeyPatch, *faults: Exception) -> ChosenModel:
    """Load a model whose first tries end with these faults."""
    left = list(faults)

    def once(settings: WorkerSettings, meter: Meter) -> ChosenModel:
        if left:
            raise left.pop(0)
        return ChosenModel(SimulatedEngine(0.0, meter.on_page), "small@3", PAGE_WEIGHTS)

    monkeypatch.setattr(loading, "load_model", once)
    return loading.load(SETTINGS, Meter())


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_passing_faults_are_counted_and_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = told("docfleet_model_load_failures_total")
    load(monkeypatch, OSError("a stale handle"), RuntimeError("CUDA out of memory")).engine.close()
    assert told("docfleet_model_load_failures_total") == before + 2
    assert told("docfleet_model_ready") == 1
    assert told("docfleet_model_info", model="small@3") == 1


def test_third_failure_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    before = told("docfleet_model_load_failures_total")
    with pytest.raises(RuntimeError, match="third"):
        load(monkeypatch, RuntimeError("first"), RuntimeError("second"), RuntimeError("third"))
    assert told("docfleet_model_load_failures_total") == before + 3
    assert told("docfleet_model_ready") == 0


def test_bundle_that_is_wrong_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = told("docfleet_model_load_failures_total")
    with pytest.raises(InvalidBundle):
        load(monkeypatch, InvalidBundle("no such folder"))
    assert told("docfleet_model_load_failures_total") == before + 1
    assert told("docfleet_model_ready") == 0


def test_a_wait_is_starvation_only_while_the_worker_holds_jobs() -> None:
    meter = Meter()
    before = {state: told("docfleet_engine_seconds_total", state=state) for state in ("busy", "starved", "idle")}
    meter.on_turn(1.0, is_busy=False)
    meter.is_needed = lambda: True
    meter.on_turn(2.0, is_busy=False)
    meter.on_turn(4.0, is_busy=True)
    grown = {state: told("docfleet_engine_seconds_total", state=state) - before[state] for state in before}
    assert grown == {"idle": 1.0, "starved": 2.0, "busy": 4.0}
