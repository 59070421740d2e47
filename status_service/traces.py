"""The projection of events as spans, each in the trace of its job."""

import time
from collections.abc import Iterable

from docfleet import tracing
from schemas import topics
from schemas.events import ClassificationProgressed, ClassificationRequested
from status_service.folding import Said


def tell(said: Iterable[Said], consumer_group: str, *, since_ns: int) -> None:
    """Tell that these events were written from `since_ns`, in nanoseconds since the epoch, until now.

    Signs of life are left out: they would drown the rest.
    """
    if not tracing.is_on():
        return
    until_ns = time.time_ns()
    for one in said:
        event = one.event
        if isinstance(event, ClassificationProgressed):
            continue
        topic = topics.JOBS if isinstance(event, ClassificationRequested) else topics.EVENTS
        attributes = tracing.messaging("process", topic.name) | tracing.place(one.partition, one.offset)
        attributes |= {
            "messaging.consumer.group.name": consumer_group,
            "docfleet.job_id": str(event.job_id),
            "docfleet.event": type(event).__name__,
        }
        tracing.begin(
            f"process {topic.name}", "consumer", parent=one.traceparent, attributes=attributes, at_ns=since_ns
        ).end(until_ns)
