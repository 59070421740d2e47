"""When the disk of PostgreSQL, of the object store or of Kafka is full: small file systems that really fill up."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from docfleet.stack import gcs_server, kafka_server
from docfleet.stack.ports import free_port
from docfleet.stack.processes import spawn, stop
from schemas.events import ClassificationRequested
from schemas.topics import JOBS, TOPICS
from tests import servers
from tests.integration.producer.conftest import Start
from tests.integration.producer.service import PDF, events_of, job_id_of
from tests.waiting import eventually

_PIECE = b"\0" * 65_536


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of its own."""

    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self.ballast.open("wb", buffering=0) as file:
            try:
                while file.write(_PIECE):
                    pass
            except OSError as error:
                assert "No space left" in str(error)

    def make_room(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    with ExitStack() as mounted:

        def mount(mebibytes: int) -> Disk:
            folder = tmp_path / "disk"
            folder.mkdir()
            tmp_path.chmod(0o755)  # PostgreSQL runs as another account
            command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs", str(folder)]
            if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
                pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return Disk(folder)

        yield mount


async def test_full_disk_of_postgres_is_503_and_keeps_neither_document_nor_quota(
    start: Start, disk: Callable[[int], Disk], tmp_path: Path
) -> None:
    small = disk(256)
    with (
        servers.postgres_server_running(small.folder / "postgres") as maintenance_dsn,
        start(dsn=servers.new_database(maintenance_dsn)) as producer,
    ):
        client = producer.new_key()
        accepted = {job_id_of(await client.post())}
        small.fill()
        while (answer := await client.post()).status == 202:  # until the pages that are there already are full
            accepted.add(job_id_of(answer))
        assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
        await eventually(lambda: producer.object_names() == {f"jobs/{job_id}/document" for job_id in accepted})
        small.make_room()

        async def is_taken() -> bool:
            return (await client.post()).status == 202

        await eventually(is_taken, within=30)
        assert accepted < {str(job["job_id"]) for job in client.jobs()}
        assert client.quota_used() == len(client.jobs())


async def test_full_disk_of_the_store_is_503_and_spends_nothing(
    start: Start, disk: Callable[[int], Disk], unique: str
) -> None:
    small = disk(8)
    with servers.gcs_server_running(small.folder) as endpoint:
        gcs_server.create_bucket(endpoint, unique, within_seconds=10)
        with start(gcs=servers.Gcs(endpoint, unique), object_timeout_seconds=1.0) as producer:
            client = producer.new_key()
            small.fill()
            answer = await client.post(file=PDF * 5000)
            assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
            assert client.has_left_nothing()
            small.make_room()
            job_id = job_id_of(await client.post(file=PDF * 5000))
            assert producer.object_bytes(job_id) == PDF * 5000


async def test_full_disk_of_kafka_lets_jobs_wait_until_there_is_room(start: Start, disk: Callable[[int], Disk]) -> None:
    small = disk(128)
    port = free_port()
    program = kafka_server.prepare(small.folder / "kafka", port, free_port())
    log = small.folder.parent / "kafka.log"
    broker = spawn(program, log)
    try:
        kafka = f"127.0.0.1:{port}"
        kafka_server.wait_until_ready(kafka, within_seconds=60)
        kafka_server.create_topics({"bootstrap.servers": kafka}, TOPICS)
        with start(kafka=kafka, publish_timeout_seconds=1.0, stop_deadline_seconds=2) as producer:
            client = producer.new_key()
            small.fill()
            waiting = [job_id_of(await client.post()) for _ in range(3)]
            await eventually(lambda: any(not job["published_at"] for job in client.jobs()))
            await eventually(lambda: broker.poll() is not None or "No space left" in log.read_text(), within=30)
            stop(broker, program.stop_signal, within_seconds=5)
            small.make_room()
            broker = spawn(program, log)
            kafka_server.wait_until_ready(kafka, within_seconds=60)
            for job_id in waiting:
                [(event, _headers, _message)] = await events_of(kafka, JOBS, job_id, within=40)
                assert isinstance(event, ClassificationRequested)
    finally:
        stop(broker, program.stop_signal, within_seconds=10)
