"""How a process stops: SIGTERM or SIGINT sets one event, and one Deadline is the budget of all that follows.

Another event says that a part which should run for ever has died; the process then stops, too, and is started anew.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Final

logger = logging.getLogger(__name__)

_CANCEL_AGAIN_SECONDS: Final = 2.0  #: what a task may take to tidy up


class Deadline:
    """A point on the monotonic clock; every step of a stop takes what `remaining()` still allows."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._at - time.monotonic())

    def before(self, seconds: float) -> "Deadline":
        """Return an earlier deadline, which leaves so many seconds, at most half of all, to what follows."""
        remaining = self.remaining()
        return Deadline(max(remaining - seconds, remaining / 2))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.remaining() == 0.0


def stop_requested() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; call it on the running loop, once."""
    requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, requested.set)
    return requested


async def guarded(work: Coroutine[Any, Any, None], has_died: asyncio.Event) -> None:
    """Run what never ends by itself; log what it dies of, and set the event."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("a background task died", extra={"action": "die"})
        has_died.set()


async def first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def exit_by(deadline: Deadline) -> None:
    """End this process with exit code 1 if it still runs at the deadline.

    A loop waits at its end for its tasks, and the interpreter for threads, however long a neighbour that does not
    answer keeps them. What they were about to tidy up is left, as after a crash.
    """

    def end() -> None:
        logger.error("still busy at the stop deadline: left undone", extra={"action": "stop_overdue"})
        os._exit(1)

    timer = threading.Timer(deadline.remaining(), end)
    timer.daemon = True
    timer.start()


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended.

    Once is not enough: psycopg raises the error of a connection that breaks while it is cancelled, in place of the
    cancellation, and a loop that takes that for a passing fault goes on.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)
