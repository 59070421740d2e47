"""The model, loaded and warmed up, or the reason why not: what the metrics say of it.

A bundle that is wrong is wrong for every try, and the process ends at once. Anything else may pass: a device that
another process is still leaving, a network disk that stalls. So it is tried again here, where
`/metrics` can tell that it failed, before the process gives up and leaves it to whoever starts processes.
"""

import logging
import time
from typing import Final

from classifier_worker.models.choice import ChosenModel, Meter, load_model
from classifier_worker.models.weights import InvalidBundle
from classifier_worker.settings import WorkerSettings
from docfleet import metrics

logger = logging.getLogger(__name__)

#: Between two tries.
_PAUSES_SECONDS: Final = (5.0, 15.0)


def load(settings: WorkerSettings, meter: Meter) -> ChosenModel:
    """Return the settings' model, ready to answer. Blocks.

    Raises:
        InvalidBundle: it can never be loaded.
        Exception: what the last try ended with.

    """
    for pause_seconds in _PAUSES_SECONDS:
        try:
            return _try(settings, meter)
        except InvalidBundle:
            raise
        except Exception:
            extra = {"action": "model_load_failed", "next_try_seconds": pause_seconds}
            logger.exception("the model could not be loaded", extra=extra)
            time.sleep(pause_seconds)
    return _try(settings, meter)


def _try(settings: WorkerSettings, meter: Meter) -> ChosenModel:
    began = time.monotonic()
    try:
        model = load_model(settings, meter)
        model.engine.start()  # warms up
    except Exception:
        metrics.MODEL_LOAD_FAILURES.inc()
        raise
    metrics.MODEL_LOAD_SECONDS.set(time.monotonic() - began)
    metrics.MODEL_INFO.labels(model.label).set(1)
    metrics.MODEL_READY.set(1)
    return model
