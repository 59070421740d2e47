"""What only share groups (KIP-932) have: locks that run out, deliveries that are counted, a group that went before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from classifier_worker.breaker import Breaker
from classifier_worker.core.held import Bounds
from classifier_worker.handoff import HandOffOptions
from classifier_worker.record_handoff import RecordHandOff
from classifier_worker.share_consumer import JobShareConsumer, ShareOptions
from docfleet import metrics
from docfleet.share_groups import GroupTerms
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from tests.contract.consuming import Backend, decode, member, place, topic_on
from tests.servers import kafka_server_running
from tests.waiting import eventually_sync


@pytest.fixture
def backend(kafka: str, unique: str) -> Iterator[Backend]:
    with topic_on(kafka, "share", unique) as opened:
        yield opened


def told(what: str) -> float:
    return metrics.SHARE_RECORDS.labels(what)._value.get()  # type: ignore[no-any-return]  # noqa: SLF001


def deliver_twice(backend: Backend) -> None:
    """Let the broker drop a record after its second delivery."""
    entry = ConfigEntry("share.delivery.count.limit", "2", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, backend.group, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": backend.bootstrap_servers})
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result(10)


def test_a_job_is_asked_to_stop_before_its_lock_runs_out_and_is_not_done_twice(backend: Backend) -> None:
    backend.produce(0, 1)
    with member(backend, lock_seconds=5) as one, member(backend, lock_seconds=5) as two:
        delivery = eventually_sync(lambda: one.consumer.receive(0.1) or two.consumer.receive(0.1))
        owner, other = (one, two) if one.handoff.jobs else (two, one)
        breaker = Breaker(owner.handoff, owner.consumer.ack)  # as if the job were handed to the retry topic

        def is_stopped() -> bool:
            breaker.look()
            return delivery.ending.is_overdue

        eventually_sync(is_stopped)
        owner.consumer.ack(delivery)  # its thread reacts
        backend.commits(0, 1)
        assert other.consumer.receive(2.5) is None


def test_the_job_of_a_thread_that_does_not_react_is_ended_before_its_lock_runs_out(backend: Backend) -> None:
    backend.produce(0, 1)
    lost = told("lock_lost")
    with member(backend, lock_seconds=6) as one:
        delivery = one.get()
        breaker = Breaker(one.handoff, one.consumer.ack)

        def is_done() -> bool:
            breaker.look()
            return backend.committed(0) == 1

        eventually_sync(is_done)
        assert breaker.hung == 1
        one.consumer.ack(delivery)  # much later; counts for nothing
        assert told("lock_lost") == lost


def test_a_lock_that_ran_out_is_told_and_a_later_ack_counts_for_nothing(backend: Backend) -> None:
    backend.produce(0, 1)
    lost = told("lock_lost")
    with member(backend, lock_seconds=2) as one:
        late = one.get()
        again = one.get()
        assert place(again) == place(late) == (0, 0)
        assert told("lock_lost") == lost + 1
        one.consumer.ack(late)
        assert one.handoff.jobs == 1
        assert backend.committed(0) in (None, 0)
        one.consumer.ack(again)
        backend.commits(0, 1)


def test_what_does_not_start_in_half_its_lock_is_left_to_others(kafka: str, unique: str) -> None:
    # One partition and one member each: the broker gives a partition to some members only, and those of a worker that
    # is full would wait for its locks.
    alone: dict[str, Any] = {"bounds": Bounds(1, 1 << 30), "lock_seconds": 12, "share_members": 1}
    left = told("released")
    with (
        topic_on(kafka, "share", unique, partitions=1) as backend,
        member(backend, **alone) as one,
        member(backend, **alone) as two,
    ):
        backend.produce(0, 1, 1)  # one batch, which the broker gives out as a whole
        first = eventually_sync(lambda: one.consumer.receive(0.1) or two.consumer.receive(0.1))
        assert place(first) == (0, 0)
        other = two if one.handoff.jobs else one
        assert place(other.get()) == (0, 1)
        assert told("released") > left, "its lock ran out instead"


def test_a_message_on_its_last_delivery_is_published_again_and_not_dropped(backend: Backend) -> None:
    deliver_twice(backend)
    backend.produce(0, 77)
    with member(backend) as one:
        one.consumer.release(one.get())
        again = one.get()
        assert place(again) == (0, 1), "the second delivery is the last, so the message is at the end of the topic now"
        assert again.request is not None
        assert again.request.size_bytes == 77
        one.consumer.ack(again)
        backend.commits(0, 2)


def test_a_message_too_large_to_be_published_again_is_given_up_and_holds_nothing_back(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    deliver_twice(backend)
    other_client = {"message.max.bytes": 4 << 20, "compression.type": "zstd"}
    producer = Producer({"bootstrap.servers": backend.bootstrap_servers} | other_client)
    producer.produce(backend.topic, value=b" " * (2 << 20), partition=0)
    assert producer.flush(20) == 0
    with member(backend, share_members=1) as one:
        one.consumer.release(one.get())
        backend.commits(0, 1)
        assert "not carried over, given up" in caplog.text
        backend.produce(0, 1)
        one.consumer.ack(one.get())
        backend.commits(0, 2)


def test_what_the_consumer_group_had_committed_is_not_done_again(backend: Backend) -> None:
    backend.produce(0, 1, 1, 1)
    former = Consumer({"bootstrap.servers": backend.bootstrap_servers, "group.id": backend.former_group})
    former.commit(offsets=[TopicPartition(backend.topic, 0, 2)], asynchronous=False)
    former.close()
    with member(backend) as one:
        last = one.get()
        assert place(last) == (0, 2)
        one.consumer.ack(last)
        backend.commits(0, 3)


def test_a_worker_that_starts_before_its_broker_joins_when_the_broker_comes(
    tmp_path: Path, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    backend = Backend(f"127.0.0.1:{port}", "share", f"jobs-{unique}", f"workers-{unique}")
    with member(backend) as one:
        eventually_sync(lambda: "share group not ready" in caplog.text)
        assert one.consumer.unready_because(60)
        with kafka_server_running(tmp_path, port):
            backend.make_topic()
            backend.produce(0, 1)
            one.consumer.ack(one.get())
            backend.commits(0, 1)
            assert one.consumer.close(Deadline(10))
            backend.close()


def test_a_worker_whose_share_group_cannot_be_asked_at_all_counts_as_failed() -> None:
    def terms() -> GroupTerms:
        raise KeyError("jobs")

    options = ShareOptions(config={}, topics=["jobs"], members=1, terms=terms, carry_over=lambda *_: None)
    consumer = JobShareConsumer(options, RecordHandOff(HandOffOptions(bounds=Bounds(1, 1), decode=decode)))
    consumer.start()
    eventually_sync(lambda: consumer.has_failed)
    assert "jobs" in (consumer.dead_because(60) or "")
    consumer.close(Deadline(0))
