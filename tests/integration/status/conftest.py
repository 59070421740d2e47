"""Fixtures only: a projector's own place in Kafka and Postgres, and status_service's HTTP side in this process."""

import dataclasses
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.integration.status import serving
from tests.integration.status.place import Place, new_place


@pytest.fixture
def place(kafka: str, postgres: str, unique: str) -> Iterator[Place]:
    place = new_place(kafka, postgres, unique)
    yield place
    place.close()


@pytest.fixture
def other_database(place: Place, postgres_server_dsn: str) -> Iterator[Place]:
    from tests import servers

    dsn = servers.new_database(postgres_server_dsn)
    yield dataclasses.replace(place, dsn=dsn)
    servers.drop_database(postgres_server_dsn, dsn)


@pytest.fixture
async def service(postgres: str) -> AsyncIterator[serving.Service]:
    async with serving.service(postgres) as running:
        yield running


@pytest.fixture
async def client(service: serving.Service) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(service.url, headers={"api-key": serving.KEY}) as session:
        yield session
