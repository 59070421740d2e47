"""Postgres stops and comes back: nothing is lost, readers are told to try again, and nobody restarts anything."""

import asyncio
import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from docfleet import postgres
from docfleet.stack import postgres_server
from docfleet.stack.ports import free_port
from docfleet.stack.processes import spawn, stop
from docfleet.stopping import Deadline
from tests import servers
from tests.events import completed, life, started
from tests.integration.status import serving
from tests.integration.status.place import Place
from tests.waiting import PATIENCE_SECONDS, eventually


class Server:
    """A PostgreSQL server of the test's own."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._log = folder / "postgres.log"
        self._program = postgres_server.prepare(folder, port, {"fsync": "off"})
        self.dsn = postgres_server.dsn(folder, port, "postgres")
        self.start()
        postgres.migrate(self.dsn)

    def start(self) -> None:
        self._process = spawn(self._program, self._log)
        postgres_server.wait_until_ready(self.dsn, within_seconds=PATIENCE_SECONDS)

    def stop(self) -> None:
        stop(self._process, self._program.stop_signal, within_seconds=10)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("own-postgres"))
    yield server
    server.stop()


async def test_projector_and_readers_survive_a_database_that_goes_and_comes(place: Place, server: Server):
    place = dataclasses.replace(place, dsn=server.dsn)
    projector = place.projector()
    projector.start()
    before, during, waited_for = life(), life(), uuid.uuid4()
    await asyncio.to_thread(place.say, [*before, started(waited_for)])
    await eventually(place.is_caught_up)
    async with (
        serving.service(server.dsn, ttl_seconds=60) as service,
        aiohttp.ClientSession(service.url, headers={"api-key": serving.KEY}) as client,
    ):
        path = f"/classify/{before[0].job_id}"
        assert (await client.get(path)).status == 200
        server.stop()
        await asyncio.to_thread(place.say, [*during, completed(waited_for)])
        async with client.get(path) as answer:
            assert (answer.status, (await answer.json())["error_code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) > 0
        assert projector.fault() is None
        await asyncio.to_thread(server.start)
        await eventually(place.is_caught_up)

        async def statuses() -> set[str]:
            answers = [await client.get(f"/classify/{job_id}") for job_id in (during[0].job_id, waited_for)]
            return {(await answer.json()).get("status") for answer in answers}

        async def are_completed() -> bool:
            return await statuses() == {"completed"}

        await eventually(are_completed)
    assert await asyncio.to_thread(projector.stop, Deadline(20))


async def test_projector_waits_for_a_database_that_is_read_only(place: Place, caplog: pytest.LogCaptureFixture):
    servers.let_write(place.dsn, is_allowed=False)
    await asyncio.to_thread(place.say, life())

    def is_told(action: str) -> bool:
        return any(getattr(record, "action", "") == action for record in caplog.records)

    with place.projecting():
        await eventually(lambda: is_told("projection_postponed"))
        servers.let_write(place.dsn, is_allowed=True)
        await eventually(place.is_caught_up)
    assert [row["status"] for row in place.rows()] == ["completed"]
    assert not is_told("projection_failed")


async def test_projector_that_starts_before_its_database_waits_for_it(place: Place, server: Server):
    place = dataclasses.replace(place, dsn=server.dsn)
    server.stop()
    said = life()
    await asyncio.to_thread(place.say, said)
    with place.projecting() as projector:
        await eventually(lambda: projector.unready() is None)
        await asyncio.to_thread(server.start)
        await eventually(place.is_caught_up)
    assert [row["status"] for row in place.rows()] == ["completed"]
