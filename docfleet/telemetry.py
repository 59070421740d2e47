"""How a service is seen from outside: JSON logs, the metric catalogue, the probes.

Every metric of every service is declared in `docfleet/metrics.py`; a service uses those it needs.
A log record is one JSON object with an `action` verb; the trace and the job that it is about come from
`docfleet.tracing`, what else it says by `extra`.
"""

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from docfleet import tracing

#: What a LogRecord has of itself; all else came by `extra` and is part of the line.
_OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: Asked all the time by machines.
PROBES: Final = ("/healthz/live", "/healthz/ready", "/metrics")

Check = Callable[[], Awaitable[str | None]]


class _JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        about = {"trace_id": tracing.current_trace_id(), "job_id": tracing.current_job_id()}
        line |= {name: value for name, value in about.items() if value is not None}
        line |= {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def log_to_stderr(service: str, level: str) -> None:
    """Send every log record of this process to stderr as one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(service))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class Health:
    """What the probes answer.

    Live: the process's own loop turns (never a dependency, or a broken database would restart
    every pod). Ready: it is started, not stopping, and each check answers None within its time. What
    an optional check says is shown as `degraded` and leaves the service ready.
    """

    def __init__(self, checks: dict[str, Check] | None = None, *, check_seconds: float = 3.0) -> None:
        self.checks: dict[str, Check] = checks or {}
        self.optional_checks: dict[str, Check] = {}
        self.is_started = False
        self.is_stopping = False
        self.liveness: Callable[[], str | None] = lambda: None
        self._check_seconds = check_seconds

    async def faults(self) -> dict[str, str]:
        """Return why the service is not ready, by the name of the check; empty when it is."""
        if self.is_stopping:
            return {"service": "stopping"}
        if not self.is_started:
            return {"service": "starting"}
        return await self._faults_of(self.checks)

    async def _faults_of(self, checks: dict[str, Check]) -> dict[str, str]:
        answers = await asyncio.gather(*(self._ask(check) for check in checks.values()))
        return {name: fault for name, fault in zip(checks, answers, strict=True) if fault}

    async def _ask(self, check: Check) -> str | None:
        try:
            return await asyncio.wait_for(check(), self._check_seconds)
        except TimeoutError:
            return f"no answer in {self._check_seconds:g} s"

    def add_routes(self, app: web.Application) -> None:
        """Add `/healthz/live`, `/healthz/ready` and `/metrics` to an application."""
        for path, answer in zip(PROBES, (self._live, self._ready, _metrics), strict=True):
            app.router.add_get(path, answer)

    async def _live(self, _request: web.Request) -> web.Response:
        fault = self.liveness()
        return web.json_response({"status": "live" if fault is None else fault}, status=200 if fault is None else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        faults, degraded = await asyncio.gather(self.faults(), self._faults_of(self.optional_checks))
        body = {"status": "not ready" if faults else "ready", "faults": faults}
        if degraded:
            body["degraded"] = degraded
        return web.json_response(body, status=503 if faults else 200)


async def _metrics(request: web.Request) -> web.Response:
    """Answer in OpenMetrics where it is asked for, since only that carries exemplars, else in Prometheus's text."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})
