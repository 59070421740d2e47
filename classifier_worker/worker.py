"""The composition root: builds the parts from the settings, starts them, stops them in order; decides nothing.

Threads: the event loop answers probes; one polls Kafka, one polls the producer, one owns the model, and
`settings.job_threads` work on jobs, so that one job is read while others wait for the model.

A stop (SIGTERM): not ready, no new jobs, started jobs finish or are handed back by the deadline, what
is published is flushed, offsets are committed, the group is left, exit code 0.
"""

import asyncio
import gc
import logging
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from classifier_worker.breaker import Breaker
from classifier_worker.core.retry import RetryPolicy
from classifier_worker.handoff import Delivery, HandOff
from classifier_worker.intake import Consumer, build_intake
from classifier_worker.job import JobRules, JobRunner, Neighbours
from classifier_worker.loading import load
from classifier_worker.models.choice import Meter, RunningModel
from classifier_worker.models.weights import InvalidBundle
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from classifier_worker.settings import WorkerSettings
from docfleet import metrics, tracing
from docfleet.kafka import Publisher
from docfleet.objects import ObjectStore
from docfleet.service import EXIT_WRONG_SETTINGS
from docfleet.stopping import Deadline, stop_requested
from docfleet.telemetry import Check, Health, log_to_stderr
from schemas.topics import WORKER_GROUP, WORKER_SHARE_GROUP

logger = logging.getLogger(__name__)

SERVICE: Final = "classifier_worker"

_RECEIVE_SECONDS: Final = 0.5
#: The poll loop may stand still for a revoke's drain and a commit that runs into its time-out (60 s).
_SILENCE_SECONDS: Final = 180.0
_LOST_SECONDS: Final = 60.0
_REACHABLE_SECONDS: Final = 2.0
_OBSERVE_SECONDS: Final = 2.0
#: Parts of a stop's time kept for handing back, and for flushing and leaving.
_HAND_BACK_SHARE: Final = 0.2
_LEAVE_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The parts of a running worker."""

    settings: WorkerSettings
    engine: RunningModel
    readers: ReaderPool
    objects: ObjectStore
    publisher: Publisher
    handoff: HandOff
    consumer: Consumer
    jobs: JobRunner
    breaker: Breaker
    failed: threading.Event  #: something is broken that only a new process mends


async def run(settings: WorkerSettings) -> int:
    """Run a worker until SIGTERM or SIGINT and return the process's exit code; 2 when its bundle cannot be used."""
    log_to_stderr(SERVICE, settings.log_level)
    tracing.start(SERVICE)
    stopping = stop_requested()
    health = Health()
    server = await _serve(settings, health)
    try:
        worker = await asyncio.to_thread(build, settings)
    except InvalidBundle as error:
        logger.error("%s", error, extra={"action": "refused"})
        await server.cleanup()
        return EXIT_WRONG_SETTINGS
    health.checks = {"kafka": _kafka_check(worker), "intake": _intake_check(worker)}
    health.liveness = lambda: worker.consumer.dead_because(_SILENCE_SECONDS)
    await asyncio.to_thread(_start, worker)
    health.is_started = True
    logger.info("worker started", extra={"action": "started", "model": worker.jobs.rules.model})
    observer = asyncio.create_task(_observe(worker, stopping))
    await stopping.wait()
    logger.info("worker stops", extra={"action": "stopping"})
    health.is_stopping = True
    deadline = Deadline(settings.stop_deadline_seconds)
    is_clean = await asyncio.to_thread(_stop, worker, deadline)
    await observer
    await asyncio.to_thread(tracing.stop, deadline)
    await server.cleanup()
    logger.info("worker stopped", extra={"action": "stopped", "is_clean": is_clean})
    gc.freeze()  # else the interpreter looks through the model's libraries once more before it ends: seconds of a CPU
    return 1 if worker.failed.is_set() else 0


def build(settings: WorkerSettings) -> Worker:
    """Return the parts, wired; of them only the model runs already. Blocks while it is loaded."""
    meter = Meter()
    model = load(settings, meter)
    limits = ReaderLimits(
        document_seconds=settings.document_seconds,
        memory_bytes=settings.reader_memory_bytes,
        document_bytes=settings.document_bytes,
    )
    readers = ReaderPool(limits, settings.readers)
    objects = ObjectStore(settings)
    publisher = Publisher(settings, source=SERVICE)
    handoff, consumer = build_intake(settings, publisher)
    meter.is_needed = lambda: handoff.jobs > 0
    rules = JobRules(
        read=ReadRequest(
            max_pages=settings.max_pages,
            image_px=settings.image_px,
            structure_pages=settings.structure_pages,
            ocr=settings.ocr,
        ),
        retry=RetryPolicy(settings.max_attempts, settings.retry_base_seconds, settings.retry_max_seconds),
        model=model.label,
        page_weights=model.page_weights,
        model_seconds=settings.model_seconds,
        consumer_group=WORKER_SHARE_GROUP if settings.group_protocol == "share" else WORKER_GROUP,
    )
    neighbours = Neighbours(intake=consumer, events=publisher, objects=objects, reader=readers, classifier=model.engine)
    jobs = JobRunner(neighbours, rules)
    return Worker(
        settings=settings,
        engine=model.engine,
        readers=readers,
        objects=objects,
        publisher=publisher,
        handoff=handoff,
        consumer=consumer,
        jobs=jobs,
        breaker=Breaker(handoff, jobs.take_over),
        failed=threading.Event(),
    )


def _start(worker: Worker) -> None:
    worker.readers.start()
    worker.consumer.start()
    worker.breaker.start()
    for number in range(worker.settings.job_threads):
        threading.Thread(target=_work, args=(worker,), name=f"job-{number}", daemon=True).start()


def _work(worker: Worker) -> None:
    """Do jobs until intake ends."""
    while not worker.handoff.is_stopped:
        delivery: Delivery | None = None
        try:
            delivery = worker.consumer.receive(_RECEIVE_SECONDS)
            if delivery is not None:
                worker.jobs.run(delivery)
        except Exception:
            with delivery.as_subject() if delivery else nullcontext():
                logger.exception("a job thread failed", extra={"action": "job_thread_failed"})


def _stop(worker: Worker, deadline: Deadline) -> bool:
    """Stop everything by the deadline and return whether every started job was finished."""
    seconds = worker.settings.stop_deadline_seconds
    worker.consumer.stop_intake()
    is_idle = worker.handoff.wait_until_idle(deadline.remaining() - seconds * (_HAND_BACK_SHARE + _LEAVE_SHARE))
    if not is_idle:
        worker.jobs.abandon()
        worker.handoff.wait_until_idle(deadline.remaining() - seconds * _LEAVE_SHARE)
    worker.breaker.close()
    worker.publisher.close(Deadline(deadline.remaining() / 2))
    has_left = worker.consumer.close(deadline)
    worker.readers.close(deadline.remaining())
    worker.engine.close()
    worker.objects.close()
    return is_idle and has_left


async def _observe(worker: Worker, stopping: asyncio.Event) -> None:
    """Tell as metrics what is to be asked for, and stop when something is broken for good."""
    told = {"deadline": 0, "memory": 0, "recycled": 0}
    while not stopping.is_set():
        counters = worker.readers.counters
        now = {"deadline": counters.timeouts, "memory": counters.memory_kills, "recycled": counters.recycled}
        for reason, count in now.items():
            metrics.READER_DEATHS.labels(reason).inc(count - told[reason])
        told = now
        metrics.READERS.labels("busy").set(worker.readers.busy)
        metrics.READERS.labels("free").set(worker.readers.size - worker.readers.busy)
        metrics.INTAKE_FUSED.set(worker.handoff.is_fused)
        has_no_threads = worker.breaker.hung >= worker.settings.job_threads
        if worker.failed.is_set() or worker.consumer.has_failed or worker.publisher.has_failed or has_no_threads:
            worker.failed.set()
            stopping.set()
        try:
            await asyncio.wait_for(stopping.wait(), _OBSERVE_SECONDS)
        except TimeoutError:
            continue


async def _serve(settings: WorkerSettings, health: Health) -> web.AppRunner:
    app = web.Application()
    health.add_routes(app)
    metrics.expose(SERVICE)
    server = web.AppRunner(app, access_log=None)
    await server.setup()
    await web.TCPSite(server, settings.http_host, settings.http_port).start()
    logger.info("probes listen", extra={"action": "listening", "address": server.addresses[0]})
    return server


def _kafka_check(worker: Worker) -> Check:
    async def check() -> str | None:
        is_reachable = await asyncio.to_thread(worker.publisher.is_reachable, _REACHABLE_SECONDS)
        return None if is_reachable else "no broker answers"

    return check


def _intake_check(worker: Worker) -> Check:
    async def check() -> str | None:
        return worker.consumer.unready_because(_LOST_SECONDS)

    return check
