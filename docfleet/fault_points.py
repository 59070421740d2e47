"""Places where a test can make a process die, to prove that nothing is lost there; nobody else arms them.

`DOCFLEET_FAULT_AT=after_result:2` kills the process by SIGKILL, as a lost machine would, when it comes to that step
for the second time. Not armed, a step costs one comparison.
"""

import os
import signal
import threading
from typing import Final

#: Each step by its name, and where it is.
STEPS: Final = {
    "before_object_put": "producer_api has the document's bytes, the object store does not",
    "after_object_put": "the object is there, the job is not",
    "before_admit": "the transaction that makes the job durable has not begun",
    "after_admit": "the job is durable, its event is not out and the client has no answer",
    "before_produce": "the job's event is about to be handed to Kafka's client",
    "after_produce": "the job's event is in Kafka, its row does not say so",
    "after_mark": "the row says that the job's event is in Kafka",
    "after_start": "the worker has told that it started the job",
    "before_result": "the worker has the result and has told nobody",
    "after_result": "the result is in Kafka, the job's message is not acknowledged",
    "after_retry": "the next attempt is in Kafka, the message of this one is not acknowledged",
    "before_offset_commit": "finished messages are about to be committed",
    "after_offset_commit": "finished messages are committed",
    "before_projection_commit": "rows and offsets are written, the transaction is open",
    "after_projection_commit": "rows and offsets are committed, Kafka has not heard of it",
}

_lock: Final = threading.Lock()
_armed: dict[str, int] = {}  #: how often a step is still passed, 1 for the next time it kills


def check(text: str) -> tuple[str, int]:
    """Return step and count of `step:count`; ValueError when it names no step."""
    step, _, count = text.partition(":")
    if step not in STEPS or not count.isdecimal() or int(count) < 1:
        raise ValueError(f"must be STEP:COUNT with a COUNT from 1 and one of the steps {', '.join(STEPS)}")
    return step, int(count)


def arm(text: str | None) -> None:
    """Let this process die at `step:count`; None arms nothing."""
    _armed.clear()
    if text is not None:
        step, count = check(text)
        _armed[step] = count


def reached(step: str) -> None:
    """Say that this process comes to a step; it does not return when the step is armed and it is time."""
    if not _armed or step not in _armed:
        return
    with _lock:
        _armed[step] -= 1
        if _armed[step] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
