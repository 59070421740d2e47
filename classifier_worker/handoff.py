"""The hand-off between the threads that talk to Kafka and the threads that work: what waits, what may start.

A message waits for its time (not-before) and for room, is ready, takes its tenant's turn, and is received
by a job thread when its document's bytes fit too. All state stands behind one condition; what may be in
flight is decided by `core.held`, whose turn it is by `core.turns`, when to stand still by
`core.retry.Fuse`. Knows no Kafka client; what is peculiar to consumer groups and to share groups is in
`partition_handoff` and `record_handoff`.
"""

import heapq
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from classifier_worker.core.held import Bounds, Held, Ticket
from classifier_worker.core.retry import Fuse, FuseLimits
from classifier_worker.core.turns import Turns
from classifier_worker.ending import Ending
from docfleet import metrics, tracing
from docfleet.stopping import Deadline
from schemas.codec import Headers, UndecodableMessage, header
from schemas.events import ClassificationRequested

logger = logging.getLogger(__name__)

#: A message whose schema cannot be asked for now is not decoded again before.
_DECODED_AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A Kafka message as it came."""

    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received message: `request` as decoded, or None and `fault` saying what is wrong with it."""

    ticket: Ticket
    message: RawMessage
    request: ClassificationRequested | None
    fault: str = ""
    ending: Ending = field(default_factory=Ending, compare=False)

    @property
    def tenant(self) -> str:
        """Whose job it is; nobody's when the message is no job."""
        return self.request.tenant_id if self.request else ""

    @property
    def traceparent(self) -> str | None:
        """The trace context that the message came with."""
        return header(self.message.headers, "traceparent")

    def as_subject(self) -> AbstractContextManager[None]:
        """Make this what log records are about."""
        return tracing.about(self.traceparent, self.request.job_id if self.request else None)


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """When one job holds back too much: its age, and how far others may be finished ahead of it.

    After `grace_seconds` more a job whose thread does not react is ended for it.
    """

    seconds: float = 300.0
    stretch: int = 1000
    grace_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOffOptions:
    """How messages are held and handed out.

    `decode` turns a value into a request or raises UndecodableMessage; it runs on job threads.
    """

    bounds: Bounds
    decode: Callable[[bytes | None], ClassificationRequested]
    fuse: FuseLimits = field(default_factory=FuseLimits)
    head: HeadLimits = field(default_factory=HeadLimits)


@dataclass(order=True, slots=True)
class Waiting:
    """A message that waits for its time or for room."""

    due_at: float  #: seconds since the epoch
    offset: int
    ticket: Ticket = field(compare=False)
    message: RawMessage = field(compare=False)


class HandOff(ABC):
    """`receive`, `ack`, `release`, `reject` for job threads, and what the composition root asks."""

    def __init__(self, options: HandOffOptions, held: Held) -> None:
        self._decode = options.decode
        self._head = options.head
        self._change = threading.Condition()
        self._door = threading.Lock()  # one job thread at a time decides whether the next message may start
        self._held = held
        self._fuse = Fuse(options.fuse)
        self._waiting: list[Waiting] = []
        self._admitted: deque[tuple[Ticket, RawMessage]] = deque()
        self._ready: Turns[Delivery] = Turns()
        self._running: dict[Ticket, Delivery] = {}
        self._is_open = True

    # --- job threads ---

    def receive(self, timeout_seconds: float) -> Delivery | None:
        """Return the next message and count it as started; None when none may start within the time."""
        deadline = Deadline(timeout_seconds)
        if not self._door.acquire(timeout=timeout_seconds):
            return None
        try:
            while (delivery := self._next(deadline)) is not None:
                if self._start(delivery, deadline):
                    return delivery
                if deadline.is_over:
                    return None
        finally:
            self._door.release()
        return None

    def ack(self, delivery: Delivery) -> None:
        """Tell that the message is done with: Kafka need not give it out again."""
        self._finish(delivery, is_rejected=False)

    def reject(self, delivery: Delivery) -> None:
        """Tell that the message is given up (it is in the dead letter topic): done with, and noted by the fuse."""
        self._finish(delivery, is_rejected=True)

    def release(self, delivery: Delivery) -> None:
        """Hand the message back unfinished: whoever is to do it gets it again."""
        with self._change:
            self._running.pop(delivery.ticket, None)
            if self._held.holds(delivery.ticket):  # else the breaker has ended it
                self._held.hand_back(delivery.ticket)
                self._on_release(delivery)
            self._changed()

    # --- whoever talks to Kafka ---

    def admit_due(self) -> None:
        """Make ready what is due, as far as there is room."""
        now = time.time()
        with self._change:
            before = len(self._admitted)
            while self._waiting and self._waiting[0].due_at <= now and self._held.admit(self._waiting[0].ticket):
                waiting = heapq.heappop(self._waiting)
                self._admitted.append((waiting.ticket, waiting.message))
            if len(self._admitted) != before:
                self._changed()

    @property
    def is_holding_back(self) -> bool:
        """Whether something waits for its time or for room, so that the caller should look again soon."""
        return bool(self._waiting) or self._held.is_full

    # --- the breaker ---

    def overdue(self) -> list[Delivery]:
        """Return the jobs whose time is over: they hold back what they must not."""
        with self._change:
            now = time.monotonic()
            return [d for d in self._heads() if self._may_not_go_on(d, now) and not d.ending.is_claimed]

    def grace_seconds(self, delivery: Delivery) -> float:  # noqa: ARG002  # a share group's depends on the record
        """Return how long an overdue job's thread has for ending it."""
        return self._head.grace_seconds

    # --- the composition root ---

    def stop(self) -> None:
        """Let no further message start."""
        with self._change:
            self._is_open = False
            self._changed()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait until no job is started; False when that took too long."""
        with self._change:
            return self._change.wait_for(lambda: not self._held.started, timeout_seconds)

    @property
    def is_stopped(self) -> bool:
        """Whether no message will start any more."""
        return not self._is_open

    @property
    def jobs(self) -> int:
        """Messages admitted and not finished."""
        return self._held.jobs

    @property
    def is_fused(self) -> bool:
        """Whether intake stands still because too many messages ended as dead letters."""
        return self._fuse.is_blown(time.monotonic())

    # --- what the kinds of group do differently; called with the condition held ---

    @abstractmethod
    def _on_release(self, delivery: Delivery) -> None: ...

    @abstractmethod
    def _on_finish(self, delivery: Delivery, *, is_rejected: bool) -> None: ...

    @abstractmethod
    def _heads(self) -> list[Delivery]: ...

    @abstractmethod
    def _may_not_go_on(self, delivery: Delivery, now: float) -> bool: ...

    # --- inside ---

    def _next(self, deadline: Deadline) -> Delivery | None:
        def may_take() -> bool:
            return bool(self._admitted or len(self._ready)) and not self.is_fused

        while True:
            with self._change:
                self._change.wait_for(lambda: not self._is_open or may_take(), deadline.remaining())
                if not (self._is_open and may_take()):
                    return None
                arrived = list(self._admitted)
                self._admitted.clear()
            self._line_up(arrived)
            with self._change:
                if len(self._ready):
                    return self._ready.take()

    def _line_up(self, arrived: list[tuple[Ticket, RawMessage]]) -> None:
        """Decode what is new, since only the request says whose turn it is."""
        for ticket, message in arrived:
            try:
                delivery = Delivery(ticket, message, self._decode(message.value))
            except UndecodableMessage as error:
                delivery = Delivery(ticket, message, None, str(error))
            except Exception as error:  # noqa: BLE001  # of the schema registry, which is away: not the message's fault
                extra = {"action": "decoding_put_off", "ticket": ticket}
                logger.warning("a message cannot be decoded now: %s", error, extra=extra)
                with self._change:
                    self._held.hand_back(ticket)
                    if self._held.may_start(ticket):
                        self._push(time.time() + _DECODED_AGAIN_SECONDS, ticket, message)
                continue
            with self._change:
                if self._held.may_start(ticket):
                    self._ready.put(delivery.tenant, delivery)

    def _start(self, delivery: Delivery, deadline: Deadline) -> bool:
        """Count the message as started when there is room; else it is the next again, or is gone with its epoch."""
        ticket = delivery.ticket
        size_bytes = delivery.request.size_bytes if delivery.request else 0
        with self._change:
            while self._is_open and self._held.may_start(ticket):
                if self._held.start(ticket, size_bytes):
                    delivery.ending.started_at = time.monotonic()
                    self._running[ticket] = delivery
                    self._changed()
                    return True
                if deadline.is_over:
                    break
                self._change.wait(deadline.remaining())
            if self._held.may_start(ticket):
                self._ready.put_back(delivery.tenant, delivery)
            return False

    def _finish(self, delivery: Delivery, *, is_rejected: bool) -> None:
        with self._change:
            self._running.pop(delivery.ticket, None)
            if self._held.finish(delivery.ticket):
                self._on_finish(delivery, is_rejected=is_rejected)
            self._fuse.record(time.monotonic(), is_rejected=is_rejected)
            self._changed()

    def _push(self, due_at: float, ticket: Ticket, message: RawMessage) -> None:
        heapq.heappush(self._waiting, Waiting(due_at, ticket.offset, ticket, message))

    def _drop_gone(self) -> None:
        may_start = self._held.may_start
        self._admitted = deque(item for item in self._admitted if may_start(item[0]))
        self._ready.keep(lambda delivery: may_start(delivery.ticket))
        self._waiting = [waiting for waiting in self._waiting if may_start(waiting.ticket)]
        heapq.heapify(self._waiting)
        self._changed()

    def _changed(self) -> None:
        metrics.JOBS_IN_FLIGHT.set(self._held.jobs)
        metrics.BYTES_IN_FLIGHT.set(self._held.bytes)
        self._change.notify_all()
