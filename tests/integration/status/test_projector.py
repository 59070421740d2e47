"""Events into rows, on a real broker and a real database."""

import random
import time
import uuid
from typing import Any, ClassVar

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas import codec, events
from schemas.topics import Topic
from status_service import projector
from tests import foreign_client
from tests.events import EPOCH, at, cancelled, completed, failed, life, progressed, requested, started
from tests.integration.status.place import Place
from tests.waiting import eventually_sync


def project_everything(place: Place) -> list[dict[str, Any]]:
    with place.projecting():
        eventually_sync(place.is_caught_up)
    return place.rows()


def some_lives() -> list[events.Event]:
    """Jobs in every state, and everything said about them twice."""
    jobs = [uuid.uuid4() for _ in range(6)]
    said: list[events.Event] = [
        *life(jobs[0]),
        *(requested(jobs[1]), started(jobs[1]), failed(jobs[1])),
        *(requested(jobs[2]), cancelled(jobs[2])),
        *(requested(jobs[3]), started(jobs[3]), progressed(jobs[3])),
        requested(jobs[4]),
        *(requested(jobs[5]), started(jobs[5]), started(jobs[5], seconds=4, attempt=2), completed(jobs[5])),
    ]
    return said + said


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_events_become_a_row(place: Place, group_protocol: str):
    job_id = uuid.uuid4()
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    place.say([requested(job_id, none_of_these=0.7, evidence=True), *life(job_id)[1:]], traceparent=traceparent)
    with place.projecting(group_protocol=group_protocol) as running:
        eventually_sync(place.is_caught_up)
        assert running.unready() is None
    row = place.row(job_id)
    assert (row["status"], row["progress"], row["tenant_id"]) == ("completed", "Classification completed", "acme")
    assert (row["created_at"], row["started_at"], row["finished_at"]) == (EPOCH, at(1), at(9))
    assert row["result"] == completed().result
    assert (row["categories"], row["media_type"], row["size_bytes"]) == (["invoice", "letter"], "application/pdf", 1234)
    assert (row["none_of_these"], row["evidence"]) == (0.7, True)
    assert (row["traceparent"], row["published_at"]) == (traceparent, at(0))


def test_replay_from_the_beginning_changes_nothing(place: Place):
    said, signs = [], []
    for event in some_lives():
        (signs if isinstance(event, events.ClassificationProgressed) else said).append(event)
    place.say(said)
    project_everything(place)  # signs of life lie on another topic, and count for nothing when read before their job
    place.say(signs)
    before = project_everything(place)
    with psycopg.connect(place.dsn) as connection:
        connection.execute("update consumer_offsets set next_offset = 0")
    assert project_everything(place) == before
    assert {row["status"] for row in before} == {"queued", "processing", "completed", "failed", "cancelled"}


def test_fresh_database_is_rebuilt_equal_from_the_topics(place: Place, other_database: Place):
    """Live, batches are what just came; the rebuild reads other batches, and the topics in another order."""
    chosen = random.Random(5)
    said = jumbled_lives(60, chosen)
    with place.projecting():
        while said:
            size = chosen.choice((1, 2, 30, 100))
            place.say(said[:size])
            del said[:size]
        eventually_sync(place.is_caught_up)
    rebuilt = lasting(project_everything(other_database))
    assert rebuilt == lasting(place.rows())
    assert len(rebuilt) == 60
    assert {row["status"] for row in rebuilt} == {"queued", "processing", "completed", "failed", "cancelled"}


def jumbled_lives(jobs: int, chosen: random.Random) -> list[events.Event]:
    """Return what is said about so many jobs: in any order, repeated, over several attempts, with more than one end."""
    said: list[events.Event] = []
    for _ in range(jobs):
        job_id = uuid.uuid4()
        life = [requested(job_id, none_of_these=chosen.choice((None, 0.5)))]
        life += [started(job_id, attempt, attempt=attempt) for attempt in range(1, chosen.randint(1, 4))]
        life += [progressed(job_id, 3 + number) for number in range(chosen.randint(0, 2))]
        life += [build(job_id, chosen.randint(5, 9)) for build in chosen.choices(ENDS, k=chosen.randint(0, 2))]
        said += chosen.choices(life, k=len(life)) + life
    chosen.shuffle(said)
    return said


ENDS = (completed, failed, cancelled)
#: What may differ between two tellings: words and signs of life under way come over another topic.
PASSING = {"progress", "last_seen_at"}


def lasting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what signs of life say about jobs that have not ended."""
    return [
        {name: row[name] for name in row.keys() - ({"last_seen_at"} if row["finished_at"] else PASSING)} for row in rows
    ]


def test_terminal_row_keeps_what_it_says_whatever_comes_later(place: Place):
    job_id = uuid.uuid4()
    place.say([started(job_id), completed(job_id)])
    before = project_everything(place)
    place.say([started(job_id, 20), progressed(job_id, 21), failed(job_id, 22), cancelled(job_id, 23)])
    assert project_everything(place) == before


def test_clocks_that_disagree_turn_no_state_back_and_change_no_end(place: Place):
    """What comes later in a topic counts as later, whatever time its writer says it is."""
    job_id = uuid.uuid4()
    place.say([requested(job_id), started(job_id, -600)])
    assert project_everything(place)[0]["status"] == "processing"
    place.say([completed(job_id, -900)])
    [ended] = project_everything(place)
    assert (ended["status"], ended["started_at"], ended["finished_at"]) == ("completed", at(-600), at(-900))
    place.say([started(job_id, -3600, attempt=2), failed(job_id, -1800, attempt=2), progressed(job_id, 3600)])
    assert project_everything(place) == [ended | {"attempt": 2}]


def test_first_attempts_start_stays_and_the_last_attempts_number(place: Place):
    job_id = uuid.uuid4()
    place.say([requested(job_id), started(job_id, 1), progressed(job_id, 2), started(job_id, 7, attempt=2)])
    row = next(row for row in project_everything(place) if row["job_id"] == job_id)
    assert (row["status"], row["started_at"], row["attempt"], row["last_seen_at"]) == ("processing", at(1), 2, at(7))


def test_progress_moves_with_newer_signs_and_never_back(place: Place):
    job_id = uuid.uuid4()
    place.say([started(job_id)])
    project_everything(place)
    place.say([progressed(job_id, 3, progress="Processing page 2 of 4"), progressed(job_id, 2)])
    assert project_everything(place)[0]["progress"] == "Processing page 2 of 4"
    assert place.row(job_id)["last_seen_at"] == at(3)


def test_row_of_the_producer_is_kept_and_led_on(place: Place):
    job_id = place.queued(object_name="elsewhere", file_url="https://example.org/a.pdf")
    place.say([requested(job_id)])
    assert project_everything(place)[0]["object_name"] == "elsewhere"
    place.say([started(job_id)])
    row = project_everything(place)[0]
    assert (row["status"], row["file_url"], row["started_at"]) == ("processing", "https://example.org/a.pdf", at(1))


def test_offsets_of_postgres_count_and_not_those_of_kafka(place: Place):
    place.say(life())
    consumer = Consumer({"bootstrap.servers": place.settings.kafka_bootstrap_servers, "group.id": place.group})
    ends = [TopicPartition(topic, number, end) for (topic, number), end in place.ends().items()]
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()
    assert [row["status"] for row in project_everything(place)] == ["completed"]


def test_restart_goes_on_at_the_stored_offset_and_kafka_is_told_of_it(place: Place):
    place.say(life())
    project_everything(place)
    with psycopg.connect(place.dsn) as connection:
        connection.execute("delete from jobs")  # so that whatever is read again shows
    job_id = uuid.uuid4()
    place.say(life(job_id))
    assert [row["job_id"] for row in project_everything(place)] == [job_id]
    consumer = Consumer({"bootstrap.servers": place.settings.kafka_bootstrap_servers, "group.id": place.group})
    ends = place.ends()
    committed = consumer.committed([TopicPartition(*partition) for partition in ends], timeout=10)
    consumer.close()
    assert {(tp.topic, tp.partition): tp.offset for tp in committed} == ends


def test_offset_that_the_topic_does_not_have_means_the_beginning(place: Place):
    place.say(life())
    project_everything(place)
    with psycopg.connect(place.dsn) as connection:
        connection.execute("delete from jobs")
        connection.execute("update consumer_offsets set next_offset = next_offset + 1000000")
    assert [row["status"] for row in project_everything(place)] == ["completed"]


def test_messages_that_are_no_events_are_passed_over(place: Place, caplog: pytest.LogCaptureFixture):
    job_id = uuid.uuid4()
    key = str(job_id).encode()
    event = completed(job_id)
    broken = completed(job_id, result='{"scores": NaN}')
    hostile = [
        *(None, b"", b"\xc3", b"junk", b"\xc3\x01" + b"\x00" * 8, codec.encode(event)[:-5], codec.encode(broken)),
        *(b"\x00\x00\x00\x00\x01abc", codec.encode(event)[:10] + b"\xff" * 40),
    ]
    for value in hostile:
        place.say_bytes(place.events, value, key)
    place.say([event])
    rows = project_everything(place)
    assert [row["status"] for row in rows] == ["completed"]
    skipped = [record for record in caplog.records if getattr(record, "action", "") == "message_skipped"]
    assert len(skipped) == len(hostile)
    assert {record.topic for record in skipped} == {place.events.name}  # type: ignore[attr-defined]


class LateRegistry:
    """Schema ids of a registry that does not answer until it is there."""

    is_there = False

    def id_of(self, full_name: str) -> int:
        return [codec.full_name(event_type) for event_type in events.EVENT_TYPES].index(full_name)

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if not self.is_there:
            raise ConnectionError("the registry is away")
        name = codec.full_name(events.EVENT_TYPES[schema_id])
        return codec.schema_of(name) | {"name": name}


def test_header_whose_name_is_no_text_is_left_out_and_its_event_counts(place: Place):
    job_id = uuid.uuid4()
    value = codec.encode(started(job_id))
    foreign_client.produce(place.settings.kafka_bootstrap_servers, place.events.name, value, b"\xff\xfe")
    [row] = project_everything(place)
    assert (row["job_id"], row["status"]) == (job_id, "processing")


def test_registry_that_is_away_holds_events_up_and_loses_none(place: Place):
    event, ids = completed(), LateRegistry()
    place.say_bytes(place.events, codec.encode(event, ids))
    with place.projecting(schema_ids=ids) as running:
        assert_never(place.rows, for_seconds=0.7)
        assert running.fault() is None
        ids.is_there = True
        eventually_sync(place.is_caught_up)
    assert place.row(event.job_id)["status"] == "completed"


def test_nul_characters_do_not_stop_the_projector(place: Place):
    jobs = [uuid.UUID(int=number) for number in range(3)]
    place.say(
        [
            requested(jobs[0], categories=("a\x00b", 'quo"te\\'), tenant_id="t\x00"),
            *(started(jobs[1]), progressed(jobs[1], progress="page\x00 1")),
            failed(jobs[2], error="why\x00?"),
            completed(jobs[0], tenant_id="t\x00", result='{"classification": "a\\u0000b"}'),
        ]
    )
    rows = project_everything(place)
    assert (rows[0]["categories"], rows[0]["tenant_id"]) == (["a\ufffdb", 'quo"te\\'], "t\ufffd")
    assert rows[0]["result"] == '{"classification": "a\\u0000b"}'
    assert [row["status"] for row in rows] == ["completed", "processing", "failed"]
    assert rows[2]["error"] == "why\ufffd?"


def test_projector_whose_partitions_were_claimed_by_another_writes_nothing_before_it_claims_them_again(
    place: Place, caplog: pytest.LogCaptureFixture
):
    place.say(life())
    with place.projecting() as running:
        eventually_sync(place.is_caught_up)
        with psycopg.connect(place.dsn) as connection:
            connection.execute("update consumer_offsets set owner_epoch = owner_epoch + 1")
        stored = place.offsets()
        late = life()
        place.say(late)
        eventually_sync(lambda: "another process claimed partitions" in caplog.text)
        assert (place.row(late[0].job_id), place.offsets()) == ({}, stored)  # it waits: it may not know yet
        eventually_sync(place.is_caught_up)
        assert all(place.offsets()[partition][1] == epoch + 1 for partition, (_, epoch) in stored.items())
        assert running.fault() is None
    assert [row["status"] for row in place.rows()] == ["completed"] * 2


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_projector_whose_offsets_were_lost_reads_everything_again_and_goes_on(place: Place, group_protocol: str):
    """Partitions that stay silent come back, too."""
    place.say(event for _ in range(60) for event in life())
    with place.projecting(group_protocol=group_protocol) as running:
        eventually_sync(place.is_caught_up)
        with psycopg.connect(place.dsn) as connection:
            connection.execute("delete from consumer_offsets")
            connection.execute("delete from jobs")
        place.say(life())
        eventually_sync(place.is_caught_up)
        place.say(life())
        eventually_sync(place.is_caught_up)
        assert running.fault() is None
    rows = place.rows()
    assert [row["status"] for row in rows] == ["completed"] * 62
    assert all(row["object_name"] and row["started_at"] for row in rows)  # from every topic, without a gap


class LeaderlessConsumer(Consumer):
    """As if a partition had no leader: one broker cannot be without and go on with its others."""

    leaderless: ClassVar[set[tuple[str, int]]] = set()

    def get_watermark_offsets(self, partition: TopicPartition, *arguments: Any, **options: Any) -> Any:
        if (partition.topic, partition.partition) in self.leaderless:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        return super().get_watermark_offsets(partition, *arguments, **options)


def test_partition_without_a_leader_keeps_no_other_from_being_read(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(projector, "Consumer", LeaderlessConsumer)
    place.say(event for _ in range(20) for event in life())
    left = (place.events.name, 1)
    monkeypatch.setattr(LeaderlessConsumer, "leaderless", {left})
    others = place.ends().items() - {(left, place.ends()[left])}
    with place.projecting():
        eventually_sync(lambda: {(name, offset) for name, (offset, _) in place.offsets().items()} >= others)
        assert place.offsets()[left][0] == 0
        LeaderlessConsumer.leaderless.clear()
        eventually_sync(place.is_caught_up)
    assert [row["status"] for row in place.rows()] == ["completed"] * 20


def assert_never(happens: Any, *, for_seconds: float) -> None:
    ends_at = time.monotonic() + for_seconds
    while time.monotonic() < ends_at:
        assert not happens()
        time.sleep(0.05)


def test_two_projectors_share_the_partitions_and_either_goes_on_alone(place: Place):
    def epochs(topic: Topic) -> list[int]:
        return [epoch for (name, _), (_, epoch) in place.offsets().items() if name == topic.name]

    with place.projecting():
        eventually_sync(lambda: len(place.offsets()) == 9)
        with place.projecting():
            eventually_sync(lambda: max(epochs(place.events) + epochs(place.jobs) + epochs(place.progress)) > 1)
            place.say(event for _ in range(20) for event in life())
            eventually_sync(place.is_caught_up)
        place.say(event for _ in range(20) for event in life())
        eventually_sync(place.is_caught_up)
    assert [row["status"] for row in place.rows()] == ["completed"] * 40


def test_partitions_that_left_while_the_projector_backed_off_are_read_when_they_come_back(
    place: Place, caplog: pytest.LogCaptureFixture
):
    late, there = LateRegistry(), LateRegistry()
    there.is_there = True
    with place.projecting(schema_ids=late):
        eventually_sync(lambda: len(place.offsets()) == 9)
        place.say_bytes(place.events, codec.encode(completed(), late))
        eventually_sync(lambda: "projection_postponed" in [getattr(r, "action", "") for r in caplog.records])
        with place.projecting(schema_ids=there):
            eventually_sync(lambda: max(epoch for _, epoch in place.offsets().values()) > 1)
            late.is_there = True
            eventually_sync(place.is_caught_up)
        place.say(event for _ in range(20) for event in life())
        eventually_sync(place.is_caught_up)
