"""What this worker holds of each partition: low-water marks to commit, jobs and bytes in flight, when to pause.

Jobs finish out of order, so the offset that may be committed is the contiguous low-water mark: the
lowest offset that is not finished. Every assignment of a partition is an epoch of its own; a ticket
of a forgotten epoch still counts as held (its memory is), but moves no mark any more.

A message goes arrived -> admitted -> started -> finished. Pure: no clock, no thread, no Kafka; the
caller locks.
"""

from collections.abc import Container
from dataclasses import dataclass, field

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One message of one assignment."""

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


@dataclass(slots=True)
class _Assignment:
    epoch: int
    #: unfinished offsets; offsets arrive in rising order, so the first key is the lowest
    unfinished: dict[int, None] = field(default_factory=dict)
    next_offset: int | None = None  #: one past the last that arrived
    reported: int | None = None  #: the mark that `advanced_marks` told last
    is_leaving: bool = False  #: being revoked: nothing more of it starts


class Inflight:
    """The messages held, by assignment; `Bounds.jobs` and `Bounds.document_bytes` are never exceeded.

    One exception: a document larger than the whole bound is let in when nothing else is started.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.bytes = 0
        self.is_full = False
        self._last_epoch = 0
        self._assignments: dict[Partition, _Assignment] = {}
        self._admitted: dict[Ticket, int | None] = {}  # bytes once started, None before

    @property
    def jobs(self) -> int:
        """How many messages are admitted and not finished, of forgotten epochs too."""
        return len(self._admitted)

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are assigned now."""
        return frozenset(self._assignments)

    def assign(self, partition: Partition) -> None:
        """Begin a new epoch of the partition, with nothing of it known."""
        self._last_epoch += 1
        self._assignments[partition] = _Assignment(self._last_epoch)

    def leave(self, partition: Partition) -> None:
        """Let nothing more of the partition start; messages not started stop counting. Marks still move."""
        if partition in self._assignments:
            self._assignments[partition].is_leaving = True
            self._drop_unstarted()

    def forget(self, partition: Partition) -> None:
        """End the partition's epoch: what finishes later moves no mark. Messages not started stop counting."""
        if self._assignments.pop(partition, None) is not None:
            self._drop_unstarted()

    def is_current(self, ticket: Ticket) -> bool:
        """Whether the ticket's assignment is still ours."""
        assignment = self._assignments.get(ticket.partition)
        return assignment is not None and assignment.epoch == ticket.epoch

    def may_start(self, ticket: Ticket) -> bool:
        """Whether the ticket's assignment is still ours and not about to go."""
        return self.is_current(ticket) and not self._assignments[ticket.partition].is_leaving

    def arrive(self, partition: Partition, offset: int) -> Ticket | None:
        """Note a message and return its ticket; None when the partition is not ours.

        An offset that came before means that the log begins anew (a topic made again): a new epoch.
        """
        assignment = self._assignments.get(partition)
        if assignment is None:
            return None
        if assignment.next_offset is not None and offset < assignment.next_offset:
            self.assign(partition)
            self._drop_unstarted()
            assignment = self._assignments[partition]
        assignment.next_offset = offset + 1
        assignment.unfinished[offset] = None
        return Ticket(partition, assignment.epoch, offset)

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

    def finish(self, ticket: Ticket) -> bool:
        """Free what the message held and let its mark move; False when its assignment is no longer ours."""
        self._free(ticket)
        if not self.is_current(ticket):
            return False
        self._assignments[ticket.partition].unfinished.pop(ticket.offset, None)
        return True

    def hand_back(self, ticket: Ticket) -> None:
        """Free what the message held; it stays unfinished, so the mark stays at or below it."""
        self._free(ticket)

    def started(self, partitions: Container[Partition] | None = None) -> int:
        """Return how many jobs are started and not finished: all, or those of the present epochs of `partitions`."""
        started = [ticket for ticket, held in self._admitted.items() if held is not None]
        if partitions is None:
            return len(started)
        return sum(ticket.partition in partitions and self.is_current(ticket) for ticket in started)

    def mark(self, partition: Partition) -> int | None:
        """Return the low-water mark: the offset to commit; None when nothing of this epoch arrived yet."""
        assignment = self._assignments[partition]
        return next(iter(assignment.unfinished), assignment.next_offset)

    def advanced_marks(self) -> dict[Partition, int]:
        """Return the marks that moved since this was last asked."""
        moved = {}
        for partition, assignment in self._assignments.items():
            mark = self.mark(partition)
            if mark is not None and mark != assignment.reported:
                moved[partition] = mark
                assignment.reported = mark
        return moved

    def _free(self, ticket: Ticket) -> None:
        self.bytes -= self._admitted.pop(ticket, None) or 0
        self._update()

    def _drop_unstarted(self) -> None:
        for ticket in [t for t, held in self._admitted.items() if held is None and not self.may_start(t)]:
            del self._admitted[ticket]
        self._update()

    def _update(self) -> None:
        if self.jobs >= self.bounds.jobs or self.bytes >= self.bounds.document_bytes:
            self.is_full = True
        elif self.jobs <= self.bounds.resume_jobs and self.bytes <= self.bounds.resume_bytes:
            self.is_full = False
