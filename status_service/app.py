"""The composition root of status_service: builds the parts, starts them, and stops them in order."""

import asyncio
import logging
from typing import Any, Final

import psycopg
from aiohttp import web
from psycopg_pool import AsyncConnectionPool

from docfleet import http, tracing
from docfleet.api_keys import ApiKeys
from docfleet.kafka import consumer_config, schema_ids
from docfleet.postgres import open_pool
from docfleet.stopping import Deadline, end_tasks, exit_by, first_of, guarded, stop_requested
from docfleet.telemetry import Health, log_to_stderr
from docfleet.threads import in_thread
from schemas.topics import STATUS_GROUP
from status_service.census import Census
from status_service.jobs import Jobs
from status_service.notify import Changes
from status_service.projector import Intake, Projector
from status_service.routes import Lookup, add_routes
from status_service.settings import StatusSettings

logger = logging.getLogger(__name__)

SERVICE: Final = "status_service"
#: Of the stop deadline: what closing connections may take after the last answer.
_CLOSING_SECONDS: Final = 2.0
#: Of that: what is left for ending the process.
_LEAVING_SECONDS: Final = 0.5


async def run(settings: StatusSettings) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code: 0 after a tidy stop.

    It is 1 when the deadline came first, or when a part died: readers would be told of a table that stands still.
    """
    log_to_stderr(SERVICE, settings.log_level)
    tracing.start(SERVICE)
    requested, has_died = stop_requested(), asyncio.Event()
    dsn = settings.database_url.get_secret_value()
    pool = open_pool(dsn, max_size=settings.database_pool_size, answer_seconds=settings.database_timeout_seconds)
    changes = Changes(dsn)
    projector = Projector(intake(settings), dsn, schema_ids(settings))
    health = Health({"postgres": lambda: _postgres_fault(pool), "projector": lambda: _answered(projector.unready())})
    health.liveness = projector.fault

    await pool.open()
    tasks = [
        asyncio.create_task(guarded(changes.listen(), has_died), name="listen"),
        asyncio.create_task(guarded(Census(pool).run(), has_died), name="count"),
    ]
    projector.start()
    watching = asyncio.create_task(guarded(_outlive(projector), has_died), name="watch")
    app = http.application(SERVICE, health)
    add_routes(app, Lookup(ApiKeys(pool, ttl_seconds=settings.key_cache_seconds), Jobs(pool), changes))
    runner, port = await http.listen(app, settings.http_host, settings.http_port)
    health.is_started = True
    logger.info("serving on port %d", port, extra={"action": "started", "port": port})

    await first_of(requested, has_died)
    deadline = Deadline(settings.stop_deadline_seconds)
    exit_by(deadline)
    logger.info("stopping", extra={"action": "stopping"})
    health.is_stopping = True
    changes.release()
    await end_tasks([watching])
    is_tidy = await asyncio.to_thread(projector.stop, deadline.before(_CLOSING_SECONDS)) and not has_died.is_set()
    try:
        await asyncio.wait_for(_close(runner, tasks, pool), deadline.before(_LEAVING_SECONDS).remaining())
    except TimeoutError:
        is_tidy = False
    await asyncio.to_thread(tracing.stop, deadline.before(_LEAVING_SECONDS))
    logger.info("stopped", extra={"action": "stopped", "is_tidy": is_tidy})
    return 0 if is_tidy else 1


def intake(settings: StatusSettings) -> Intake:
    """Return what the projector reads and as whom."""
    config = consumer_config(
        settings,
        group_id=STATUS_GROUP,
        group_protocol="classic" if settings.group_protocol == "share" else settings.group_protocol,
        session_timeout_seconds=settings.session_timeout_seconds,
    )
    # Unlike jobs, events take microseconds each: a long prefetch is what makes batches large.
    return Intake(config | {"queued.min.messages": 10_000, "topic.metadata.refresh.interval.ms": 10_000})


async def _outlive(projector: Projector) -> None:
    await in_thread(projector.join)
    raise RuntimeError("the projector ended")


async def _close(runner: web.AppRunner, tasks: list[asyncio.Task[None]], pool: AsyncConnectionPool[Any]) -> None:
    await runner.cleanup()  # answers what was asked, then closes
    await end_tasks(tasks)
    await pool.close()


async def _postgres_fault(pool: AsyncConnectionPool[Any]) -> str | None:
    try:
        async with pool.connection(timeout=2.0) as connection:
            await connection.execute("select 1")
    except psycopg.OperationalError as error:
        return f"Postgres is away: {error}"
    return None


async def _answered(fault: str | None) -> str | None:
    return fault
