"""Fixtures only: the servers (once a process, when first asked for) and each test's own place on them.

`kafka`     bootstrap servers, shared by the process; make topics and groups of your own (`unique`)
`topics`    the catalogue's topics exist on `kafka`, under their real names
`postgres`  DSN of a migrated database that is this test's alone
`gcs`       endpoint and a bucket that is this test's alone
`unique`    a text to put into the names of topics and groups
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import pytest

from docfleet.stack import gcs_server, kafka_server
from schemas.topics import TOPICS
from tests import servers
from tests.spreading import ByServers, longest_first

#: How fast examples are made and tried says something of the machine, and nothing of the code.
hypothesis.settings.register_profile("docfleet", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("docfleet")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=longest_first)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.kafka_server_running(tmp_path_factory.mktemp("kafka")) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(scope="session")
def topics(kafka: str) -> None:
    kafka_server.create_topics({"bootstrap.servers": kafka}, TOPICS)


@pytest.fixture(scope="session")
def postgres_server_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.postgres_server_running(tmp_path_factory.mktemp("postgres")) as maintenance_dsn:
        yield maintenance_dsn


@pytest.fixture
def postgres(postgres_server_dsn: str) -> Iterator[str]:
    dsn = servers.new_database(postgres_server_dsn)
    yield dsn
    servers.drop_database(postgres_server_dsn, dsn)


@pytest.fixture(scope="session")
def gcs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.gcs_server_running(tmp_path_factory.mktemp("gcs")) as endpoint:
        yield endpoint


@pytest.fixture
def gcs(gcs_endpoint: str, unique: str) -> servers.Gcs:
    gcs_server.create_bucket(gcs_endpoint, f"test-{unique}", within_seconds=10)
    return servers.Gcs(gcs_endpoint, f"test-{unique}")


@pytest.fixture
def unique() -> str:
    return uuid4().hex[:12]


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
