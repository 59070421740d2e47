"""One document through a running system: post it, wait for its end.

Retries what may pass (429, 503, a connection that breaks) with one Idempotency-Key, so that a
document is never two jobs. Knows no table and no terminal.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from docfleet.stopping import Deadline

Answer = dict[str, Any]

_TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})
#: 409: an earlier try of the same post is still under way.
_PASSING: Final = frozenset({409, 429, 502, 503, 504})
#: A system that could not be reached this often is not there.
_MOST_UNREACHED: Final = 3
_RETRY_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 10.0


class Refused(Exception):
    """There will be no result; `body` is the system's answer, if there was one."""

    def __init__(self, sentence: str, body: Answer | None = None) -> None:
        super().__init__(sentence)
        self.body = body or {}


@dataclass(frozen=True, slots=True)
class System:
    """Where a system is, and the key for it."""

    url: str
    api_key: str

    def open_session(self) -> aiohttp.ClientSession:
        """Return a session that presents the key."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        return aiohttp.ClientSession(headers={"api-key": self.api_key}, timeout=timeout)


async def post(session: aiohttp.ClientSession, url: str, form: "Form", deadline: Deadline) -> str:
    """Post a document, streamed from disk, and return its job's id.

    Raises:
        Refused: the system said no, is not there, or the deadline is over.

    """
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    unreached = 0
    while True:
        try:
            with form.file.open("rb") as stream:
                data = aiohttp.FormData()
                data.add_field("categories", json.dumps(list(form.categories)))
                for name, text in form.options.items():
                    data.add_field(name, text)
                data.add_field("pdf_file", stream, filename=form.file.name, content_type="application/octet-stream")
                async with session.post(f"{url}/classify", data=data, headers=headers) as answer:
                    body = await _json(answer)
                    if answer.status == 202:
                        return str(body["job_id"])
                    if answer.status not in _PASSING:
                        raise Refused(_sentence(answer.status, body), body)
                    delay_seconds = _retry_after(answer)
        except aiohttp.ClientConnectionError as error:
            unreached += 1
            if unreached == _MOST_UNREACHED:
                raise Refused(f"{url} cannot be reached ({error}); is the system running?") from error
            body, delay_seconds = {}, _RETRY_SECONDS
        await _pause(delay_seconds, deadline, body)


async def follow(
    session: aiohttp.ClientSession, job_url: str, deadline: Deadline, *, wait_seconds: float
) -> AsyncIterator[Answer]:
    """Yield what the system says of a job, the last time when the job has ended.

    Asks again when the status changed, and at least every `wait_seconds` (0 to 60).

    Raises:
        Refused: the job is gone, or the deadline is over.

    """
    while True:
        params = {"wait": f"{min(wait_seconds, deadline.remaining()):.3f}"}
        body: Answer = {}
        delay_seconds = 0.0
        try:
            async with session.get(job_url, params=params) as answer:
                body = await _json(answer)
                if answer.status in _PASSING:
                    delay_seconds = _retry_after(answer)
                elif answer.status != 200:
                    raise Refused(_sentence(answer.status, body), body)
                else:
                    yield body
                    if body["status"] in _TERMINAL:
                        return
        except aiohttp.ClientConnectionError:
            delay_seconds = _RETRY_SECONDS
        await _pause(delay_seconds, deadline, body)


@dataclass(frozen=True, slots=True)
class Form:
    """What is posted."""

    file: Path
    categories: Sequence[str]
    options: Mapping[str, str] = field(default_factory=dict)  #: further form fields


async def _pause(delay_seconds: float, deadline: Deadline, body: Answer) -> None:
    if deadline.remaining() <= delay_seconds:
        said = body.get("progress") or body.get("detail") or "no answer"
        raise Refused(f"not done in time; the last word was: {said}", body)
    await asyncio.sleep(delay_seconds)


async def _json(answer: aiohttp.ClientResponse) -> Answer:
    text = await answer.text()
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):  # some proxy's page
        return {"detail": f"{answer.status} {answer.reason}: {text[:200]!r}"}
    return body


def _sentence(status: int, body: Answer) -> str:
    detail = body.get("detail")
    if isinstance(detail, dict):
        detail = detail.get("message", detail)
    return str(detail or f"status {status}")


def _retry_after(answer: aiohttp.ClientResponse) -> float:
    try:
        return max(0.05, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return _RETRY_SECONDS
