"""The hand-off of a share group (KIP-932): records that are locked for a while, by several members of this worker.

Every record belongs to the member that acquired it, and its end goes back there to be acknowledged. A record's
lock cannot be renewed (librdkafka 2.16), so a job must be over when its lock runs out.
"""

import queue
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from classifier_worker.core.acquired import Acquired
from classifier_worker.core.held import Partition, Ticket
from classifier_worker.handoff import Delivery, HandOff, HandOffOptions, RawMessage

#: Parts of a lock's time: until then a record must have started, its job must be done, its thread must have reacted.
START_SHARE: Final = 0.5
_STOP_SHARE: Final = 0.7
_TAKE_OVER_SHARE: Final = 0.85


class How(Enum):
    """How a record's acquisition ends (KIP-932's acknowledge types)."""

    ACCEPT = "accept"
    RELEASE = "release"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Lock:
    """For how long a record is ours: from when at the latest it began (monotonic), in seconds."""

    since: float
    seconds: float

    def is_over(self, now: float, share: float = 1.0) -> bool:
        """Whether this share of the time is over."""
        return now >= self.since + share * self.seconds


@dataclass(eq=False, slots=True)
class Member:
    """One member of the share group: what it holds, and the ends that it has not acknowledged yet."""

    locks: dict[Ticket, Lock] = field(default_factory=dict)
    ended: "queue.SimpleQueue[tuple[Ticket, How]]" = field(default_factory=queue.SimpleQueue)


class RecordHandOff(HandOff):
    """A hand-off for several threads that each poll a share consumer."""

    def __init__(self, options: HandOffOptions) -> None:
        self._acquired = Acquired(options.bounds)
        super().__init__(options, self._acquired)
        self._member_of: dict[Ticket, Member] = {}

    def acquire(self, member: Member, partition: Partition, offset: int, lock: Lock) -> Ticket:
        """Note a record that the member has acquired; `offer` or `withdraw` must follow."""
        with self._change:
            ticket = self._acquired.acquire(partition, offset)
            self._member_of[ticket] = member
            member.locks[ticket] = lock
            return ticket

    def offer(self, ticket: Ticket, message: RawMessage, due_at: float) -> None:
        """Let an acquired record's job start, at `due_at` (seconds since the epoch; 0 for at once) or later."""
        with self._change:
            self._push(due_at, ticket, message)
        self.admit_due()

    def withdraw(self, tickets: Collection[Ticket]) -> list[Ticket]:
        """Take back those that have not started, and return them: the caller acknowledges them."""
        with self._change:
            return self._forget(self._acquired.withdraw(tickets))

    def lose(self, tickets: Collection[Ticket]) -> list[Ticket]:
        """Take back those that are not ended, started or not, and return them: what ends later counts for nothing."""
        with self._change:
            return self._forget(self._acquired.lose(tickets))

    def started(self, ticket: Ticket) -> Delivery | None:
        """Return what a job thread has of this record; None when none has begun."""
        return self._running.get(ticket)

    def may_poll(self) -> bool:
        """Whether a member should acquire more."""
        with self._change:
            is_shut = not self._is_open or self._acquired.is_full or self._fuse.is_blown(time.monotonic())
            return not is_shut

    def grace_seconds(self, delivery: Delivery) -> float:
        """Return the time between a job's last moment and that of its thread, before the lock runs out."""
        lock = self._lock_of(delivery)
        return (_TAKE_OVER_SHARE - _STOP_SHARE) * lock.seconds if lock else self._head.grace_seconds

    def _lock_of(self, delivery: Delivery) -> Lock | None:
        member = self._member_of.get(delivery.ticket)
        return member.locks.get(delivery.ticket) if member else None

    def _forget(self, tickets: list[Ticket]) -> list[Ticket]:
        for ticket in tickets:
            del self._member_of[ticket].locks[ticket]
            del self._member_of[ticket]
        self._drop_gone()
        return tickets

    def _on_release(self, delivery: Delivery) -> None:
        if self._acquired.finish(delivery.ticket):
            self._end(delivery.ticket, How.RELEASE)

    def _on_finish(self, delivery: Delivery, *, is_rejected: bool) -> None:
        self._end(delivery.ticket, How.REJECT if is_rejected else How.ACCEPT)

    def _end(self, ticket: Ticket, how: How) -> None:
        member = self._member_of.pop(ticket)
        del member.locks[ticket]
        member.ended.put((ticket, how))

    def _heads(self) -> list[Delivery]:
        return list(self._running.values())

    def _may_not_go_on(self, delivery: Delivery, now: float) -> bool:
        lock = self._lock_of(delivery)
        is_old = now - delivery.ending.started_at > self._head.seconds
        return is_old or (lock is not None and lock.is_over(now, _STOP_SHARE))
