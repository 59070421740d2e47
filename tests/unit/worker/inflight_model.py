"""A model of the ack tracker: a log, its owners one after the other, and plain sets of what is unfinished."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from classifier_worker.core.done_ahead import decode, encode
from classifier_worker.core.held import Bounds, Ticket
from classifier_worker.core.inflight import Inflight

PLACE = ("docfleet.jobs", 0)
OTHER = ("docfleet.jobs", 1)
PLACES = st.sampled_from([PLACE, OTHER])
JOBS, BYTES = 3, 100
SIZES = st.sampled_from([0, 1, 1, 50, 50, 99, 150])

#: A ticket and which of the partition's owners got it, counted by the model.
Owned = tuple[Ticket, int]


class AnyOrder(RuleBasedStateMachine):
    """Assign, receive, finish, release, revoke, lose in any order."""

    tracker = Inflight  #: replaced by mutants of it
    tickets = Bundle("tickets")
    started = Bundle("started")

    def __init__(self) -> None:
        super().__init__()
        self.inflight = self.tracker(Bounds(JOBS, BYTES))
        self.next = {PLACE: 0, OTHER: 0}
        self.unfinished: dict[tuple[str, int], set[int]] = {}
        self.leaving: set[tuple[str, int]] = set()
        self.seen: dict[tuple[str, int], int] = {}
        self.owners = {PLACE: 0, OTHER: 0}
        self.sizes: dict[Owned, int] = {}
        self.committed = {PLACE: 0, OTHER: 0}
        self.done_ahead: dict[tuple[str, int], frozenset[int]] = {PLACE: frozenset(), OTHER: frozenset()}
        self.finished: dict[tuple[str, int], set[int]] = {PLACE: set(), OTHER: set()}
        self.done_ahead_at_start = dict(self.done_ahead)
        self.finishes: set[Owned] = set()
        self.finishes_now: dict[tuple[str, int], set[int]] = {PLACE: set(), OTHER: set()}  # of the present owner

    @rule(place=PLACES)
    def assign(self, place: tuple[str, int]) -> None:
        if place not in self.unfinished:
            self.inflight.assign(place, self.committed[place], self.done_ahead[place])
            self.owners[place] += 1
            self.done_ahead_at_start[place] = self.done_ahead[place]
            self.finishes_now[place] = set()
            self.unfinished[place] = set()
            self.seen.pop(place, None)
            self.next[place] = self.committed[place]  # a new owner begins at the committed offset

    @initialize()
    def assign_both(self) -> None:
        self.assign(PLACE)
        self.assign(OTHER)

    @rule(place=PLACES)
    def begin_to_revoke(self, place: tuple[str, int]) -> None:
        self.inflight.leave(place)
        if place in self.unfinished:
            self.leaving.add(place)

    @precondition(lambda self: self.leaving)
    @rule()
    def end_revoke(self) -> None:
        self._commit(self.inflight.advanced_marks())
        for place in self.leaving:
            self._forget(place)
        self.leaving.clear()

    @rule(place=PLACES)
    def lose(self, place: tuple[str, int]) -> None:
        self.leaving.discard(place)
        self._forget(place)

    @rule(place=PLACES)
    def hand_over(self, place: tuple[str, int]) -> None:
        self.begin_to_revoke(place)
        self.end_revoke()
        self.assign(place)

    @rule(target=tickets, place=PLACES)
    def overtake_and_hand_over(self, place: tuple[str, int]) -> object:
        """The second of two ends first, and the partition moves on: its next owner has only the first to do."""
        pair = [self._arrive(place, 0) for _ in range(2)]
        started = [owned for owned in pair if owned and isinstance(self._start(owned, 0), tuple)]
        if started and started[-1] == pair[-1]:
            self.finish(started.pop())
        self.hand_over(place)
        for owned in started:
            self.finish(owned)  # too late
        return multiple(*(owned for owned in (self._arrive(place, 0) for _ in range(2)) if owned))

    @rule(target=tickets, place=PLACES, gap=st.sampled_from([0, 0, 3]))
    def arrive(self, place: tuple[str, int], gap: int) -> object:
        owned = self._arrive(place, gap)
        return multiple() if owned is None else owned

    @rule(target=started, place=PLACES, size=SIZES)
    def receive(self, place: tuple[str, int], size: int) -> object:
        owned = self._arrive(place, 0)
        return multiple() if owned is None else self._start(owned, size)

    def _arrive(self, place: tuple[str, int], gap: int) -> Owned | None:
        offset = self.next[place] + gap  # aborted and compacted offsets never arrive
        ticket = self.inflight.arrive(place, offset)
        if place not in self.unfinished:
            assert ticket is None
            return None
        self.finished[place].update(range(self.next[place], offset))
        self.seen[place] = offset
        self.next[place] = offset + 1
        assert (ticket is None) == (offset in self.done_ahead_at_start[place])
        if ticket is None:  # an owner before has done it
            self.finishes_now[place].add(offset)
            return None
        self.unfinished[place].add(offset)
        return ticket, self.owners[place]

    @rule(target=started, owned=consumes(tickets), size=SIZES)
    def start(self, owned: Owned, size: int) -> object:
        return self._start(owned, size)

    def _start(self, owned: Owned, size: int) -> object:
        ticket, _ = owned
        may_start = self.inflight.may_start(ticket)
        assert may_start == (self._is_ours(owned) and ticket.partition not in self.leaving)
        if not may_start:
            return multiple()
        if not self.inflight.admit(ticket):
            assert len(self.sizes) == JOBS
            return multiple()
        if not self.inflight.start(ticket, size):
            assert sum(self.sizes.values()) > 0
            assert sum(self.sizes.values()) + size > BYTES
            self.inflight.hand_back(ticket)
            return multiple()
        self.sizes[owned] = size
        return owned

    @rule(owned=consumes(started))
    def finish(self, owned: Owned) -> None:
        del self.sizes[owned]
        ticket, _ = owned
        assert self.inflight.finish(ticket) == self._is_ours(owned)
        assert owned not in self.finishes, "a delivery was finished twice"
        if self._is_ours(owned):
            self.finishes.add(owned)
            self.unfinished[ticket.partition].discard(ticket.offset)
            self.finished[ticket.partition].add(ticket.offset)
            self.finishes_now[ticket.partition].add(ticket.offset)

    @rule(target=tickets, owned=consumes(started))
    def release(self, owned: Owned) -> Owned:
        del self.sizes[owned]
        self.inflight.hand_back(owned[0])
        return owned

    @precondition(lambda self: self.unfinished)
    @rule()
    def commit(self) -> None:
        self._commit(self.inflight.advanced_marks())

    @invariant()
    def marks_are_the_lowest_unfinished(self) -> None:
        for place, unfinished in self.unfinished.items():
            seen = self.seen.get(place)
            expected = min(unfinished) if unfinished else None if seen is None else seen + 1
            assert self.inflight.mark(place) == expected
            head = self.inflight.head(place)
            assert (head and head.offset) == (min(unfinished) if unfinished else None)
            ahead = {offset for offset in self.finishes_now[place] if expected is not None and offset > expected}
            assert self.inflight.done_ahead(place) == ahead
            assert self.inflight.stretch(place) == (max(ahead) + 1 - self.inflight.mark(place) if ahead else 0)

    @invariant()
    def bounds_hold(self) -> None:
        assert self.inflight.jobs == len(self.sizes) <= JOBS
        assert self.inflight.bytes == sum(self.sizes.values())
        several = [size for size in self.sizes.values() if size]
        assert sum(several) <= BYTES or len(several) == 1

    @invariant()
    def intake_pauses_when_full_and_goes_on_at_half(self) -> None:
        jobs, size = len(self.sizes), sum(self.sizes.values())
        if jobs >= JOBS or size >= BYTES:
            assert self.inflight.is_full
        if jobs <= JOBS // 2 and size <= BYTES // 2:
            assert not self.inflight.is_full

    def teardown(self) -> None:
        """Let one last owner do what is left: every offset is finished, and none was passed over."""
        for place in (PLACE, OTHER):
            self._forget(place)
            self.inflight.assign(place)
            for offset in range(self.committed[place], self.next[place]):
                ticket = self.inflight.arrive(place, offset)
                assert ticket is not None
                assert self.inflight.finish(ticket)
                self.finished[place].add(offset)
            assert self.finished[place] >= set(range(self.next[place]))

    def _is_ours(self, owned: Owned) -> bool:
        ticket, owner = owned
        return ticket.partition in self.unfinished and self.owners[ticket.partition] == owner

    def _commit(self, marks: dict[tuple[str, int], int]) -> None:
        for place, mark in marks.items():
            assert place in self.unfinished, "a mark of a partition that is gone"
            assert mark >= self.committed[place], "a mark went back"
            assert set(range(mark)) <= self.finished[place], "a mark passed an unfinished offset"
            self.committed[place] = mark
            text = encode(mark, self.inflight.done_ahead(place))
            self.done_ahead[place] = decode(mark, text)
            assert self.done_ahead[place] <= self.finished[place], "a job that is not done counts as done"

    def _forget(self, place: tuple[str, int]) -> None:
        self.inflight.forget(place)
        self.unfinished.pop(place, None)
