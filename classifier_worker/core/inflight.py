"""What this worker holds of each partition: low-water marks to commit, what holds them back, what is in flight.

Jobs finish out of order, so the offset that may be committed is the contiguous low-water mark: the
lowest offset that is not finished. Every assignment of a partition is an epoch of its own; a ticket
of a forgotten epoch still counts as held (its memory is), but moves no mark any more.

A message goes arrived -> admitted -> started -> finished. Pure: no clock, no thread, no Kafka; the
caller locks.
"""

from collections.abc import Container
from dataclasses import dataclass, field

from classifier_worker.core.held import Bounds, Held, Partition, Ticket


@dataclass(slots=True)
class _Assignment:
    epoch: int
    #: unfinished offsets; offsets arrive in rising order, so the first key is the lowest
    unfinished: dict[int, None] = field(default_factory=dict)
    next_offset: int | None = None  #: one past the last that arrived
    ahead: set[int] = field(default_factory=set)  #: finished offsets above the mark
    known_done: frozenset[int] = frozenset()  #: finished by an owner before; not to be done again
    known_from: int = 0  #: the mark at which that was so
    changes: int = 0  #: of what is finished
    reported: tuple[int, int] | None = None  #: the mark and the changes that `advanced_marks` told last
    is_leaving: bool = False  #: being revoked: nothing more of it starts

    @property
    def mark(self) -> int | None:
        """The low-water mark; None when nothing arrived yet."""
        return next(iter(self.unfinished), self.next_offset)


class Inflight(Held):
    """The messages held, by assignment."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self._last_epoch = 0
        self._assignments: dict[Partition, _Assignment] = {}

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are assigned now."""
        return frozenset(self._assignments)

    def assign(self, partition: Partition, mark: int = 0, done: frozenset[int] = frozenset()) -> None:
        """Begin a new epoch of the partition. `done` was finished ahead of `mark`, where the partition goes on."""
        self._last_epoch += 1
        self._assignments[partition] = _Assignment(self._last_epoch, known_done=done, known_from=mark)

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

    def begins_anew(self, partition: Partition, offset: int) -> bool:
        """Whether the offset came before: the log begins anew (a topic made again)."""
        assignment = self._assignments.get(partition)
        return assignment is not None and assignment.next_offset is not None and offset < assignment.next_offset

    def arrive(self, partition: Partition, offset: int) -> Ticket | None:
        """Note a message and return its ticket; None when the partition is not ours or the message is done.

        With a log that begins anew a new epoch begins.
        """
        assignment = self._assignments.get(partition)
        if assignment is None:
            return None
        if self.begins_anew(partition, offset):
            self.assign(partition)
            self._drop_unstarted()
            assignment = self._assignments[partition]
        if offset < assignment.known_from:  # the log begins anew, or the mark was reset: nothing of it is known
            assignment.known_done = frozenset()
        assignment.next_offset = offset + 1
        if offset in assignment.known_done:
            self._note_finished(assignment, offset)
            return None
        assignment.unfinished[offset] = None
        return Ticket(partition, assignment.epoch, offset)

    def finish(self, ticket: Ticket) -> bool:
        """Free what the message held and let its mark move; False when its assignment is no longer ours."""
        self._free(ticket)
        if not self.is_current(ticket):
            return False
        assignment = self._assignments[ticket.partition]
        self._note_finished(assignment, ticket.offset)
        return True

    def started_of(self, partitions: Container[Partition]) -> int:
        """Return how many jobs of the present epochs of `partitions` are started and not finished."""
        started = (ticket for ticket, size in self._admitted.items() if size is not None)
        return sum(ticket.partition in partitions and self.is_current(ticket) for ticket in started)

    def mark(self, partition: Partition) -> int | None:
        """Return the low-water mark: the offset to commit; None when nothing of this epoch arrived yet."""
        return self._assignments[partition].mark

    def advanced_marks(self) -> dict[Partition, int]:
        """Return the marks of the partitions of which more is finished, or known, since this was last asked."""
        moved = {}
        for partition, assignment in self._assignments.items():
            mark = assignment.mark
            if mark is not None and (mark, assignment.changes) != assignment.reported:
                moved[partition] = mark
                assignment.reported = (mark, assignment.changes)
        return moved

    def done_ahead(self, partition: Partition) -> frozenset[int]:
        """Return the offsets above the partition's mark that are finished."""
        return frozenset(self._assignments[partition].ahead)

    def head(self, partition: Partition) -> Ticket | None:
        """Return the message that the partition's mark waits for; None when all that arrived is finished."""
        assignment = self._assignments[partition]
        offset = next(iter(assignment.unfinished), None)
        return None if offset is None else Ticket(partition, assignment.epoch, offset)

    def stretch(self, partition: Partition) -> int:
        """Return how far the highest finished offset is ahead of the mark: offsets that a crash may repeat."""
        highest = max(self._assignments[partition].ahead, default=None)
        return 0 if highest is None else highest + 1 - (self.mark(partition) or 0)

    def _note_finished(self, assignment: _Assignment, offset: int) -> None:
        assignment.unfinished.pop(offset, None)
        assignment.ahead.add(offset)
        assignment.changes += 1
        mark = assignment.mark
        assignment.ahead = {done for done in assignment.ahead if mark is not None and done > mark}
