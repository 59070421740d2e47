"""The hand-off between the thread that polls Kafka and the threads that work: what waits, what may start.

A message waits for its time (not-before) and for room, is ready, and is received by a job thread when
its document's bytes fit too. All state stands behind one condition; what may be in flight is decided
by `core.inflight`, when to stand still by `core.retry.Fuse`. Knows no Kafka client.
"""

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from classifier_worker.core.inflight import Bounds, Inflight, Partition, Ticket
from classifier_worker.core.retry import Fuse, FuseLimits
from docfleet import metrics
from docfleet.stopping import Deadline
from schemas.codec import Headers, UndecodableMessage
from schemas.events import ClassificationRequested

#: Messages of one partition that may wait for their time or for room before its intake is paused.
_WAITING_MAX: Final = 64
#: A job that was handed back unfinished is not taken up again at once.
_RELEASED_SECONDS: Final = 1.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOffOptions:
    """How messages are held and handed out.

    `decode` turns a value into a request or raises UndecodableMessage; it runs on job threads.
    """

    bounds: Bounds
    decode: Callable[[bytes | None], ClassificationRequested]
    fuse: FuseLimits = field(default_factory=FuseLimits)


@dataclass(order=True, slots=True)
class _Waiting:
    due_at: float  #: seconds since the epoch
    offset: int
    ticket: Ticket = field(compare=False)
    message: RawMessage = field(compare=False)


class HandOff:
    """`receive`, `ack`, `release`, `reject` for job threads; the other methods for the thread that polls."""

    def __init__(self, options: HandOffOptions) -> None:
        self._decode = options.decode
        self._change = threading.Condition()
        self._door = threading.Lock()  # one job thread at a time decides whether the next message may start
        self._inflight = Inflight(options.bounds)
        self._fuse = Fuse(options.fuse)
        self._ready: deque[tuple[Ticket, RawMessage]] = deque()
        self._waiting: list[_Waiting] = []
        self._crowded: frozenset[Partition] = frozenset()
        self._is_open = True

    # --- job threads ---

    def receive(self, timeout_seconds: float) -> Delivery | None:
        """Return the next message and count it as started; None when none may start within the time."""
        deadline = Deadline(timeout_seconds)
        if not self._door.acquire(timeout=timeout_seconds):
            return None
        try:
            while (taken := self._next(deadline)) is not None:
                delivery = self._open(*taken)
                if self._start(delivery, deadline):
                    return delivery
                if deadline.is_over:
                    return None
        finally:
            self._door.release()
        return None

    def ack(self, delivery: Delivery) -> None:
        """Tell that the message is done with: its offset may be committed."""
        self._finish(delivery, is_rejected=False)

    def reject(self, delivery: Delivery) -> None:
        """Tell that the message is given up (it is in the dead letter topic): done with, and noted by the fuse."""
        self._finish(delivery, is_rejected=True)

    def release(self, delivery: Delivery) -> None:
        """Hand the message back unfinished: whoever owns its partition gets it again, this worker after a second."""
        with self._change:
            self._inflight.hand_back(delivery.ticket)
            if self._inflight.may_start(delivery.ticket):
                self._push(time.time() + _RELEASED_SECONDS, delivery.ticket, delivery.message)
            self._changed()

    # --- the thread that polls ---

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin a new epoch for each partition."""
        with self._change:
            for partition in partitions:
                self._inflight.assign(partition)

    def leave(self, partitions: Collection[Partition], drain_seconds: float) -> bool:
        """Drop what has not started of these partitions and wait for what has; False when that took too long."""
        with self._change:
            for partition in partitions:
                self._inflight.leave(partition)
            self._purge()
            return self._change.wait_for(lambda: not self._inflight.started(partitions), drain_seconds)

    def forget(self, partitions: Collection[Partition]) -> None:
        """End the epoch of each partition; what finishes later moves no mark."""
        with self._change:
            for partition in partitions:
                self._inflight.forget(partition)
            self._purge()

    def arrive(self, partition: Partition, offset: int, message: RawMessage, due_at: float) -> None:
        """Take a message in, to start at `due_at` (seconds since the epoch; 0 for at once) or later."""
        with self._change:
            ticket = self._inflight.arrive(partition, offset)
            if ticket is not None:
                self._push(due_at, ticket, message)
        self.admit_due()

    def admit_due(self) -> None:
        """Make ready what is due, as far as there is room."""
        now = time.time()
        with self._change:
            before = len(self._ready)
            while self._waiting and self._waiting[0].due_at <= now and self._inflight.admit(self._waiting[0].ticket):
                waiting = heapq.heappop(self._waiting)
                self._ready.append((waiting.ticket, waiting.message))
            if len(self._ready) != before:
                self._changed()

    def to_pause(self) -> frozenset[Partition]:
        """Return the assigned partitions from which no message should come now."""
        with self._change:
            assigned = self._inflight.partitions
            if not self._is_open or self._inflight.is_full or self._fuse.is_blown(time.monotonic()):
                return assigned
            crowd = Counter(waiting.ticket.partition for waiting in self._waiting)
            limits = {p: _WAITING_MAX // 2 if p in self._crowded else _WAITING_MAX for p in crowd}
            self._crowded = frozenset(p for p, count in crowd.items() if count >= limits[p])
            return self._crowded & assigned

    def advanced_marks(self) -> dict[Partition, int]:
        """Return the low-water marks that moved since this was last asked."""
        with self._change:
            return self._inflight.advanced_marks()

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are assigned now."""
        return self._inflight.partitions

    @property
    def is_holding_back(self) -> bool:
        """Whether something waits for its time or for room, so that the caller should look again soon."""
        return bool(self._waiting) or self._inflight.is_full

    # --- the composition root ---

    def stop(self) -> None:
        """Let no further message start."""
        with self._change:
            self._is_open = False
            self._changed()

    def wait_until_idle(self, timeout_seconds: float) -> bool:
        """Wait until no job is started; False when that took too long."""
        with self._change:
            return self._change.wait_for(lambda: not self._inflight.started(), timeout_seconds)

    @property
    def is_stopped(self) -> bool:
        """Whether no message will start any more."""
        return not self._is_open

    @property
    def jobs(self) -> int:
        """Messages admitted and not finished."""
        return self._inflight.jobs

    @property
    def is_fused(self) -> bool:
        """Whether intake stands still because too many messages ended as dead letters."""
        return self._fuse.is_blown(time.monotonic())

    # --- inside ---

    def _next(self, deadline: Deadline) -> tuple[Ticket, RawMessage] | None:
        def may_take() -> bool:
            return bool(self._ready) and not self.is_fused

        with self._change:
            self._change.wait_for(lambda: not self._is_open or may_take(), deadline.remaining())
            return self._ready.popleft() if self._is_open and may_take() else None

    def _open(self, ticket: Ticket, message: RawMessage) -> Delivery:
        try:
            return Delivery(ticket, message, self._decode(message.value))
        except UndecodableMessage as error:
            return Delivery(ticket, message, None, str(error))
        except BaseException:  # the schema registry is away: not the message's fault
            self._put_back(ticket, message)
            raise

    def _start(self, delivery: Delivery, deadline: Deadline) -> bool:
        """Count the message as started when there is room; else it goes back to the head, or is gone with its epoch."""
        ticket = delivery.ticket
        size_bytes = delivery.request.size_bytes if delivery.request else 0
        with self._change:
            while self._is_open and self._inflight.may_start(ticket):
                if self._inflight.start(ticket, size_bytes):
                    self._changed()
                    return True
                if deadline.is_over:
                    break
                self._change.wait(deadline.remaining())
            self._put_back(ticket, delivery.message)
            return False

    def _put_back(self, ticket: Ticket, message: RawMessage) -> None:
        with self._change:
            if self._inflight.may_start(ticket):
                self._ready.appendleft((ticket, message))

    def _finish(self, delivery: Delivery, *, is_rejected: bool) -> None:
        with self._change:
            self._inflight.finish(delivery.ticket)
            self._fuse.record(time.monotonic(), is_rejected=is_rejected)
            self._changed()

    def _push(self, due_at: float, ticket: Ticket, message: RawMessage) -> None:
        heapq.heappush(self._waiting, _Waiting(due_at, ticket.offset, ticket, message))

    def _purge(self) -> None:
        self._ready = deque(item for item in self._ready if self._inflight.may_start(item[0]))
        self._waiting = [waiting for waiting in self._waiting if self._inflight.may_start(waiting.ticket)]
        heapq.heapify(self._waiting)
        self._changed()

    def _changed(self) -> None:
        metrics.JOBS_IN_FLIGHT.set(self._inflight.jobs)
        metrics.BYTES_IN_FLIGHT.set(self._inflight.bytes)
        self._change.notify_all()
