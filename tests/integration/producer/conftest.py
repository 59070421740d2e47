"""Fixtures only.

`producer` is one process for all tests that need nothing special of it; each test has keys and a tenant of its own.
`start` runs another one, with a database and a bucket of the test's own.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from docfleet.stack import gcs_server
from tests import servers
from tests.integration.producer import service


@pytest.fixture(scope="session")
def producer(
    kafka: str, topics: None, postgres_server_dsn: str, gcs_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[service.Producer]:
    dsn = servers.new_database(postgres_server_dsn)
    bucket = f"producer-{uuid4().hex[:12]}"
    gcs_server.create_bucket(gcs_endpoint, bucket, within_seconds=10)
    with service.running(
        kafka=kafka,
        dsn=dsn,
        gcs=servers.Gcs(gcs_endpoint, bucket),
        folder=tmp_path_factory.mktemp("producer"),
        upload_max_bytes=3_000_000,
        upload_memory_bytes=200_000,
        upload_idle_seconds=1.0,
        key_cache_seconds=0.2,
        fetch_backoff_seconds=0.1,
        fetch_idle_seconds=1.0,
        file_url_allow="127.0.0.1",
    ) as running:
        yield running
    servers.drop_database(postgres_server_dsn, dsn)


@pytest.fixture
def client(producer: service.Producer) -> service.Client:
    return producer.new_key()


Start = Callable[..., AbstractContextManager[service.Producer]]


@pytest.fixture
def start(kafka: str, topics: None, postgres: str, gcs: servers.Gcs, tmp_path: Path) -> Start:
    def start_one(**settings: Any) -> AbstractContextManager[service.Producer]:
        bootstrap = settings.pop("kafka", kafka)
        database = settings.pop("dsn", postgres)
        store = settings.pop("gcs", gcs)
        return service.running(kafka=bootstrap, dsn=database, gcs=store, folder=tmp_path, **settings)

    return start_one
