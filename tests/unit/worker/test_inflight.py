"""core/inflight: whatever the order of events, the mark is the lowest unfinished offset and the bounds hold."""

from hypothesis import settings

from classifier_worker.core.held import Bounds, Ticket
from classifier_worker.core.inflight import Inflight
from tests.unit.worker.inflight_model import PLACE, AnyOrder


def held(inflight: Inflight, offset: int, *, document_bytes: int = 1) -> Ticket:
    ticket = inflight.arrive(PLACE, offset)
    assert ticket is not None
    assert inflight.admit(ticket)
    assert inflight.start(ticket, document_bytes)
    return ticket


def assigned(bounds: Bounds | None = None) -> Inflight:
    inflight = Inflight(bounds or Bounds(100, 1000))
    inflight.assign(PLACE)
    return inflight


def test_mark_stays_at_the_lowest_unfinished_offset_when_later_ones_finish_first() -> None:
    inflight = assigned()
    tickets = [held(inflight, offset) for offset in (7, 8, 9)]
    inflight.finish(tickets[2])
    inflight.finish(tickets[1])
    assert inflight.mark(PLACE) == 7
    inflight.finish(tickets[0])
    assert inflight.mark(PLACE) == 10


def test_gaps_in_the_offsets_do_not_hold_the_mark() -> None:
    inflight = assigned()
    for offset in (3, 10):  # compacted or aborted offsets in between never arrive
        inflight.finish(held(inflight, offset))
    assert inflight.mark(PLACE) == 11


def test_a_mark_is_reported_once() -> None:
    inflight = assigned()
    inflight.finish(held(inflight, 0))
    assert inflight.advanced_marks() == {PLACE: 1}
    assert inflight.advanced_marks() == {}


def test_finishing_after_the_partition_was_forgotten_moves_no_mark_of_its_next_epoch() -> None:
    inflight = assigned()
    late = held(inflight, 5)
    inflight.forget(PLACE)
    inflight.assign(PLACE)
    again = held(inflight, 5)
    assert not inflight.finish(late)
    assert inflight.mark(PLACE) == 5
    assert inflight.finish(again)
    assert inflight.mark(PLACE) == 6


def test_a_job_of_a_forgotten_epoch_counts_until_it_ends() -> None:
    inflight = assigned()
    late = held(inflight, 0, document_bytes=10)
    inflight.forget(PLACE)
    assert (inflight.jobs, inflight.bytes) == (1, 10)
    inflight.finish(late)
    assert (inflight.jobs, inflight.bytes) == (0, 0)


def test_handing_back_frees_room_and_pins_the_mark() -> None:
    inflight = assigned()
    inflight.hand_back(held(inflight, 0))
    inflight.finish(held(inflight, 1))
    assert inflight.jobs == 0
    assert inflight.mark(PLACE) == 0


def test_nothing_of_a_leaving_partition_starts_and_its_marks_still_move() -> None:
    inflight = assigned()
    running = held(inflight, 0)
    waiting = inflight.arrive(PLACE, 1)
    assert waiting is not None
    inflight.admit(waiting)
    inflight.leave(PLACE)
    assert not inflight.may_start(waiting)
    assert inflight.jobs == 1
    inflight.finish(running)
    assert inflight.mark(PLACE) == 1


def test_a_log_that_begins_anew_is_a_new_epoch() -> None:
    inflight = assigned()
    old = held(inflight, 40)
    new = held(inflight, 0)
    assert not inflight.finish(old)
    assert inflight.mark(PLACE) == 0
    inflight.finish(new)
    assert inflight.mark(PLACE) == 1


def test_full_ends_only_when_half_is_free_again() -> None:
    inflight = assigned(Bounds(4, 1000))
    tickets = [held(inflight, offset) for offset in range(4)]
    assert inflight.is_full
    inflight.finish(tickets[0])
    assert inflight.is_full
    inflight.finish(tickets[1])
    assert not inflight.is_full


def test_documents_beyond_the_bytes_wait_but_one_larger_than_all_starts_alone() -> None:
    inflight = assigned(Bounds(10, 100))
    first = held(inflight, 0, document_bytes=60)
    second = inflight.arrive(PLACE, 1)
    assert second is not None
    inflight.admit(second)
    assert not inflight.start(second, 500)
    inflight.finish(first)
    assert inflight.start(second, 500)
    assert inflight.is_full


def test_head_and_stretch_tell_who_holds_the_mark_back_and_by_how_much() -> None:
    inflight = assigned()
    assert (inflight.head(PLACE), inflight.stretch(PLACE)) == (None, 0)
    tickets = [held(inflight, offset) for offset in (5, 6, 9)]
    inflight.finish(tickets[2])
    assert (inflight.head(PLACE), inflight.stretch(PLACE)) == (tickets[0], 5)
    inflight.finish(tickets[0])
    assert (inflight.head(PLACE), inflight.stretch(PLACE)) == (tickets[1], 4)
    inflight.finish(tickets[1])
    assert (inflight.head(PLACE), inflight.stretch(PLACE)) == (None, 0)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
