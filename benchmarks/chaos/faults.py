"""Carries faults out: signals into the system, a worker that comes and goes, messages said again."""

import asyncio
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.chaos.schedule import NOBODY, READER, Fault, Kind
from benchmarks.chaos.system import System, is_alive, send
from docfleet.kafka import headers_of
from docfleet.stack.services import WORKER
from schemas.topics import EVENTS, JOBS

#: Marks what this program said again, so that it is not counted as the system's own.
REPLAYED_HEADER: Final = "docfleet_chaos_replayed"

_SLOW_STOPPED_SECONDS: Final = 0.45
_SLOW_RUNNING_SECONDS: Final = 0.05
_LONGEST_EXIT_SECONDS: Final = 60.0
_BROKER_SECONDS: Final = 2.0
_REPLAYED_AT_ONCE: Final = 5


@dataclass(slots=True)
class Done:
    """What was done to the system, and how long polite stops took."""

    said: list[tuple[float, str]] = field(default_factory=list)  #: (seconds since the epoch, fault)
    worker_kills: list[float] = field(default_factory=list)  #: seconds since the epoch
    disturbed: list[tuple[float, float]] = field(default_factory=list)  #: from, to: anything else was going on
    exits: list[tuple[str, float]] = field(default_factory=list)  #: (service, seconds from SIGTERM to its end)
    replayed_jobs: set[str] = field(default_factory=set)


class Faults:
    """Does to one system what it is told, and notes it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._tasks: set[asyncio.Task[None]] = set()
        self.done = Done()

    async def run(self, faults: Iterable[Fault], ended: asyncio.Event) -> None:
        """Carry out one after another, each in its time, until `ended`; several may overlap."""
        began = time.monotonic()
        for fault in faults:
            try:
                await asyncio.wait_for(ended.wait(), max(0.0, began + fault.at_seconds - time.monotonic()))
            except TimeoutError:
                self._tasks.add(asyncio.create_task(self.inflict(fault)))
            if ended.is_set():
                break
        await asyncio.gather(*self._tasks)

    async def inflict(self, fault: Fault) -> None:
        """Carry one out; returns when it is over."""
        began = time.time()
        if fault.kind is Kind.JOIN:
            await self._join(fault)
        elif fault.kind is Kind.REPLAY:
            await asyncio.to_thread(self._replay, fault.choice)
        else:
            await self._signal(fault)
        if not (fault.kind is Kind.KILL and fault.victim.startswith(WORKER)):
            self.done.disturbed.append((began, time.time()))

    async def _signal(self, fault: Fault) -> None:
        pid = self._pid_of(fault)
        self._note(str(fault) if pid else f"{fault} (is down)")
        if pid is None:
            return
        if fault.kind is Kind.KILL:
            if send(pid, signal.SIGKILL) and fault.victim.startswith(WORKER):
                self.done.worker_kills.append(time.time())
        elif fault.kind is Kind.TERMINATE:
            await self.terminate(fault.victim, pid)
        elif fault.kind is Kind.STOP:
            await self._stop(pid, fault.for_seconds)
        else:
            deadline = time.monotonic() + fault.for_seconds
            while time.monotonic() < deadline and is_alive(pid):
                await self._stop(pid, _SLOW_STOPPED_SECONDS)
                await asyncio.sleep(_SLOW_RUNNING_SECONDS)

    async def terminate(self, victim: str, pid: int) -> None:
        """Ask a process to stop and note how long it took."""
        began = time.monotonic()
        # SIGTERM lets PostgreSQL wait for its clients, for ever; SIGINT is how it is stopped
        send(pid, signal.SIGINT if victim == "postgres" else signal.SIGTERM)
        while is_alive(pid) and time.monotonic() - began < _LONGEST_EXIT_SECONDS:  # noqa: ASYNC110  # nobody tells us
            await asyncio.sleep(0.05)
        if victim not in {"kafka", "postgres", "gcs"}:
            self.done.exits.append((victim, time.monotonic() - began))

    def _pid_of(self, fault: Fault) -> int | None:
        if fault.victim == READER:
            readers = self._system.readers()
            return readers[int(fault.choice * len(readers))] if readers else None
        return self._system.pid_of(fault.victim) if fault.victim != NOBODY else None

    async def _stop(self, pid: int, seconds: float) -> None:
        send(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            send(pid, signal.SIGCONT)

    async def _join(self, fault: Fault) -> None:
        self._note(str(fault))
        worker = self._system.start_extra_worker()
        await asyncio.sleep(fault.for_seconds)
        await asyncio.to_thread(lambda: self._system.end_extra_worker(worker, is_killed=fault.choice < 0.5))

    def _replay(self, choice: float) -> None:
        servers = self._system.stack["kafka_bootstrap_servers"]
        for topic in (JOBS.name, EVENTS.name):
            try:
                keys = replay(servers, topic, choice)
            except KafkaException:  # it is down itself
                keys = []
            if topic == JOBS.name:
                self.done.replayed_jobs.update(keys)
            self._note(f"replay {len(keys)} messages of {topic}")

    def _note(self, what: str) -> None:
        self.done.said.append((time.time(), what))


def replay(servers: str, topic: str, choice: float) -> list[str]:
    """Say some messages of a topic once more, in the place that `choice` (0..1) picks; return their keys."""
    quiet: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0, "error_cb": lambda _error: None}
    consumer = Consumer(quiet | {"group.id": "chaos-replay", "enable.auto.commit": False})
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=_BROKER_SECONDS).topics[topic].partitions)
        place = TopicPartition(topic, partitions[int(choice * len(partitions))])
        watermarks = consumer.get_watermark_offsets(place, timeout=_BROKER_SECONDS)
        if not watermarks or watermarks[0] == watermarks[1]:
            return []
        low, high = watermarks
        place.offset = low + int(choice * (high - low))
        consumer.assign([place])
        messages = consumer.consume(_REPLAYED_AT_ONCE, timeout=_BROKER_SECONDS)
    finally:
        consumer.close()
    producer = Producer(quiet | {"message.timeout.ms": 5000})
    said = [message for message in messages if message.error() is None]
    for message in said:
        headers: list[tuple[str, str | bytes | None]] = [*headers_of(message), (REPLAYED_HEADER, b"1")]
        producer.produce(topic, key=message.key(), value=message.value(), headers=headers)
    producer.flush(5)
    return [(message.key() or b"").decode() for message in said]
