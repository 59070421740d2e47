"""The composition root of producer_api: what exists, in which order it starts, in which order it stops."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from aiohttp import web

from docfleet import tracing
from docfleet.api_keys import ApiKeys
from docfleet.http import application, listen
from docfleet.kafka import Publisher
from docfleet.objects import ObjectStore
from docfleet.postgres import open_pool
from docfleet.stopping import Deadline, end_tasks, exit_by, first_of, guarded, stop_requested
from docfleet.telemetry import Health, log_to_stderr
from docfleet.threads import in_thread
from producer_api import docs_page
from producer_api.addresses import Allowed
from producer_api.admission import QUEUED, Admission, Leases
from producer_api.changes import hear_of_changes
from producer_api.document import Storage
from producer_api.fetch import FetchLimits
from producer_api.fetcher import Fetcher, FetchRules
from producer_api.outbox import Outbox
from producer_api.reaper import KeepFor, Reaper
from producer_api.relay import Relay, forget_old_idempotency_keys
from producer_api.routes import ADMISSION, API_KEYS, LIMITS, routes
from producer_api.settings import ProducerSettings
from producer_api.store import UNAVAILABLE, Store
from producer_api.sweeper import Offsets, Sweeper
from producer_api.upload import UploadLimits
from schemas.errors import DocfleetError

SERVICE: Final = "producer_api"

_log = logging.getLogger(__name__)

#: Calls to the object store at a time; each is a thread with a connection.
_STORE_THREADS: Final = 32
#: From a delivery, or its failure, to the row that says so.
_MARK_SECONDS: Final = 5.0
#: Of the stop budget, what finishing requests leaves for the outbox.
_FLUSH_SECONDS: Final = 3.0
#: Of that, what the outbox leaves for closing connections.
_CLOSING_SECONDS: Final = 1.0
#: How often is looked whether the publisher has failed for good.
_LOOK_SECONDS: Final = 1.0


class Service:
    """Everything that one process of producer_api is made of."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.settings = settings
        self.pool = open_pool(
            settings.database_url.get_secret_value(),
            max_size=settings.database_pool_size,
            answer_seconds=settings.database_timeout_seconds,
        )
        self.store = Store(self.pool, tenant_jobs_max=settings.tenant_jobs_in_flight)
        self.publisher = Publisher(settings, source=SERVICE, message_timeout_seconds=settings.publish_timeout_seconds)
        self.outbox = Outbox(self.publisher, self.store)
        self.offsets = Offsets(settings)
        self.threads = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="objects")
        self.objects = ObjectStore(settings, connections=_STORE_THREADS)
        self.storage = Storage(self.objects, self.threads, settings.upload_max_bytes, settings.upload_memory_bytes)
        self.allowed = Allowed.parse(settings.file_url_allow)
        self.publish_lease_seconds = settings.publish_timeout_seconds + _MARK_SECONDS
        self.relay = Relay(
            self.store,
            self.outbox,
            interval_seconds=settings.relay_interval_seconds,
            lease_seconds=self.publish_lease_seconds,
        )
        self.fetcher = Fetcher(self.store, self.storage, self.outbox, self._fetch_rules(), wake_relay=self.relay.wake)
        self.health = Health({"postgres": self._postgres, "object_store": self._object_store})
        self.health.optional_checks["kafka"] = self._kafka
        self.health.liveness = lambda: None if not self.has_died.is_set() else "a background task died"
        self.has_died = asyncio.Event()
        self.deadline = Deadline(settings.stop_deadline_seconds)

    def admission(self) -> Admission:
        """Return the admission; its leases outlive what they guard."""
        leases = Leases(
            idempotency_seconds=self.settings.idempotency_lease_seconds,
            publish_seconds=self.publish_lease_seconds,
            terms_seconds=self.settings.key_cache_seconds,
        )
        return Admission(
            self.store,
            self.storage,
            self.outbox,
            leases=leases,
            uploads_max=self.settings.uploads_max,
            wake_fetcher=self.fetcher.wake,
            on_held_back=self.relay.on_held_back,
        )

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Start what the handlers need; when they are done, publish what is left and close."""
        await self.pool.open(wait=False)
        publishing = asyncio.create_task(guarded(self.outbox.run(), self.has_died))
        loops = [asyncio.create_task(guarded(work, self.has_died)) for work in self._loops()]
        yield
        await end_tasks(loops)
        flushed_by = self.deadline.before(_CLOSING_SECONDS)
        await self.outbox.drain(flushed_by)
        await end_tasks([publishing])
        left = await asyncio.to_thread(self.publisher.close, flushed_by)
        _log.info("stopped", extra={"action": "stop", "events_left_to_the_relay": left})
        with suppress(TimeoutError):  # while Kafka is away, whoever asks it about offsets is not to be waited for
            await asyncio.wait_for(in_thread(self.offsets.close), flushed_by.remaining())
        await self.pool.close(self.deadline.before(_CLOSING_SECONDS).remaining())
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.objects.close()

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        settings = self.settings
        sweeper = Sweeper(
            self.store,
            self.outbox,
            self.offsets,
            interval_seconds=settings.sweep_interval_seconds,
            silence_seconds=settings.sweep_after_seconds,
        )
        keep = KeepFor(settings.document_keep_seconds, settings.job_keep_seconds, settings.orphan_keep_seconds)
        reaper = Reaper(self.store, self.storage, self.offsets, keep)
        return [
            self.fetcher.run(),
            self.relay.run(),
            hear_of_changes(settings.database_url.get_secret_value(), self.relay.on_change),
            sweeper.run(settings.max_attempts),
            reaper.run(settings.reap_interval_seconds),
            forget_old_idempotency_keys(self.store, settings.idempotency_keep_seconds),
            _until_failed(self.publisher),
        ]

    def _fetch_rules(self) -> FetchRules:
        settings = self.settings
        limits = FetchLimits(
            total_seconds=settings.fetch_total_seconds,
            idle_seconds=settings.fetch_idle_seconds,
            max_redirects=settings.fetch_max_redirects,
            max_bytes=settings.upload_max_bytes,
        )
        return FetchRules(
            limits=limits,
            allowed=self.allowed,
            attempts=settings.fetch_attempts,
            backoff_seconds=settings.fetch_backoff_seconds,
            concurrency=settings.fetch_concurrency,
            look_seconds=settings.relay_interval_seconds,
            progress=QUEUED,
        )

    async def _postgres(self) -> str | None:
        try:
            await self.store.is_migrated()
            is_read_only = await self.store.is_read_only()
        except UNAVAILABLE as error:
            return f"Postgres is away or not migrated ({type(error).__name__})"
        return "Postgres is read-only" if is_read_only else None

    async def _object_store(self) -> str | None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self.threads, self.objects.ping)
        except DocfleetError as error:
            return error.sentence
        return None

    async def _kafka(self) -> str | None:
        if await asyncio.to_thread(self.publisher.is_reachable):
            return None
        return "no broker answers; jobs are accepted and published later"


async def _until_failed(publisher: Publisher) -> None:
    """Raise when the publisher has failed for good."""
    while not publisher.has_failed:  # noqa: ASYNC110  # the publisher's own thread notices, which knows no loop
        await asyncio.sleep(_LOOK_SECONDS)
    raise RuntimeError("the Kafka producer failed for good")


def build(service: Service) -> web.Application:
    """Return the application; its routes answer as soon as it is started."""
    settings = service.settings
    app = application(SERVICE, service.health)
    app[API_KEYS] = ApiKeys(service.pool, ttl_seconds=settings.key_cache_seconds)
    app[ADMISSION] = service.admission()
    app[LIMITS] = UploadLimits(
        settings.upload_max_bytes, settings.upload_idle_seconds, settings.upload_total_seconds, service.allowed
    )
    app.add_routes(routes)
    docs_page.add_routes(app)
    app.cleanup_ctx.append(service.run)
    return app


async def run(settings: ProducerSettings) -> int:
    """Run the service until SIGTERM and return the exit code: 0 after a tidy stop, 1 when the deadline came first."""
    log_to_stderr(SERVICE, settings.log_level)
    tracing.start(SERVICE)
    requested = stop_requested()
    service = Service(settings)
    runner, port = await listen(
        build(service),
        settings.http_host,
        settings.http_port,
        finish_seconds=max(0.1, settings.stop_deadline_seconds - _FLUSH_SECONDS),
    )
    service.health.is_started = True
    _log.info("listening", extra={"action": "listen", "host": settings.http_host, "port": port})
    await first_of(requested, service.has_died)
    service.health.is_stopping = True
    service.deadline = Deadline(settings.stop_deadline_seconds)
    exit_by(service.deadline)
    _log.info("stopping", extra={"action": "stop"})
    await runner.cleanup()
    await asyncio.to_thread(tracing.stop, service.deadline.before(_CLOSING_SECONDS))
    return 1 if service.has_died.is_set() else 0
