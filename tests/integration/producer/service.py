"""producer_api as a process of its own over real servers, and what it left in Postgres, Kafka and the store."""

import asyncio
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg.rows import dict_row

from docfleet import keys
from docfleet.stack.ports import free_port
from schemas import codec
from schemas.events import Event
from schemas.topics import Topic
from tests.servers import Gcs
from tests.waiting import PATIENCE_SECONDS, eventually_sync

PDF = b"%PDF-1.7\n" + b"not much of a document\n" * 10
CATEGORIES = '[{"name": "Invoice"}, {"name": "Letter"}]'


@dataclass
class Producer:
    """One running producer_api."""

    url: str
    dsn: str
    gcs: Gcs
    kafka: str
    process: subprocess.Popen[bytes]
    log_path: Path

    def new_key(self, *, quota: int = 1000, rate: int | None = None) -> "Client":
        """Return a client with a key, and a tenant, of its own."""
        key, tenant = keys.new_key(), f"tenant-{uuid4().hex}"
        keys.add(self.dsn, key, name=tenant, quota_limit=quota, rate_per_minute=rate)
        return Client(self, key, tenant)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), values or None).fetchall() if query else []

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode(), values)

    def job(self, job_id: str) -> dict[str, Any]:
        (row,) = self.rows("select * from jobs where job_id = %s", job_id)
        return row

    def object_names(self) -> set[str]:
        with urllib.request.urlopen(f"{self.gcs.endpoint}/storage/v1/b/{self.gcs.bucket}/o", timeout=5) as answer:
            return {item["name"] for item in json.load(answer).get("items", [])}

    def object_bytes(self, job_id: str) -> bytes:
        name = f"jobs%2F{job_id}%2Fdocument"
        url = f"{self.gcs.endpoint}/storage/v1/b/{self.gcs.bucket}/o/{name}?alt=media"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any
    text: str

    @property
    def error_code(self) -> Any:
        return self.body["error_code"]


@dataclass
class Client:
    """A tenant with an API key."""

    producer: Producer
    key: str
    tenant: str
    headers: dict[str, str] = field(default_factory=dict)

    async def post(
        self,
        *,
        file: bytes | None = PDF,
        categories: str | None = CATEGORIES,
        fields: list[tuple[str, Any, dict[str, Any]]] | None = None,
        options: Mapping[str, str] | None = None,
        **headers: str,
    ) -> Answer:
        """Post a form; `fields` replaces the usual ones, `options` add to them, `headers` take `_` for `-`."""
        form = aiohttp.FormData(default_to_multipart=True)
        if fields is None:
            fields = []
            if file is not None:
                fields.append(("pdf_file", file, {"filename": "document.pdf"}))
            if categories is not None:
                fields.append(("categories", categories, {}))
            fields += [(name, text, {}) for name, text in (options or {}).items()]
        for name, value, options in fields:
            # aiohttp warns of large bytes, and BytesIO needs a file name
            form.add_field(name, io.BytesIO(value) if options.get("filename") else value, **options)
        return await self.send("POST", "/classify", data=form, **headers)

    async def send(self, method: str, path: str, *, data: Any = None, **headers: str) -> Answer:
        sent = {"api-key": self.key} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.producer.url + path, data=data, headers=sent) as answer,
        ):
            text = await answer.text()
            body = json.loads(text) if answer.content_type == "application/json" else None
            return Answer(answer.status, answer.headers, body, text)

    def jobs(self) -> list[dict[str, Any]]:
        return self.producer.rows("select * from jobs where tenant_id = %s", self.tenant)

    def quota_used(self) -> int:
        (row,) = self.producer.rows("select quota_used from api_keys where name = %s", self.tenant)
        return int(row["quota_used"])

    def idempotency_rows(self) -> list[dict[str, Any]]:
        return self.producer.rows(
            "select i.* from idempotency_keys i join api_keys k using (key_id) where k.name = %s", self.tenant
        )

    def has_left_nothing(self) -> bool:
        """Whether neither job, quota, idempotency key nor object came of what was posted."""
        objects = {name for name in self.producer.object_names() if name.split("/")[1] not in _known(self.producer)}
        return not self.jobs() and self.quota_used() == 0 and not self.idempotency_rows() and not objects


def _known(producer: Producer) -> set[str]:
    return {str(row["job_id"]) for row in producer.rows("select job_id from jobs")}


@contextmanager
def running(*, kafka: str, dsn: str, gcs: Gcs, folder: Path, **settings: Any) -> Iterator[Producer]:
    """Run a process with DOCFLEET_ settings given in lower case without the prefix, and wait until it is ready."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCFLEET_")}
    environment |= {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": dsn,
        "STORAGE_EMULATOR_HOST": gcs.endpoint,
        "DOCFLEET_BUCKET": gcs.bucket,
        "DOCFLEET_HTTP_HOST": "127.0.0.1",
        "DOCFLEET_HTTP_PORT": str(port),
        "DOCFLEET_RELAY_INTERVAL_SECONDS": "0.2",
        "DOCFLEET_STOP_DEADLINE_SECONDS": "10",
    } | {f"DOCFLEET_{name.upper()}": str(value) for name, value in settings.items()}
    log_path = folder / f"producer-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "producer_api"], env=environment, stderr=log, stdout=log)
    producer = Producer(f"http://127.0.0.1:{port}", dsn, gcs, kafka, process, log_path)
    try:
        eventually_sync(lambda: _is_live(producer.url))
        yield producer
    except BaseException:
        print(log_path.read_text()[-6000:])  # noqa: T201  # pytest shows it with the failure
        raise
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _is_live(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/healthz/live", timeout=5) as answer:
        return bool(answer.status == 200)


async def events_of(
    kafka: str, topic: Topic, job_id: str, *, count: int = 1, within: float = PATIENCE_SECONDS
) -> list[Any]:
    """Return the first `count` messages of a job as (event, headers, message); fails when they do not come."""
    return await asyncio.to_thread(_read_events, kafka, topic, job_id, count, within)


def _read_events(kafka: str, topic: Topic, job_id: str, count: int, within: float) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": uuid4().hex, "auto.offset.reset": "earliest"})
    found: list[tuple[Event, Any, Any]] = []
    try:
        partitions = consumer.list_topics(topic.name, timeout=10).topics[topic.name].partitions
        consumer.assign([TopicPartition(topic.name, partition, 0) for partition in partitions])

        def read() -> bool:
            for message in consumer.consume(500, timeout=0.2):
                assert message.error() is None
                if message.key() == job_id.encode():
                    found.append((codec.decode(message.value()), message.headers(), message))
            return len(found) >= count

        eventually_sync(read, within=within)
        return found
    finally:
        consumer.close()


def job_id_of(answer: Answer) -> str:
    assert answer.status == 202, answer.text
    return str(UUID(answer.body["job_id"]))
