"""What the system left behind: messages, committed offsets, rows, objects, metrics. Reads, and judges nothing."""

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import psycopg
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from benchmarks.chaos.faults import REPLAYED_HEADER
from benchmarks.chaos.system import System
from docfleet.kafka import headers_of
from docfleet.objects import document_name
from schemas import codec
from schemas.events import Event
from schemas.topics import DLQ, EVENTS, JOBS, RETRY, WORKER_GROUP

_BROKER_SECONDS: Final = 10.0
_WATCH_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 5.0
_IN_FLIGHT: Final = re.compile(r"^docfleet_jobs_in_flight (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a topic."""

    topic: str
    partition: int
    offset: int
    at: float  #: when it was produced, seconds since the epoch
    job_id: str
    is_replayed: bool  #: by this program
    event: Event | None  #: None where it cannot be decoded


@dataclass(frozen=True, slots=True)
class Committed:
    """What the workers' group had committed at a time: `docfleet.jobs` and its retries."""

    at: float
    offsets: dict[tuple[str, int], int]


@dataclass(slots=True)
class Watched:
    """What was seen while the storm was on."""

    commits: list[Committed] = field(default_factory=list)
    most_in_flight: float = 0.0
    samples: int = 0


class Watch:
    """Looks at committed offsets and at jobs in flight every second, as far as they can be had."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.watched = Watched()

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()  # not cancelled: a thread may be asking the consumer, which must not be closed under it
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        consumer = _consumer(self._system, WORKER_GROUP)
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_WATCH_SECONDS)) as session:
                while not self._ended.is_set():
                    await asyncio.gather(self._look_at_metrics(session), asyncio.to_thread(self._commits, consumer))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._ended.wait(), _WATCH_SECONDS)
        finally:
            consumer.close()

    async def _look_at_metrics(self, session: aiohttp.ClientSession) -> None:
        for url in self._system.metrics_urls("classifier_worker").values():
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as answer:
                    for found in _IN_FLIGHT.finditer(await answer.text()):
                        self.watched.samples += 1
                        self.watched.most_in_flight = max(self.watched.most_in_flight, float(found[1]))

    def _commits(self, consumer: Any) -> None:
        with suppress(KafkaException, KeyError):  # it is away, or knows no topics yet
            asked = [place for topic in (JOBS.name, RETRY.name) for place in _partitions(consumer, topic)]
            known = consumer.committed(asked, timeout=_WATCH_SECONDS)
            offsets = {(place.topic, place.partition): place.offset for place in known if place.offset >= 0}
            self.watched.commits.append(Committed(time.time(), offsets))


@dataclass(frozen=True, slots=True)
class Left:
    """What is there when all is quiet."""

    said: list[Said]  #: all messages of all topics, in the order of each partition
    rows: dict[str, dict[str, Any]]  #: of the run's tenants, by job id
    objects: set[str]
    orphans: set[str]  #: objects of no job, whoever posted

    def of(self, topic: str) -> list[Said]:
        """Return the messages of one topic."""
        return [said for said in self.said if said.topic == topic]


def gather(system: System, tenants: Collection[str]) -> Left:
    """Read everything that the run left behind. Blocks; all servers must be up."""
    stack = system.stack
    with psycopg.connect(stack["postgres_dsn"], row_factory=psycopg.rows.dict_row) as connection:
        rows = connection.execute("select * from jobs where tenant_id = any(%s)", [list(tenants)]).fetchall()
        known = {object_of(str(row["job_id"])) for row in connection.execute("select job_id from jobs").fetchall()}
    objects = _objects(stack["gcs_endpoint"], stack["gcs_bucket"])
    said = [message for topic in (JOBS, RETRY, DLQ, EVENTS) for message in _messages(system, topic.name)]
    return Left(said, {str(row["job_id"]): row for row in rows}, objects, objects - known)


def object_of(job_id: str) -> str:
    """Return the name of a job's object."""
    return document_name(job_id)


def _messages(system: System, topic: str) -> list[Said]:
    consumer = _consumer(system, "chaos-evidence")
    try:
        ends = {}
        for place in _partitions(consumer, topic):
            low, high = consumer.get_watermark_offsets(place, timeout=_BROKER_SECONDS)
            if high > low:
                ends[place.partition] = high
                place.offset = low
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        said: list[Said] = []
        heard = time.monotonic()
        # the last offsets may be control records, which are never delivered
        while ends and time.monotonic() - heard < _SILENT_SECONDS:
            for message in consumer.consume(1000, timeout=0.5):
                if message.error() is None:
                    heard = time.monotonic()
                    said.append(_said(message))
                    if said[-1].offset + 1 >= ends.get(said[-1].partition, 0):
                        ends.pop(said[-1].partition, None)
        return said
    finally:
        consumer.close()


def _said(message: Message) -> Said:
    try:
        event: Event | None = codec.decode(message.value())
    except codec.UndecodableMessage:
        event = None
    return Said(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        at=message.timestamp()[1] / 1000,
        job_id=(message.key() or b"").decode(),
        is_replayed=codec.header(headers_of(message), REPLAYED_HEADER) is not None,
        event=event,
    )


def _consumer(system: System, group: str) -> Any:
    quiet = {"log_level": 0, "error_cb": lambda _error: None, "enable.auto.commit": False}
    return Consumer({"bootstrap.servers": system.stack["kafka_bootstrap_servers"], "group.id": group} | quiet)


def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    found = consumer.list_topics(topic, timeout=_BROKER_SECONDS).topics[topic].partitions
    return [TopicPartition(topic, partition) for partition in found]


def _objects(endpoint: str, bucket: str) -> set[str]:
    names: set[str] = set()
    token = ""
    while True:
        url = f"{endpoint}/storage/v1/b/{bucket}/o?prefix=jobs/&pageToken={quote(token)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = json.load(answer)
        names |= {item["name"] for item in page.get("items", [])}
        token = page.get("nextPageToken", "")
        if not token:
            return names
