"""The consume port keeps its promises on every kind of group: librdkafka's mock, Kafka's classic, KIP-848, KIP-932."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from classifier_worker.core.held import Bounds
from classifier_worker.core.retry import DELAY_SECONDS_MAX
from docfleet.stopping import Deadline
from schemas import codec
from schemas.topics import NOT_BEFORE_HEADER
from tests.contract.consuming import PARTITIONS, Backend, member, place, topic_on
from tests.waiting import eventually_sync


@pytest.fixture(scope="session")
def mock_kafka() -> Iterator[str]:
    host = Producer({"bootstrap.servers": "ignored", "test.mock.num.brokers": 1, "log_level": 0})
    broker = host.list_topics(timeout=10).brokers[1]
    yield f"{broker.host}:{broker.port}"
    host.flush(0)


def on(*backends: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("backend", backends, indirect=True)


#: Where partitions are owned by a member. Those of a share group are not: nothing of it is revoked, lost or drained.
OWNED = on("mock-classic", "kafka-classic", "kafka-consumer")
#: The mock takes seconds for each rebalance; the slowest tests leave it out.
OWNED_SLOW_ON_MOCK = on("kafka-classic", "kafka-consumer")
SLOW_ON_MOCK = on("kafka-classic", "kafka-consumer", "kafka-share")


@pytest.fixture(params=["mock-classic", "kafka-classic", "kafka-consumer", "kafka-share"])
def backend(request: pytest.FixtureRequest, unique: str) -> Iterator[Backend]:
    name, group_protocol = request.param.split("-")
    if name == "kafka":
        with topic_on(request.getfixturevalue("kafka"), group_protocol, unique) as opened:
            yield opened
        return
    # the mock makes topics of four partitions when asked about them
    servers, topic = request.getfixturevalue("mock_kafka"), f"jobs-{unique}"
    assert len(Producer({"bootstrap.servers": servers}).list_topics(topic, timeout=10).topics[topic].partitions) == 4
    opened = Backend(servers, group_protocol, topic, f"workers-{unique}")
    yield opened
    opened.close()


def test_what_finishes_out_of_order_is_committed_up_to_the_lowest_unfinished(backend: Backend) -> None:
    backend.produce(0, *[1] * 4)
    with member(backend) as one:
        first, second, third, fourth = (one.get() for _ in range(4))
        one.consumer.ack(first)
        one.consumer.ack(third)
        one.consumer.ack(fourth)
        backend.commits(0, 1)
        one.consumer.ack(second)
        backend.commits(0, 4)


def test_leaving_commits_what_is_done_and_the_next_member_gets_the_rest(backend: Backend) -> None:
    backend.produce(0, *[1] * 3)
    with member(backend) as one:
        done, released, held = (one.get() for _ in range(3))
        one.consumer.ack(done)
        one.consumer.stop_intake()
        one.consumer.release(released)
        one.consumer.ack(held)
        assert one.consumer.close(Deadline(10))
    backend.commits(0, 1)
    with member(backend) as two:
        assert place(two.get()) == (0, 1)
        assert two.consumer.receive(1.0) is None, "what was finished ahead of an unfinished one was done again"


@OWNED
def test_a_revoked_partition_is_never_committed_by_its_former_owner(backend: Backend) -> None:
    for partition in range(PARTITIONS):
        backend.produce(partition, 1, 1)
    with member(backend, drain_seconds=0) as one:
        held = [one.get() for _ in range(2 * PARTITIONS)]
        with member(backend, drain_seconds=0) as two:
            eventually_sync(lambda: one.owns(2) and two.owns(2))
            moved = two.partitions()
            again = [two.get() for _ in range(4)]
            assert {place(d) for d in again} == {(p, offset) for p in moved for offset in (0, 1)}
            for delivery in held:
                one.consumer.ack(delivery)
            for kept in one.partitions():
                backend.commits(kept, 2)
            assert {backend.committed(partition) or 0 for partition in moved} == {0}
            for delivery in again:
                two.consumer.ack(delivery)
            for partition in moved:
                backend.commits(partition, 2)


@OWNED_SLOW_ON_MOCK
def test_a_rebalance_waits_for_started_jobs_and_drops_what_has_not_started(backend: Backend) -> None:
    for partition in range(PARTITIONS):
        backend.produce(partition, 1, 1)
    with member(backend, drain_seconds=25) as one:
        eventually_sync(lambda: one.handoff.jobs == 2 * PARTITIONS)
        started = {}
        for _ in range(2 * PARTITIONS):
            delivery = one.get()
            if place(delivery)[1] == 1:  # the second of each partition is put back, as if it had not started
                one.consumer.release(delivery)
            else:
                started[place(delivery)[0]] = delivery
        one.handoff.stop()
        with member(backend) as two:
            eventually_sync(lambda: len(one.handoff.partitions) == PARTITIONS and one.handoff.jobs == PARTITIONS)
            time_of_ack = {}

            def finish() -> None:
                for partition, delivery in started.items():
                    time_of_ack[partition] = time.monotonic()
                    one.consumer.ack(delivery)

            threading.Timer(2.0, finish).start()  # while the rebalance is under way
            received = [two.get() for _ in range(2)]
            assert time_of_ack, "a partition moved while its job was running"
            assert {place(d)[1] for d in received} == {1}, "a finished job was done again"


@OWNED_SLOW_ON_MOCK
def test_a_lost_partition_is_forgotten_and_not_committed(backend: Backend) -> None:
    backend.produce(0, 1, 1)
    quick = {"max.poll.interval.ms": 6000}
    with member(backend, **quick) as one:
        first, _ = one.get(), one.get()
        one.handoff.may_turn.clear()
        with member(backend) as two:
            again = two.get()
            assert place(again) == (0, 0)
            one.consumer.ack(first)
            one.handoff.may_turn.set()
            eventually_sync(lambda: not one.handoff._inflight.is_current(first.ticket))  # noqa: SLF001
            two.consumer.ack(two.get())
            assert backend.committed(0) in (None, 0)


@SLOW_ON_MOCK
def test_in_flight_stays_below_its_bound_while_the_member_stays_in_the_group(backend: Backend) -> None:
    for partition in range(PARTITIONS):
        backend.produce(partition, *[1] * 20)
    with member(backend, bounds=Bounds(8, 1 << 30)) as one:
        eventually_sync(lambda: one.handoff.jobs == 8)
        owned = None if backend.is_share else one.handoff.partitions
        received = set()
        for _ in range(4 * 20):
            delivery = one.get()
            received.add(place(delivery))
            one.consumer.ack(delivery)
        assert len(received) == 4 * 20, "a message was lost or repeated by pausing"
        assert one.handoff.most_jobs <= 8
        assert owned is None or one.handoff.partitions == owned
        for partition in range(PARTITIONS):
            backend.commits(partition, 20)


def test_documents_beyond_the_bytes_wait_for_those_that_are_started(backend: Backend) -> None:
    backend.produce(0, 60, 60, 500)
    with member(backend, bounds=Bounds(8, 100)) as one:
        first = one.get()
        assert one.consumer.receive(0.3) is None
        one.consumer.ack(first)
        second = one.get()
        assert place(second) == (0, 1)
        one.consumer.ack(second)
        assert place(one.get()) == (0, 2), "a document larger than the bound starts alone"


def test_a_retry_waits_for_its_time_without_holding_up_what_is_behind_it(backend: Backend) -> None:
    with member(backend, bounds=Bounds(2, 100)) as one:
        backend.produce(0, 1)
        one.consumer.ack(one.get())  # what is about to come is received at once
        due = datetime.now(UTC) + timedelta(seconds=4 if backend.is_share else 2)
        backend.produce(0, 1, headers=[(NOT_BEFORE_HEADER, codec.utc(due).encode())])
        backend.produce(0, 1)
        prompt = one.get()
        assert place(prompt) == (0, 2)
        assert one.handoff.jobs == 1, "what waits for its time is not in flight"
        late = one.get()
        assert place(late) == (0, 1)
        assert datetime.now(UTC) >= due
        one.consumer.ack(prompt)
        one.consumer.ack(late)
        backend.commits(0, 3)


def test_a_message_whose_time_never_comes_waits_no_longer_than_a_retry_can(backend: Backend) -> None:
    never = [(NOT_BEFORE_HEADER, b"9999-12-31T00:00:00Z")]
    with member(backend, lock_seconds=4) as one:
        nearly_due = time.time() - DELAY_SECONDS_MAX + 4  # with a share group, after it was handed back once
        backend.produce(0, 1, headers=never, timestamp_ms=int(nearly_due * 1000))
        one.consumer.ack(one.get())
        backend.commits(0, 1)


def test_a_message_that_is_no_job_is_received_with_its_fault(backend: Backend) -> None:
    producer = Producer({"bootstrap.servers": backend.bootstrap_servers})
    producer.produce(backend.topic, value=b"{}", partition=0)
    assert producer.flush(20) == 0
    with member(backend) as one:
        delivery = one.get()
        assert delivery.request is None
        assert "unknown framing" in delivery.fault


def test_intake_stands_still_when_most_messages_are_given_up(backend: Backend) -> None:
    backend.produce(0, *[1] * 8)
    with member(backend) as one:
        for _ in range(5):
            one.consumer.reject(one.get())
        assert one.consumer.receive(0.3) is None
        assert "dead letter" in (one.consumer.unready_because(60) or "")
        backend.commits(0, 5)


def test_a_released_message_comes_again_to_the_same_member(backend: Backend) -> None:
    backend.produce(0, 1)
    with member(backend) as one:
        one.consumer.release(one.get())
        again = one.get()
        assert place(again) == (0, 0)
        one.consumer.ack(again)
        backend.commits(0, 1)


@OWNED_SLOW_ON_MOCK
def test_a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back(backend: Backend) -> None:
    for partition in range(PARTITIONS):
        backend.produce(partition, 1, 1)
    with member(backend, bounds=Bounds(4, 1 << 30), drain_seconds=0) as one:
        held = [one.get() for _ in range(4)]  # the bound: everything is paused
        with member(backend, drain_seconds=0) as two:
            eventually_sync(lambda: one.owns(2) and two.owns(2))
            for delivery in held:
                one.consumer.ack(delivery)
        eventually_sync(lambda: one.owns(PARTITIONS))
        for partition in range(PARTITIONS):
            backend.produce(partition, 1)
        last = set()
        while len(last) < PARTITIONS:
            delivery = one.get()
            one.consumer.ack(delivery)
            last |= {place(delivery)} & {(partition, 2) for partition in range(PARTITIONS)}
