"""What follows a failed attempt, and when so many messages are given up that intake must stop.

Pure: time and randomness are arguments.
"""

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Final

from schemas.errors import ERRORS, ErrorCode
from schemas.events import ClassificationRequested

#: Reader processes that one document may kill.
READER_DEATHS_MAX: Final = 2
#: Longest wait between two attempts that can be set; nothing waits longer in a worker, whatever its header says.
DELAY_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is tried and how long it waits in between."""

    max_attempts: int
    base_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Publish `request` to the retry topic, to be worked on in `delay_seconds`."""

    request: ClassificationRequested
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job ends as failed; `is_dead_letter` when a person should look at its message."""

    error_code: ErrorCode
    sentence: str
    is_dead_letter: bool


def backoff_seconds(attempt: int, policy: RetryPolicy, *, randomness: float) -> float:
    """Return how long to wait after attempt number `attempt`: exponential with full jitter.

    `randomness` is in 0..1. Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    longest: float = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(attempt - 1, 32))
    return longest * randomness


def after_failure(
    request: ClassificationRequested, error_code: ErrorCode, sentence: str, *, policy: RetryPolicy, randomness: float
) -> Retry | GiveUp:
    """Return what to do with a job whose present attempt failed.

    A killed reader is tried again at once, since the next child is another process; every other
    passing reason waits. Both count as attempts.
    """
    if error_code is ErrorCode.READER_CRASHED:
        deaths = request.reader_deaths + 1
        if deaths >= READER_DEATHS_MAX or request.attempt >= policy.max_attempts:
            return GiveUp(error_code, sentence, is_dead_letter=False)
        return Retry(dataclasses.replace(request, attempt=request.attempt + 1, reader_deaths=deaths), 0.0)
    if not ERRORS[error_code].is_transient:
        return GiveUp(error_code, sentence, is_dead_letter=False)
    if request.attempt >= policy.max_attempts:
        told = f"The job was tried {request.attempt} times and no attempt finished; the last one: {sentence}"
        return GiveUp(ErrorCode.ATTEMPTS_EXHAUSTED, told, is_dead_letter=True)
    delay = backoff_seconds(request.attempt, policy, randomness=randomness)
    return Retry(dataclasses.replace(request, attempt=request.attempt + 1), delay)


@dataclass(frozen=True, slots=True)
class FuseLimits:
    """When the fuse blows: at `rejected` of the last `window` messages; each time for twice as long as before."""

    window: int = 50
    rejected: int = 20
    first_seconds: float = 60.0
    max_seconds: float = 3600.0


class Fuse:
    """Stops intake when most messages end as dead letters, as after a bad deploy.

    After its time one window more is tried; a window without a rejected message makes it forget.
    """

    def __init__(self, limits: FuseLimits) -> None:
        self._limits = limits
        self._recent: deque[bool] = deque(maxlen=limits.window)
        self._blown_until = 0.0
        self._next_seconds = limits.first_seconds

    def record(self, now: float, *, is_rejected: bool) -> bool:
        """Note how a message ended and return whether the fuse blew just now; `now` is monotonic seconds."""
        self._recent.append(is_rejected)
        rejected = sum(self._recent)
        if rejected == 0 and len(self._recent) == self._limits.window:
            self._next_seconds = self._limits.first_seconds
        if rejected < self._limits.rejected:
            return False
        self._recent.clear()
        self._blown_until = now + self._next_seconds
        self._next_seconds = min(self._limits.max_seconds, 2 * self._next_seconds)
        return True

    def is_blown(self, now: float) -> bool:
        """Whether intake must stand still."""
        return now < self._blown_until
