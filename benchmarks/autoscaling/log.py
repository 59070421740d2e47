"""A topic's partitions as a consumer group sees them: what waits, what is under way, how far offsets are committed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush


@dataclass(slots=True)
class Partition:
    """One partition: jobs in their order, and a committed offset that never passes an unfinished job."""

    number: int
    jobs: list[int] = field(default_factory=list)  #: job by offset
    done: set[int] = field(default_factory=set)  #: offsets done beyond the committed one
    committed: int = 0
    next_offset: int = 0  #: of what was never begun
    again: list[int] = field(default_factory=list)  #: a heap: offsets begun by a worker that is gone
    owner: int | None = None
    opens_at: float = 0.0  #: closed until then, while the group settles

    def append(self, job: int) -> None:
        """Take a job at the end."""
        self.jobs.append(job)

    @property
    def has_waiting(self) -> bool:
        """Whether a job could be begun."""
        return bool(self.again) or self.next_offset < len(self.jobs)

    @property
    def lag(self) -> int:
        """Jobs beyond the committed offset, those under way and those done out of order included."""
        return len(self.jobs) - self.committed

    def take(self) -> int:
        """Return the offset of the next job to begin: first come first served."""
        if self.again:
            return heappop(self.again)
        self.next_offset += 1
        return self.next_offset - 1

    def finish(self, offset: int) -> None:
        """Commit as far as all is done."""
        self.done.add(offset)
        while self.committed in self.done:
            self.done.remove(self.committed)
            self.committed += 1

    def give_back(self, offset: int) -> None:
        """Take back a job that was begun and will not be finished where it was."""
        heappush(self.again, offset)


def share_out(partitions: Sequence[Partition], members: Sequence[int]) -> dict[int, list[int]]:
    """Return who owns which partitions after a rebalance, evenly and with as few moves as that allows (sticky).

    A member beyond the number of partitions owns none.
    """
    shares: dict[int, list[int]] = {member: [] for member in members}
    if not members:
        return shares
    homeless = []
    for partition in partitions:
        if partition.owner in shares:
            shares[partition.owner].append(partition.number)
        else:
            homeless.append(partition.number)
    least, extra = divmod(len(partitions), len(members))
    # those that have most keep one more than the others
    for rank, member in enumerate(sorted(members, key=lambda one: (-len(shares[one]), one))):
        room = least + (rank < extra)
        homeless += shares[member][room:]
        shares[member] = shares[member][:room]
    rooms = sorted(members, key=lambda one: (-len(shares[one]), one))
    for rank, member in enumerate(rooms):
        room = least + (rank < extra)
        while len(shares[member]) < room:
            shares[member].append(homeless.pop(0))
    return shares
