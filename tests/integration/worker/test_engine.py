"""The engine with the default bundle: the same page gives the same answer whatever is around it."""

import dataclasses
import io
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from classifier_worker.core.answer import Question
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.engine import Engine, EngineSettings
from classifier_worker.reader.pages import open_document
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode
from tests import documents
from tests.waiting import eventually_sync

NAMES = ("invoice", "scientific paper", "love letter", "Zollerklärung", "x" * 200)
#: What the contract promises.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("default")


class Heard:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.stages: Counter[str] = Counter()
        self.seconds: defaultdict[bool, float] = defaultdict(float)

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        self.batches.append((kind, size, capacity))

    def on_page(self, stage: str, seconds: float, *, ago: float = 0.0) -> None:
        self.stages[stage] += 1

    def on_turn(self, seconds: float, *, is_busy: bool) -> None:
        self.seconds[is_busy] += seconds


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def engine(bundle: Bundle, heard: Heard) -> Iterator[Engine]:
    opened = Engine(bundle, settings=EngineSettings(threads=1), observer=heard)
    opened.start()
    yield opened
    opened.close()


def page_of(document: bytes) -> Page:
    opened = open_document(io.BytesIO(document), len(document), ReadRequest(ocr=False))
    try:
        return opened.page(1)
    finally:
        opened.close()


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    texts = [
        documents.INVOICE,
        "Abstract\nWe show that\nReferences",
        "Dear Anna\nI love you",
        "1\n2\n3",
        documents.LOREM[:80],
    ]
    return [page_of(documents.pdf(pages=1, text=text)) for text in texts] + [
        page_of(documents.encoded(documents.page_picture(), "PNG"))
    ]


def ask(engine: Engine, page: Page, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    return dict(zip(names, engine.submit(page, Question(names)).result(60).probabilities.tolist(), strict=True))


def test_obvious_pages_get_their_names(engine: Engine, pages: list[Page]) -> None:
    best = [max(answer, key=lambda name: answer[name]) for answer in (ask(engine, page) for page in pages[:3])]
    assert best == ["invoice", "scientific paper", "love letter"]


def test_observer_hears_of_pages_batches_and_time(engine: Engine, heard: Heard, pages: list[Page]) -> None:
    before = heard.stages.copy()
    for page in pages[:2]:
        ask(engine, page)
    eventually_sync(lambda: heard.stages["model"] >= before["model"] + 2)
    assert heard.stages - before == {"prepare": 2, "batch_wait": 2, "model": 2}
    assert {kind for kind, _, _ in heard.batches} == {"look", "text", "names"}
    assert all(0 < size <= capacity for _, size, capacity in heard.batches)
    waited = heard.seconds[False]
    eventually_sync(lambda: heard.seconds[False] > waited)  # a wait is told while it lasts
    assert heard.seconds[True] > 0


def test_order_of_the_names_changes_nothing(engine: Engine, pages: list[Page]) -> None:
    for page in pages:
        straight, turned = ask(engine, page), ask(engine, page, NAMES[::-1])
        assert turned == pytest.approx(straight, abs=TOLERANCE)


def test_neighbours_in_a_batch_change_nothing(engine: Engine, pages: list[Page]) -> None:
    alone = [ask(engine, page) for page in pages]
    many = [engine.submit(page, Question(NAMES)) for _ in range(5) for page in pages]
    for number, future in enumerate(many):
        assert future.result(120).probabilities == pytest.approx(
            list(alone[number % len(pages)].values()), abs=TOLERANCE
        )


def test_names_that_others_asked_for_change_nothing(bundle: Bundle, engine: Engine, pages: list[Page]) -> None:
    ask(engine, pages[0], tuple(f"kind {number}" for number in range(300)))
    fresh = Engine(bundle, settings=EngineSettings(threads=1, cached_categories=2))
    fresh.start()
    try:
        assert ask(fresh, pages[0]) == pytest.approx(ask(engine, pages[0]), abs=TOLERANCE)
    finally:
        fresh.close()


def test_answers_are_probabilities_of_every_name(engine: Engine, pages: list[Page]) -> None:
    for page in pages:
        answer = ask(engine, page)
        assert sum(answer.values()) == pytest.approx(1)
        assert all(value >= 0 for value in answer.values())


def test_a_page_that_breaks_the_model_fails_alone(engine: Engine, pages: list[Page]) -> None:
    broken = dataclasses.replace(pages[0], image=np.zeros((0, 0, 3), dtype=np.uint8))
    failing, fine = engine.submit(broken, Question(NAMES)), engine.submit(pages[1], Question(NAMES))
    with pytest.raises(DocfleetError) as caught:
        failing.result(60)
    assert caught.value.code is ErrorCode.MODEL_FAILED
    assert fine.result(60).probabilities.argmax() == 1


def test_closed_engine_answers_everyone(bundle: Bundle, pages: list[Page]) -> None:
    engine = Engine(bundle, settings=EngineSettings(threads=1))
    engine.start()
    futures = [engine.submit(page, Question(NAMES)) for _ in range(10) for page in pages]
    closing = threading.Thread(target=engine.close)
    closing.start()
    for future in futures:
        error = future.exception(60)
        assert error is None or (isinstance(error, DocfleetError) and error.code is ErrorCode.MODEL_FAILED)
    closing.join(60)
    late = engine.submit(pages[0], Question(NAMES)).exception(1)
    assert isinstance(late, DocfleetError)


def test_none_fits_a_page_of_another_kind_better_than_one_of_the_offered(engine: Engine, pages: list[Page]) -> None:
    invoice = pages[0]
    offered = engine.submit(invoice, Question(("invoice", "menu", "passport"))).result(60)
    missing = engine.submit(invoice, Question(("sheet music", "menu", "passport"))).result(60)
    assert offered.none < 0.2 < 0.8 < missing.none


def test_one_name_is_not_certain_by_construction(engine: Engine, pages: list[Page]) -> None:
    assert engine.submit(pages[0], Question(("invoice",))).result(60).none < 0.3
    assert engine.submit(pages[0], Question(("sheet music",))).result(60).none > 0.7


def test_evidence_names_channels_and_the_lines_that_decided_only_when_asked(engine: Engine, pages: list[Page]) -> None:
    assert engine.submit(pages[0], Question(NAMES)).result(60).evidence is None
    evidence = engine.submit(pages[0], Question(NAMES, is_evidence_wanted=True)).result(60).evidence
    assert evidence is not None
    assert evidence.channels["cues"] > 0
    assert "Invoice number 2024-117" in [phrase.text for phrase in evidence.phrases]
    assert len(evidence.phrases) <= 10


TEN_NAMES = ("invoice", "letter", "menu", "passport", "map", "form", "receipt", "memo", "poster", "sheet music")


@pytest.mark.parametrize("shade", [255, 200, 0])
def test_a_blank_page_is_answered_with_no_confidence_unless_blank_is_offered(engine: Engine, shade: int) -> None:
    blank = page_of(documents.encoded(Image.new("L", (850, 1100), shade), "PNG"))
    told = ask(engine, blank, TEN_NAMES)
    assert max(told.values()) < 0.3
    told = ask(engine, blank, (*TEN_NAMES, "blank page"))
    assert max(told, key=lambda name: told[name]) == "blank page"


def test_none_is_not_judged_where_it_is_not_asked(engine: Engine, pages: list[Page]) -> None:
    names = ("sheet music", "menu", "passport")
    asked = engine.submit(pages[0], Question(names)).result(60)
    unasked = engine.submit(pages[0], Question(names, is_none_wanted=False)).result(60)
    assert asked.none > 0.8
    assert unasked.none == 0
    assert unasked.probabilities == pytest.approx(asked.probabilities, abs=TOLERANCE)
