"""The hand-off of a consumer group: partitions that come and go, low-water marks, what holds a partition back."""

import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from classifier_worker.core.held import Partition
from classifier_worker.core.inflight import Inflight
from classifier_worker.handoff import Delivery, HandOff, HandOffOptions, RawMessage
from docfleet import metrics

#: A low-water mark, and the offsets above it that are finished.
Progress = tuple[int, frozenset[int]]

#: Messages of one partition that may wait for their time or for room before its intake is paused.
_WAITING_MAX: Final = 64
#: A job that was handed back unfinished is not taken up again at once.
_RELEASED_SECONDS: Final = 1.0


class PartitionHandOff(HandOff):
    """A hand-off for the one thread that polls a consumer."""

    def __init__(self, options: HandOffOptions) -> None:
        self._inflight = Inflight(options.bounds)
        super().__init__(options, self._inflight)
        self._crowded: frozenset[Partition] = frozenset()
        self._stretched: frozenset[Partition] = frozenset()

    def assign(self, partitions: Collection[Partition], committed: Mapping[Partition, Progress] | None = None) -> None:
        """Begin a new epoch for each partition, where those before have come to."""
        with self._change:
            for partition in partitions:
                self._inflight.assign(partition, *(committed or {}).get(partition, (0, frozenset())))

    def leave(self, partitions: Collection[Partition], drain_seconds: float) -> bool:
        """Drop what has not started of these partitions and wait for what has; False when that took too long."""
        with self._change:
            for partition in partitions:
                self._inflight.leave(partition)
            self._drop_gone()
            return self._change.wait_for(lambda: not self._inflight.started_of(partitions), drain_seconds)

    def forget(self, partitions: Collection[Partition]) -> None:
        """End the epoch of each partition; what finishes later moves no mark."""
        with self._change:
            for partition in partitions:
                self._inflight.forget(partition)
            self._drop_gone()

    def arrive(self, partition: Partition, offset: int, message: RawMessage, due_at: float) -> None:
        """Take a message in, to start at `due_at` (seconds since the epoch; 0 for at once) or later."""
        with self._change:
            is_anew = self._inflight.begins_anew(partition, offset)
            ticket = self._inflight.arrive(partition, offset)
            if is_anew:
                self._drop_gone()
            if ticket is not None:
                self._push(due_at, ticket, message)
        self.admit_due()

    def to_pause(self) -> frozenset[Partition]:
        """Return the assigned partitions from which no message should come now."""
        with self._change:
            assigned = self._inflight.partitions
            if not self._is_open or self._inflight.is_full or self._fuse.is_blown(time.monotonic()):
                return assigned
            crowd = Counter(waiting.ticket.partition for waiting in self._waiting)
            self._crowded = _over(crowd, self._crowded, _WAITING_MAX)
            stretch = {partition: self._inflight.stretch(partition) for partition in assigned}
            self._stretched = _over(stretch, self._stretched, self._head.stretch)
            metrics.HEAD_STRETCH.set(max(stretch.values(), default=0))
            return (self._crowded | self._stretched) & assigned

    def advanced(self) -> dict[Partition, Progress]:
        """Return how far the partitions have come of which more is finished since this was last asked."""
        with self._change:
            marks = self._inflight.advanced_marks()
            return {partition: (mark, self._inflight.done_ahead(partition)) for partition, mark in marks.items()}

    @property
    def partitions(self) -> frozenset[Partition]:
        """The partitions that are assigned now."""
        return self._inflight.partitions

    def _on_release(self, delivery: Delivery) -> None:
        if self._inflight.may_start(delivery.ticket):
            self._push(time.time() + _RELEASED_SECONDS, delivery.ticket, delivery.message)

    def _on_finish(self, delivery: Delivery, *, is_rejected: bool) -> None:
        """Nothing: the mark says it, when it is next asked for."""

    def _heads(self) -> list[Delivery]:
        heads = (self._inflight.head(partition) for partition in self._inflight.partitions)
        return [self._running[head] for head in heads if head is not None and head in self._running]

    def _may_not_go_on(self, delivery: Delivery, now: float) -> bool:
        is_old = now - delivery.ending.started_at > self._head.seconds
        return is_old or self._inflight.stretch(delivery.ticket.partition) >= self._head.stretch


def _over(
    counts: dict[Partition, int] | Counter[Partition], over: frozenset[Partition], most: int
) -> frozenset[Partition]:
    """Return the partitions that reach `most`; those that did before must first fall below its half."""
    return frozenset(p for p, count in counts.items() if count >= (most // 2 if p in over else most))
