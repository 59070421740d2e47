"""The breaker: ends the job that holds others back, so that a partition's mark moves and a record's lock is kept.

Owns one thread that looks every half second. It first asks the job's own thread to stop, which then sends the
job to the retry topic, or says that it failed after its last attempt; when that thread does not react, the
breaker does so for it. Whichever it is claims the job's end first, so one of them tells.
Why retry and not failure: docs/decisions/0008-a-job-that-holds-its-partition-back-is-tried-again.md.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from classifier_worker.ending import Ending, TakenOver
from classifier_worker.handoff import Delivery, HandOff
from classifier_worker.outcome import HandedBack
from docfleet import metrics

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5


class Breaker:
    """Looks after the jobs of a hand-off. `take_over` ends a job in place of its thread."""

    def __init__(
        self, handoff: HandOff, take_over: Callable[[Delivery], None], *, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._handoff = handoff
        self._take_over = take_over
        self._look_seconds = look_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="breaker", daemon=True)
        self._taken_over: set[Ending] = set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closing.set()

    @property
    def hung(self) -> int:
        """How many threads have not come back from jobs that were taken over."""
        return sum(not ending.is_left for ending in self._taken_over)

    def look(self) -> None:
        """Stop what is overdue, and take over what was stopped and did not end."""
        for delivery in self._handoff.overdue():
            ending = delivery.ending
            if not ending.is_overdue:
                ran_seconds = time.monotonic() - ending.started_at
                ending.cancel_overdue(f"The job ran for {ran_seconds:.0f} s, held others back, and was stopped.")
                self._tell("stopped", delivery)
            elif ending.overdue_seconds(time.monotonic()) > self._handoff.grace_seconds(delivery):
                self._end(delivery)

    def _end(self, delivery: Delivery) -> None:
        try:
            self._take_over(delivery)
        except (TakenOver, HandedBack):
            return
        self._taken_over = {ending for ending in self._taken_over if not ending.is_left} | {delivery.ending}
        self._tell("taken_over", delivery)

    def _tell(self, how: str, delivery: Delivery) -> None:
        metrics.HEADS_BROKEN.labels(how).inc()
        with delivery.as_subject():
            extra = {"action": f"head_{how}", "ticket": delivery.ticket}
            logger.warning("a job held others back: %s", how, extra=extra)

    def _run(self) -> None:
        while not self._closing.wait(self._look_seconds):
            try:
                self.look()
            except Exception:
                logger.exception("the breaker failed", extra={"action": "breaker_failed"})
