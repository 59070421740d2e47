"""Waiting for a server that has just been started."""

import time
from collections.abc import Callable

from docfleet.stack.faults import StartFailed

_PAUSE_SECONDS = 0.05


def until_it_answers(ask: Callable[[], object], name: str, *, unless: type[Exception], within_seconds: float) -> None:
    """Ask until it goes well; an exception of the kind `unless` means not yet. Blocks.

    Raises:
        StartFailed: it did not answer in time; says what it said last.

    """
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            ask()
        except unless as error:
            if time.monotonic() > deadline:
                raise StartFailed(f"{name} did not answer within {within_seconds:.0f} s: {error}") from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return
