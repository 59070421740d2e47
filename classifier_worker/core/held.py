"""What this worker holds, whatever brought it: jobs and bytes in flight, their bounds, when to take no more.

A message goes admitted -> started -> freed. `Inflight` (partitions of a consumer group) and `Acquired`
(records of a share group) say what a message is and what follows from its end. Pure: no clock, no thread,
no Kafka; the caller locks.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One message of one assignment, or one acquisition of one record."""

    partition: Partition
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be in flight at once; intake goes on again when both are down to half."""

    jobs: int
    document_bytes: int

    @property
    def resume_jobs(self) -> int:
        """Jobs in flight at which a paused intake goes on."""
        return self.jobs // 2

    @property
    def resume_bytes(self) -> int:
        """Bytes in flight at which a paused intake goes on."""
        return self.document_bytes // 2


class Held(ABC):
    """The messages held; `Bounds.jobs` and `Bounds.document_bytes` are never exceeded.

    One exception: a document larger than the whole bound is let in when nothing else is started.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.bytes = 0
        self.is_full = False
        self._admitted: dict[Ticket, int | None] = {}  # bytes once started, None before

    @property
    def jobs(self) -> int:
        """How many messages are admitted and not finished, those included that are no longer ours."""
        return len(self._admitted)

    def holds(self, ticket: Ticket) -> bool:
        """Whether the message counts as in flight."""
        return ticket in self._admitted

    @abstractmethod
    def is_current(self, ticket: Ticket) -> bool:
        """Whether the message is still ours."""
        ...

    @abstractmethod
    def may_start(self, ticket: Ticket) -> bool:
        """Whether the message is still ours and not about to go."""
        ...

    @abstractmethod
    def finish(self, ticket: Ticket) -> bool:
        """Free what the message held and note that it is done with; False when it is no longer ours."""
        ...

    def hand_back(self, ticket: Ticket) -> None:
        """Free what the message held; it stays unfinished."""
        self._free(ticket)

    def admit(self, ticket: Ticket) -> bool:
        """Count the message as a job in flight; False when the bound is reached."""
        if self.jobs >= self.bounds.jobs:
            return False
        self._admitted[ticket] = None
        self._update()
        return True

    def start(self, ticket: Ticket, document_bytes: int) -> bool:
        """Count an admitted message's document; False when it does not fit besides those that are started."""
        if ticket not in self._admitted:
            raise ValueError(f"{ticket} is not admitted")
        if self.bytes and self.bytes + document_bytes > self.bounds.document_bytes:
            return False
        self._admitted[ticket] = document_bytes
        self.bytes += document_bytes
        self._update()
        return True

    @property
    def started(self) -> int:
        """How many jobs are started and not finished."""
        return sum(size is not None for size in self._admitted.values())

    def _free(self, ticket: Ticket) -> None:
        self.bytes -= self._admitted.pop(ticket, None) or 0
        self._update()

    def _drop_unstarted(self) -> None:
        for ticket in [t for t, size in self._admitted.items() if size is None and not self.may_start(t)]:
            del self._admitted[ticket]
        self._update()

    def _update(self) -> None:
        if self.jobs >= self.bounds.jobs or self.bytes >= self.bounds.document_bytes:
            self.is_full = True
        elif self.jobs <= self.bounds.resume_jobs and self.bytes <= self.bounds.resume_bytes:
            self.is_full = False
