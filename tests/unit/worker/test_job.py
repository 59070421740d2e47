"""How a job ends when telling its end fails in a way that nothing foresaw."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from classifier_worker.core.answer import PageAnswer
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.held import Bounds
from classifier_worker.core.page import Document, Page
from classifier_worker.core.retry import RetryPolicy
from classifier_worker.handoff import HandOffOptions, RawMessage
from classifier_worker.job import JobRules, JobRunner, Neighbours
from classifier_worker.partition_handoff import PartitionHandOff
from classifier_worker.reader.wire import ReadRequest
from docfleet.kafka import Delivered
from schemas import events, topics
from tests.events import requested

PLACE = ("docfleet.jobs", 0)
PAGE = Page(
    number=1,
    width_points=1.0,
    height_points=1.0,
    text="",
    text_source="none",
    lines=(),
    structure=None,
    image=np.zeros((1, 1, 3), np.uint8),
)


class Told:
    """Events that are delivered at once, but for what `refusal` raises."""

    def __init__(self, refusal: Callable[[events.Event], None]) -> None:
        self.events: list[events.Event] = []
        self._refusal = refusal

    def publish(self, topic: topics.Topic, event: events.Event, **_how: Any) -> Future[Delivered]:
        self._refusal(event)
        self.events.append(event)
        future: Future[Delivered] = Future()
        future.set_result(Delivered(topic.name, 0, 0))
        return future


class OnePage:
    def read(self, _source: Any, _request: Any, *, on_page: Any, **_how: Any) -> Document:
        on_page(PAGE, 1)
        return Document(total_pages=1, is_image=False, pages=(PAGE,))

    def submit(self, _page: Page, question: Any) -> Future[PageAnswer]:
        future: Future[PageAnswer] = Future()
        future.set_result(PageAnswer(np.full(len(question.categories), 1 / len(question.categories)), 0.0))
        return future


def test_a_job_whose_end_cannot_be_told_is_handed_back_and_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as when the schema registry went away before the first result's schema was asked for."""
    is_away = True

    def refusal(event: events.Event) -> None:
        if is_away and isinstance(event, events.ClassificationCompleted):
            raise ConnectionError("the registry is away")

    handoff = PartitionHandOff(HandOffOptions(bounds=Bounds(8, 1 << 30), decode=lambda _value: requested()))
    handoff.assign([PLACE])
    handoff.arrive(PLACE, 5, RawMessage(b"k", b"v", []), 0.0)
    told, reader = Told(refusal), OnePage()
    neighbours = Neighbours(intake=handoff, events=told, objects=None, reader=reader, classifier=reader)  # type: ignore[arg-type]
    rules = JobRules(
        read=ReadRequest(), retry=RetryPolicy(5, 1, 60), model="m@1", page_weights=PageWeights(), model_seconds=5
    )
    runner = JobRunner(neighbours, rules)
    first = handoff.receive(0)
    assert first is not None
    with pytest.raises(ConnectionError):
        runner.run(first)
    assert handoff.jobs == 0
    assert handoff.is_holding_back, "it waits to be taken up again"
    is_away = False
    seconds = time.time()
    monkeypatch.setattr(time, "time", lambda: seconds + 5)
    handoff.admit_due()
    again = handoff.receive(0)
    assert again is not None
    runner.run(again)
    assert isinstance(told.events[-1], events.ClassificationCompleted)
    assert handoff.advanced()[PLACE][0] == 6
