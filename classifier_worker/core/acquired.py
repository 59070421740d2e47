"""What this worker holds of a share group (KIP-932): records by acquisition, whatever their order.

A record may come again while an earlier acquisition of it is still being worked on here, so each
acquisition is an epoch of its own. Pure: no clock, no thread, no Kafka; the caller locks.
"""

from collections.abc import Iterable

from classifier_worker.core.held import Bounds, Held, Partition, Ticket


class Acquired(Held):
    """The records held, by acquisition."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__(bounds)
        self._last_epoch = 0
        self._open: set[Ticket] = set()

    def acquire(self, partition: Partition, offset: int) -> Ticket:
        """Note a record that was acquired and return its ticket."""
        self._last_epoch += 1
        ticket = Ticket(partition, self._last_epoch, offset)
        self._open.add(ticket)
        return ticket

    def is_current(self, ticket: Ticket) -> bool:
        """Whether the record is still locked for us and not acknowledged."""
        return ticket in self._open

    def may_start(self, ticket: Ticket) -> bool:
        """Whether the record is still locked for us and not acknowledged."""
        return ticket in self._open

    def finish(self, ticket: Ticket) -> bool:
        """Free what the record held; False when it is no longer ours, so that no acknowledgement counts."""
        self._free(ticket)
        if ticket not in self._open:
            return False
        self._open.discard(ticket)
        return True

    def withdraw(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Give up those of the records that have not started, and return them: they are to be released."""
        gone = [t for t in tickets if t in self._open and self._admitted.get(t) is None]
        self._open.difference_update(gone)
        self._drop_unstarted()
        return gone

    def lose(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Give up these records, started or not, and return those that were ours; what is started stays held."""
        gone = [t for t in tickets if t in self._open]
        self._open.difference_update(gone)
        self._drop_unstarted()
        return gone
