"""What the local stack consists of, and the order in which it starts and stops.

The composition root of `docfleet up`. What embedded servers do is in *_server.py, how processes are
kept alive in processes.py, what a data dir holds in data_dir.py.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from docfleet import keys, postgres
from docfleet.kafka import client_config
from docfleet.settings import InvalidSettings, KafkaSettings
from docfleet.stack import gcs_server, kafka_server, postgres_server, prometheus_server, services
from docfleet.stack.data_dir import DataDir
from docfleet.stack.faults import CannotStart, StartFailed
from docfleet.stack.front import Front
from docfleet.stack.ports import LOOPBACK, Ports
from docfleet.stack.processes import Program, Supervisor, tail
from docfleet.stack.prometheus_server import PROMETHEUS
from docfleet.stack.services import PRODUCER_API, STATUS_SERVICE, WORKER, Neighbours
from docfleet.stack.steps import Steps
from docfleet.stopping import Deadline, stop_requested
from docfleet.threads import in_thread
from schemas.topics import TOPICS

_KEY_NAME: Final = "local"
_KEY_QUOTA: Final = 1_000_000
_TOPIC_NAMES: Final = "\n".join(topic.name for topic in TOPICS)
_SERVER_SECONDS: Final = 60.0
#: What each server may take to stop; they need less than one.
_SERVER_STOP_SECONDS: Final = 10.0
#: What every service gets to stop, even when those before it used the common deadline up.
_LEAST_STOP_SECONDS: Final = 2.0


async def run_until_told(stack: "Stack", listener: socket.socket) -> None:
    """Start the stack, print the ready line, run until SIGTERM or Ctrl-C (also in mid-start), stop in order."""
    stopping = stop_requested()
    starting = asyncio.create_task(stack.start(listener))
    told_to_stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({starting, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            print(f"ready {stack.url} api-key {stack.api_key}", flush=True)  # noqa: T201  # the command's one answer
            await told_to_stop
    finally:
        starting.cancel()
        told_to_stop.cancel()
        await asyncio.gather(starting, told_to_stop, return_exceptions=True)
        await stack.stop()


class Stack:
    """The servers, the services and the front of one data dir, which is locked already."""

    _neighbours: Neighbours  # known from start() on

    def __init__(self, data_dir: DataDir, workers: int, *, with_monitoring: bool = False) -> None:
        self.api_key = data_dir.api_key()
        self.url = ""
        self._dir = data_dir
        self._workers = [f"{WORKER}-{number}" for number in range(workers)]
        self._has_monitoring = with_monitoring
        self._steps = Steps()
        self._ports = Ports(data_dir.path / "ports.json")
        self._processes: dict[str, Supervisor] = {}
        self._addresses: dict[str, str] = {}
        self._front: Front | None = None
        self._is_published = False

    async def start(self, listener: socket.socket) -> None:
        """Start everything; when this returns, a job can be posted and `stack.json` says where.

        Raises:
            CannotStart: the environment is wrong.
            StartFailed: a part did not come up.

        """
        ended = await in_thread(self._dir.end_leftovers)
        if ended:
            self._steps.say(f"ended {ended} processes that a killed run had left behind")
        self._neighbours = self._find_neighbours()
        for name in (PRODUCER_API, STATUS_SERVICE, *self._workers):
            self._addresses[name] = f"http://{LOOPBACK}:{self._ports.take(name)}"
        if self._has_monitoring:
            prometheus_server.watch(self._dir.path / PROMETHEUS, self._addresses)
            self._addresses[PROMETHEUS] = f"http://{LOOPBACK}:{self._ports.take(PROMETHEUS)}"
        try:
            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
                self._start_all(group, session)
        except BaseExceptionGroup as faults:
            raise _first_fault(faults) from faults
        self._front = Front(producer_api=self._addresses[PRODUCER_API], status_service=self._addresses[STATUS_SERVICE])
        await self._front.start(listener)
        self.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        self._is_published = True
        self._publish()

    async def stop(self) -> None:
        """Stop what runs, in order: no new requests, no new jobs, no work, no reads, then the servers."""
        self._steps.say("stopping")
        if self._front is not None:
            await self._front.stop()
        stop_seconds = float(os.environ.get("DOCFLEET_STOP_DEADLINE_SECONDS", services.STOP_SECONDS))
        deadline = Deadline(stop_seconds + _LEAST_STOP_SECONDS)
        for names in ([PRODUCER_API], self._workers, [STATUS_SERVICE]):
            await self._stop_processes(names, max(_LEAST_STOP_SECONDS, deadline.remaining()))
        for name in ("gcs", "kafka", "postgres", PROMETHEUS):
            await self._stop_processes([name], _SERVER_STOP_SECONDS)
        self._processes.clear()
        self._publish()
        self._steps.say("stopped")

    def _start_all(self, group: asyncio.TaskGroup, session: aiohttp.ClientSession) -> None:
        kafka = group.create_task(self._start_kafka())
        postgres_ = group.create_task(self._start_postgres())
        gcs = group.create_task(self._start_gcs())
        if self._has_monitoring:
            group.create_task(self._start_prometheus())

        def start(name: str, *after: asyncio.Task[None]) -> None:
            group.create_task(self._start_service(name, after, session))

        # Loading the model takes longest, so workers start first, once there are topics to subscribe to.
        before_workers = () if self._knows_topics() else (kafka, gcs)
        for name in self._workers:
            start(name, *before_workers)
        start(PRODUCER_API, kafka, postgres_, gcs)
        start(STATUS_SERVICE, kafka, postgres_)

    def _find_neighbours(self) -> Neighbours:
        """Return where the servers are or will be; the environment's take the place of embedded ones."""
        environment = os.environ
        endpoint = environment.get("STORAGE_EMULATOR_HOST")
        if not endpoint and not environment.get("DOCFLEET_BUCKET"):
            endpoint = gcs_server.endpoint_of(self._ports.take("gcs"))
        return Neighbours(
            kafka_bootstrap_servers=environment.get("KAFKA_BOOTSTRAP_SERVERS")
            or f"{LOOPBACK}:{self._ports.take('kafka')}",
            postgres_dsn=environment.get("DATABASE_URL") or "",
            gcs_endpoint=endpoint or None,
            gcs_bucket=environment.get("DOCFLEET_BUCKET") or "docfleet",
        )

    async def _start_kafka(self) -> None:
        servers = self._neighbours.kafka_bootstrap_servers
        try:
            settings = KafkaSettings.from_mapping({**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers})
        except InvalidSettings as fault:
            raise CannotStart(str(fault)) from fault
        if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            self._steps.say(f"kafka: using {servers}")
        else:
            folder = self._dir.path / "kafka"
            version = kafka_server.KAFKA_VERSION
            if not kafka_server.has_jars(folder):
                doing = f"fetching Apache Kafka {version} (45 MB, kept in the user's cache)"
                async with self._steps.step("kafka", doing, done="fetched"):
                    await in_thread(lambda: kafka_server.fetch_jars(folder))
            port, controller_port = self._ports.take("kafka"), self._ports.take("kafka-controller")
            await self._start_server(
                f"kafka: starting Apache Kafka {version}",
                lambda: kafka_server.prepare(folder, port, controller_port),
                lambda: kafka_server.wait_until_ready(servers, within_seconds=_SERVER_SECONDS),
            )
        await in_thread(lambda: kafka_server.create_topics(client_config(settings), TOPICS))
        if not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            self._topics_note().write_text(_TOPIC_NAMES)

    async def _start_postgres(self) -> None:
        dsn = self._neighbours.postgres_dsn
        if dsn:
            self._steps.say("postgres: using DATABASE_URL")
        else:
            folder, port = self._dir.path / "postgres", self._ports.take("postgres")

            def wait() -> None:
                maintenance_dsn = postgres_server.dsn(folder, port, "postgres")
                postgres_server.wait_until_ready(maintenance_dsn, within_seconds=_SERVER_SECONDS)
                postgres_server.create_database(maintenance_dsn, "docfleet")

            await self._start_server(
                "postgres: starting PostgreSQL", lambda: postgres_server.prepare(folder, port), wait
            )
            dsn = postgres_server.dsn(folder, port)
            self._neighbours = replace(self._neighbours, postgres_dsn=dsn)
        await in_thread(lambda: self._prepare_database(dsn))

    def _prepare_database(self, dsn: str) -> None:
        postgres_server.wait_until_ready(dsn, within_seconds=_SERVER_SECONDS)
        applied = postgres.migrate(dsn)
        if applied:
            self._steps.say(f"postgres: tables made ({', '.join(applied)})")
        keys.add(dsn, self.api_key, name=_KEY_NAME, quota_limit=_KEY_QUOTA, rate_per_minute=None)

    async def _start_gcs(self) -> None:
        endpoint, bucket = self._neighbours.gcs_endpoint, self._neighbours.gcs_bucket
        if endpoint is None:
            self._steps.say(f"gcs: using Google Cloud Storage, bucket {bucket}")
            return

        def wait() -> None:
            gcs_server.create_bucket(endpoint, bucket, within_seconds=_SERVER_SECONDS)

        if os.environ.get("STORAGE_EMULATOR_HOST"):
            self._steps.say(f"gcs: using {endpoint}")
            await in_thread(wait)
            return
        folder, port = self._dir.path / "gcs", self._ports.take("gcs")
        await self._start_server("gcs: starting a GCS-protocol server", lambda: gcs_server.prepare(folder, port), wait)

    async def _start_prometheus(self) -> None:
        folder, url = self._dir.path / PROMETHEUS, self._addresses[PROMETHEUS]
        if not prometheus_server.rule_files():
            self._steps.say("prometheus: no alert rules, since deploy/monitoring/rules is not here")
        await self._start_server(
            "prometheus: starting Prometheus",
            lambda: prometheus_server.prepare(folder, int(url.rpartition(":")[2])),
            lambda: prometheus_server.wait_until_ready(url, within_seconds=_SERVER_SECONDS),
        )
        self._steps.say(f"prometheus: {url}")

    async def _start_server(self, doing: str, prepare: Callable[[], Program], wait: Callable[[], None]) -> None:
        """Show the step `<name>: <what>` of `doing` while an embedded server is prepared, started and waited for."""
        name, _, what = doing.partition(": ")
        async with self._steps.step(name, what):
            self._supervise(await in_thread(prepare))
            try:
                await in_thread(wait)
            except StartFailed as fault:
                raise StartFailed(f"{fault}; its log ends:\n{tail(self._dir.log_path(name))}") from fault

    async def _start_service(
        self, name: str, after: tuple[asyncio.Task[None], ...], session: aiohttp.ClientSession
    ) -> None:
        for task in after:
            await task
        address = self._addresses[name]
        async with self._steps.step(name, "loading the model" if name in self._workers else "starting"):
            port = int(address.rpartition(":")[2])
            service = self._supervise(services.program(name, port, self._neighbours))
            await services.wait_until_ready(service, address, session)

    def _supervise(self, program: Program) -> Supervisor:
        supervisor = Supervisor(program, self._dir.log_path(program.name), self._publish)
        self._processes[program.name] = supervisor
        supervisor.start()
        return supervisor

    async def _stop_processes(self, names: list[str], within_seconds: float) -> None:
        running = [self._processes[name] for name in names if name in self._processes]
        await asyncio.gather(*(process.stop(within_seconds=within_seconds) for process in running))
        if running:
            self._steps.say(f"{', '.join(process.program.name for process in running)}: stopped")

    def _topics_note(self) -> Path:
        """Return the file with the names of the topics that the embedded broker has."""
        return self._dir.path / "kafka" / "topics"

    def _knows_topics(self) -> bool:
        """Tell, before the broker runs, whether it has every topic."""
        note = self._topics_note()
        is_embedded = not os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
        return is_embedded and note.exists() and note.read_text() == _TOPIC_NAMES

    def _publish(self) -> None:
        """Write down what runs: for the next run at once, for everybody when the stack is ready."""
        running = {name: process.pid for name, process in self._processes.items() if process.pid is not None}
        self._dir.remember_running(running.values())
        if not self._is_published:
            return
        self._dir.write_stack(
            {
                "url": self.url,
                "api_key": self.api_key,
                "kafka_bootstrap_servers": self._neighbours.kafka_bootstrap_servers,
                "postgres_dsn": self._neighbours.postgres_dsn,
                "gcs_endpoint": self._neighbours.gcs_endpoint,
                "gcs_bucket": self._neighbours.gcs_bucket,
                "processes": [self._described(name) for name in self._order() if name in running],
            }
        )

    def _order(self) -> list[str]:
        return ["kafka", "postgres", "gcs", PRODUCER_API, STATUS_SERVICE, *self._workers, PROMETHEUS]

    def _described(self, name: str) -> dict[str, str | int | None]:
        process, address = self._processes[name], self._addresses.get(name)
        metrics_url = f"{address}/metrics" if address else None
        return {
            "name": name,
            "pid": process.pid,
            "restarts": process.restarts,
            "metrics_url": metrics_url,
            "http_url": address,
        }


def _first_fault(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what went wrong first; the rest of the group follows from it."""
    first = group.exceptions[0]
    return _first_fault(first) if isinstance(first, BaseExceptionGroup) else first
