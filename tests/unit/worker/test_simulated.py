"""The simulated model: honest about itself, and the same answer whatever the order and the attempt."""

import numpy as np

from classifier_worker.core.answer import Question
from classifier_worker.core.page import Page
from classifier_worker.models.choice import Meter, load_model
from classifier_worker.models.simulated import SimulatedEngine
from classifier_worker.settings import WorkerSettings

PAGE = Page(
    number=1,
    width_points=100.0,
    height_points=100.0,
    text="a page",
    text_source="layer",
    lines=(),
    structure=None,
    image=np.zeros((4, 4, 3), np.uint8),
)


def scores(*names: str) -> dict[str, float]:
    engine = SimulatedEngine(0.0, lambda *times: None)
    engine.start()
    answer = engine.submit(PAGE, Question(names)).result(5)
    engine.close()
    assert answer.probabilities.sum() == 1.0
    return dict(zip(names, answer.probabilities.tolist(), strict=True))


def test_answer_depends_on_page_and_names_alone() -> None:
    assert scores("invoice", "letter") == scores("letter", "invoice") == scores("invoice", "letter")
    assert len(set(scores("invoice", "letter").values())) == 2


def test_every_result_says_that_the_model_is_simulated() -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "nowhere:1", "DOCFLEET_SIMULATED_MODEL_SECONDS": "0.5"}
    assert load_model(WorkerSettings.from_mapping(environment), Meter()).label == "simulated@1"


def test_no_model_is_simulated_unless_it_is_asked_for() -> None:
    assert WorkerSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": "nowhere:1"}).simulated_model_seconds is None
