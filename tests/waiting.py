"""Waiting for a fact with a deadline, never for a time.

A deadline is there to end a test that will never pass, so it is far longer than a busy machine takes.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Fact = TypeVar("Fact")

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02


async def eventually(
    fact: Callable[[], Fact | Awaitable[Fact]], *, within: float = PATIENCE_SECONDS, poll_seconds: float = _POLL_SECONDS
) -> Fact:
    """Return the first truthy answer of `fact` (plain or async); fail with the last one after `within` seconds.

    An exception of `fact` counts as "not yet" and is shown when the time is over.
    """
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = fact()
            answer = await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            cause = last if isinstance(last, Exception) else None
            raise AssertionError(f"not within {within:g} s; the last answer was {last!r}") from cause
        await asyncio.sleep(poll_seconds)


def eventually_sync(
    fact: Callable[[], Fact], *, within: float = PATIENCE_SECONDS, poll_seconds: float = _POLL_SECONDS
) -> Fact:
    """Do as `eventually`, for a test without an event loop."""
    deadline = time.monotonic() + within
    while True:
        last: object
        try:
            answer = fact()
        except Exception as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > deadline:
            cause = last if isinstance(last, Exception) else None
            raise AssertionError(f"not within {within:g} s; the last answer was {last!r}") from cause
        time.sleep(poll_seconds)
