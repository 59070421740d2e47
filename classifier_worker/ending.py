"""How a started job ends in this worker: once, by whoever claims its end first.

The thread that does the job claims it before it tells anything; the breaker claims it when the job's time
is over and that thread does not react. Whoever comes second tells nothing and acknowledges nothing.
"""

import threading
import time


class TakenOver(Exception):
    """Somebody else ended this job."""


class Ending:
    """The end of one delivery. Safe to use from many threads."""

    def __init__(self) -> None:
        self.started_at = time.monotonic()  #: set anew when the job starts
        self.cancelled = threading.Event()  #: set: the job should stop as soon as it notices
        self.overdue_because = ""  #: a sentence for the client when the breaker stopped the job
        self.is_left = False  #: whether the thread that did the job has come back from it
        self._cancelled_at: float | None = None
        self._lock = threading.Lock()
        self._is_claimed = False

    @property
    def is_overdue(self) -> bool:
        """Whether the breaker stopped the job."""
        return bool(self.overdue_because)

    @property
    def is_claimed(self) -> bool:
        """Whether the job's end is being told, or was."""
        return self._is_claimed

    def claim(self) -> None:
        """Take the right to end the job; TakenOver when another thread has it."""
        with self._lock:
            if self._is_claimed:
                raise TakenOver
            self._is_claimed = True

    def cancel_overdue(self, why: str) -> None:
        """Ask the job's thread to stop, because the job's time is over."""
        self.overdue_because = why
        self._cancelled_at = time.monotonic()
        self.cancelled.set()

    def overdue_seconds(self, now: float) -> float:
        """Return for how long the job's thread has been asked to stop."""
        return 0.0 if self._cancelled_at is None else now - self._cancelled_at
