"""The engine with the default bundle: the same page gives the same answer whatever is around it."""

import dataclasses
import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.engine import Engine, EngineSettings
from classifier_worker.reader.pages import open_document
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode
from tests import documents

NAMES = ("invoice", "scientific paper", "love letter", "Zollerklärung", "x" * 200)
#: What the contract promises.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle("default")


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    opened = Engine(bundle, settings=EngineSettings(threads=1))
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
    return dict(zip(names, engine.submit(page, names).result(60).tolist(), strict=True))


def test_obvious_pages_get_their_names(engine: Engine, pages: list[Page]) -> None:
    best = [max(answer, key=lambda name: answer[name]) for answer in (ask(engine, page) for page in pages[:3])]
    assert best == ["invoice", "scientific paper", "love letter"]


def test_order_of_the_names_changes_nothing(engine: Engine, pages: list[Page]) -> None:
    for page in pages:
        straight, turned = ask(engine, page), ask(engine, page, NAMES[::-1])
        assert turned == pytest.approx(straight, abs=TOLERANCE)


def test_neighbours_in_a_batch_change_nothing(engine: Engine, pages: list[Page]) -> None:
    alone = [ask(engine, page) for page in pages]
    many = [engine.submit(page, NAMES) for _ in range(5) for page in pages]
    for number, future in enumerate(many):
        assert future.result(120) == pytest.approx(list(alone[number % len(pages)].values()), abs=TOLERANCE)


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
    failing, fine = engine.submit(broken, NAMES), engine.submit(pages[1], NAMES)
    with pytest.raises(DocfleetError) as caught:
        failing.result(60)
    assert caught.value.code is ErrorCode.MODEL_FAILED
    assert fine.result(60).argmax() == 1


def test_closed_engine_answers_everyone(bundle: Bundle, pages: list[Page]) -> None:
    engine = Engine(bundle, settings=EngineSettings(threads=1))
    engine.start()
    futures = [engine.submit(page, NAMES) for _ in range(10) for page in pages]
    closing = threading.Thread(target=engine.close)
    closing.start()
    for future in futures:
        error = future.exception(60)
        assert error is None or (isinstance(error, DocfleetError) and error.code is ErrorCode.MODEL_FAILED)
    closing.join(60)
    late = engine.submit(pages[0], NAMES).exception(1)
    assert isinstance(late, DocfleetError)
