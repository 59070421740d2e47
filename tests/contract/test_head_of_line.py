"""The job that holds a partition back is bounded: its partition pauses, the job is stopped, the mark moves on."""

from collections.abc import Iterator

import pytest

from classifier_worker.breaker import Breaker
from classifier_worker.handoff import HeadLimits
from tests.contract.consuming import Backend, Member, member, place, topic_on
from tests.waiting import eventually_sync


@pytest.fixture
def backend(kafka: str, unique: str) -> Iterator[Backend]:
    with topic_on(kafka, "classic", unique) as opened:
        yield opened


def finish(one: Member, count: int) -> None:
    for _ in range(count):
        one.consumer.ack(one.get())


def test_intake_of_a_partition_pauses_while_its_head_lags_and_others_go_on(backend: Backend) -> None:
    with member(backend, head=HeadLimits(seconds=60, stretch=10)) as one:
        backend.produce(0, *[1] * 10)
        head = one.get()
        finish(one, 8)
        assert one.handoff.to_pause() == frozenset()
        finish(one, 1)
        assert one.handoff.to_pause() == {(backend.topic, 0)}
        eventually_sync(lambda: one.consumer._paused)  # noqa: SLF001
        backend.produce(0, 1)
        backend.produce(1, 1)
        assert place(one.get()) == (1, 0)
        assert one.consumer.receive(0.5) is None
        one.consumer.ack(head)
        assert place(one.get()) == (0, 10)


def test_a_head_that_lags_too_far_is_stopped_and_no_other_job(backend: Backend) -> None:
    with member(backend, head=HeadLimits(seconds=60, stretch=4)) as one:
        backend.produce(0, *[1] * 6)
        head, running = one.get(), one.get()
        breaker = Breaker(one.handoff, one.consumer.ack)
        finish(one, 2)
        breaker.look()
        assert head.ending.is_overdue
        assert not running.ending.is_overdue


def test_an_old_head_is_stopped_and_the_mark_moves_on_although_its_thread_hangs(backend: Backend) -> None:
    with member(backend, head=HeadLimits(seconds=0.2, stretch=1000, grace_seconds=0.2)) as one:
        backend.produce(0, 1, 1)
        head = one.get()
        finish(one, 1)

        def take_over(delivery: object) -> None:
            head.ending.claim()
            one.consumer.ack(head)  # as when its request is in the retry topic

        breaker = Breaker(one.handoff, take_over)

        def has_moved() -> bool:
            breaker.look()
            return backend.committed(0) == 2

        eventually_sync(has_moved)
        assert breaker.hung == 1
        one.consumer.release(head)  # the hung thread wakes: nothing is done again
        assert one.consumer.receive(1.5) is None
        assert backend.committed(0) == 2
