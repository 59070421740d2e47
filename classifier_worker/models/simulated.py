"""A model that is none, for load and fault tests: its answer is a function of the page's text and the names alone.

It takes the declared time for each page, one page after another, as a device would. Everything around it is real, and
its name stands in every result, so that nobody takes an answer of it for one.
"""

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import numpy as np

from classifier_worker.core.answer import PageAnswer, Question
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.page import Page

#: What results call it.
SIMULATED_MODEL = "simulated@1"
PAGE_WEIGHTS = PageWeights()


class SimulatedEngine:
    """Has the port of `Engine`; each page takes `page_seconds`, and `on_page` hears of it as an engine's observer."""

    def __init__(self, page_seconds: float, on_page: Callable[[str, float], None]) -> None:
        self._page_seconds = page_seconds
        self._on_page = on_page
        self._device = ThreadPoolExecutor(1, thread_name_prefix="simulated-model")

    def start(self) -> None:
        """Do nothing: there is nothing to warm up."""

    def close(self) -> None:
        """Stop after the page in hand; pages that wait are cancelled."""
        self._device.shutdown(wait=True, cancel_futures=True)

    def submit(self, page: Page, question: Question) -> "Future[PageAnswer]":
        """Return the future answer."""
        return self._device.submit(copy_context().run, self._answer, page, question, time.perf_counter())

    def _answer(self, page: Page, question: Question, submitted_at: float) -> PageAnswer:
        taken_at = time.perf_counter()
        self._on_page("batch_wait", taken_at - submitted_at)
        time.sleep(self._page_seconds)
        self._on_page("model", time.perf_counter() - taken_at)
        odds = np.array([_odds(page.text, name) for name in question.categories])
        return PageAnswer(odds / odds.sum(), none=0.0)


def _odds(text: str, name: str) -> float:
    """Return a number from 0 to 2**32, not 0, that the order of the names does not change."""
    return 1.0 + int.from_bytes(hashlib.sha256(f"{name}\n{text}".encode(errors="replace")).digest()[:4], "big")
