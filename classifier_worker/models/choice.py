"""Which model a worker runs: the settings' bundle on the settings' device, or the simulated one.

torch and its libraries take seconds to import, so they are only imported where a bundle is loaded.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from classifier_worker.core.answer import PageAnswer, Question
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.page import Page
from classifier_worker.models.simulated import PAGE_WEIGHTS, SIMULATED_MODEL, SimulatedEngine
from classifier_worker.settings import WorkerSettings
from docfleet import metrics, tracing

logger = logging.getLogger(__name__)


class RunningModel(Protocol):
    """What answers questions about pages, from `start` to `close`."""

    def start(self) -> None:
        """Warm up; returns when it answers at full speed."""

    def close(self) -> None:
        """Stop; pages that wait get no answer."""

    def submit(self, page: Page, question: Question) -> "Future[PageAnswer]":
        """Return the future answer."""
        ...


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A model that is loaded and not started yet, and what a result says of it."""

    engine: RunningModel
    label: str  #: `name@version`
    page_weights: PageWeights


class Meter:
    """Counts what an engine does; `is_needed` says whether this worker holds jobs, so that a wait is starvation."""

    def __init__(self) -> None:
        self.is_needed: Callable[[], bool] = lambda: False

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        """Count a batch."""
        metrics.BATCH_PAGES.labels(kind).observe(size)
        metrics.BATCH_FILL.labels(kind).observe(size / capacity)
        metrics.BATCH_SECONDS.labels(kind).observe(seconds)

    def on_page(self, stage: str, seconds: float, *, ago: float = 0.0) -> None:
        """Count a page's stage, and make it a span of its job's trace."""
        metrics.PAGE_SECONDS.labels(stage).observe(seconds)
        tracing.record(stage, seconds, ago=ago)

    def on_turn(self, seconds: float, *, is_busy: bool) -> None:
        """Count the time of the engine's thread."""
        state = "busy" if is_busy else "starved" if self.is_needed() else "idle"
        metrics.ENGINE_SECONDS.labels(state).inc(seconds)


def load_model(settings: WorkerSettings, meter: Meter) -> ChosenModel:
    """Return the model that the settings name; `meter` hears what it does. Blocks while it is loaded."""
    if settings.simulated_model_seconds is not None:
        logger.warning(
            "the model is simulated: answers mean nothing",
            extra={"action": "model_simulated", "page_seconds": settings.simulated_model_seconds},
        )
        engine = SimulatedEngine(settings.simulated_model_seconds, meter.on_page)
        return ChosenModel(engine, SIMULATED_MODEL, PAGE_WEIGHTS)
    return _load_bundle(settings, meter)


def _load_bundle(settings: WorkerSettings, meter: Meter) -> ChosenModel:
    import torch

    from classifier_worker.models.bundle import load_bundle
    from classifier_worker.models.engine import GPU_SETTINGS, Engine, EngineSettings

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    bundle = load_bundle(settings.bundle, device=device)
    engine_settings = GPU_SETTINGS if device == "cuda" else EngineSettings(threads=settings.torch_threads)
    engine = Engine(bundle, settings=engine_settings, observer=meter)
    return ChosenModel(engine, bundle.label, bundle.page_weights)
