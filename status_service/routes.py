"""`GET /classify/{job_id}`: HTTP in, a row out, after a wait if the client asks for one. No SQL, no Kafka."""

import asyncio
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from docfleet.api_keys import ApiKeys
from docfleet.http import MEASURED_AS
from schemas.errors import DocfleetError, ErrorCode
from status_service.jobs import JobRow, Jobs
from status_service.notify import Changes
from status_service.views import is_finished, job_json

_MOST_WAIT_SECONDS: Final = 60.0
#: A plain decimal number: no sign, exponent, `nan` or underscores, which float() would take.
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?|\.[0-9]{1,9}")
_JOB_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RETRY_AFTER_SECONDS: Final = "1"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What an answer needs."""

    api_keys: ApiKeys
    jobs: Jobs
    changes: Changes


LOOKUP: Final = web.AppKey("lookup", Lookup)


def add_routes(app: web.Application, lookup: Lookup) -> None:
    """Add this service's paths to an application."""
    app[LOOKUP] = lookup
    app.router.add_get(r"/classify/{job_id:[^/]+}", _get_job)  # HEAD too; braces are no reason for another 404


async def _get_job(request: web.Request) -> web.Response:
    lookup = request.app[LOOKUP]
    key = await lookup.api_keys.of(request.headers)
    wait_seconds = _wait_seconds(request)
    job_id = _job_id(request)
    if wait_seconds > 0:
        request[MEASURED_AS] = "/classify/{job_id}?wait"  # it takes as long as the client says
        job = await _job_after_wait(lookup, job_id, key.tenant_id, wait_seconds)
    else:
        job = await _job_now(lookup, job_id, key.tenant_id)
    headers = {"Cache-Control": "no-store"}
    if not is_finished(job):
        headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return web.Response(text=job_json(job), content_type="application/json", headers=headers)


async def _job_now(lookup: Lookup, job_id: uuid.UUID, tenant_id: str) -> JobRow:
    job = await lookup.jobs.find(job_id, tenant_id)
    if job is None:
        raise DocfleetError(ErrorCode.JOB_NOT_FOUND)
    return job


async def _job_after_wait(lookup: Lookup, job_id: uuid.UUID, tenant_id: str, wait_seconds: float) -> JobRow:
    """Return the job when its status is another than now, when it has ended, or when the time is over."""
    ends_at = time.monotonic() + wait_seconds
    with lookup.changes.watch(job_id) as woken:  # before the first read: a change in between is not missed
        job = first = await _job_now(lookup, job_id, tenant_id)
        while job.status is first.status and not is_finished(job):
            left_seconds = ends_at - time.monotonic()
            if left_seconds <= 0 or lookup.changes.is_released:
                break
            with suppress(TimeoutError):  # its progress may have changed all the same
                async with asyncio.timeout(left_seconds):
                    await woken.wait()
            woken.clear()
            job = await _job_now(lookup, job_id, tenant_id)
    return job


def _wait_seconds(request: web.Request) -> float:
    given = request.query.getall("wait", [])
    if not given:
        return 0.0
    if len(given) > 1 or not _SECONDS.fullmatch(given[0]) or float(given[0]) > _MOST_WAIT_SECONDS:
        raise DocfleetError(ErrorCode.INVALID_WAIT)
    return float(given[0])


def _job_id(request: web.Request) -> uuid.UUID:
    given = request.match_info["job_id"]
    if not _JOB_ID.fullmatch(given):
        raise DocfleetError(ErrorCode.JOB_NOT_FOUND)
    return uuid.UUID(given)
