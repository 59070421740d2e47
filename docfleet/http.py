"""What the HTTP services share: request ids, traces, errors as JSON, request metrics, the listening socket.

One place turns an exception into an answer: DocfleetError by the table of codes, Postgres away or read-only
into 503, aiohttp's own refusals (404, 405, 413, …) into the same JSON, anything else into 500 with a log
record that carries the request id.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from aiohttp import web
from aiohttp.typedefs import Handler

from docfleet import metrics, tracing
from docfleet.telemetry import PROBES, Health
from schemas.errors import ERRORS, DocfleetError, ErrorCode

logger = logging.getLogger(__name__)

#: The id of a request: the client's own `X-Request-Id` when it is a plain word, else a new one.
REQUEST_ID: Final = web.RequestKey("request_id", str)
#: The span of a request that is no probe; the client's trace goes on in it, or a new one begins.
SPAN: Final = web.RequestKey("span", tracing.Span)
#: As which route a request is measured, where its own would mix what cannot be compared.
MEASURED_AS: Final = web.RequestKey("measured_as", str)
_REQUEST_ID_HEADER: Final = "X-Request-Id"
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_RETRY_AFTER_SECONDS: Final = "2"
#: aiohttp's own refusals by status; every other one below 500 is INVALID_REQUEST.
_CODE_OF_STATUS: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    408: ErrorCode.UPLOAD_TIMEOUT,
    413: ErrorCode.FILE_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_CONTENT_TYPE,
}


class HttpError(DocfleetError):
    """An error whose answer says more than its sentence: another `detail`, or headers of its own."""

    def __init__(
        self,
        code: ErrorCode,
        sentence: str | None = None,
        *,
        detail: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, sentence)
        self.detail = self.sentence if detail is None else detail
        self.headers = dict(headers or {})


def application(service: str, health: Health, **options: Any) -> web.Application:
    """Return an application with the probes and the shared middlewares; `options` are aiohttp's own."""
    app = web.Application(middlewares=[_with_request_id, _traced, _measured, _with_json_errors], **options)
    health.add_routes(app)
    metrics.expose(service)
    app.on_startup.append(_count_from_zero)
    return app


async def listen(
    app: web.Application, host: str, port: int, *, finish_seconds: float = 60.0
) -> tuple[web.AppRunner, int]:
    """Start to answer and return the runner, whose cleanup ends it, and the port (a free one for port 0).

    A client that goes away cancels its handler. The cleanup gives requests in flight `finish_seconds`.
    """
    # aiohttp waits twice so long: for handlers, then for those that it has told that no more of their body will come
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=finish_seconds / 2)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024, reuse_address=True).start()
    return runner, int(runner.addresses[0][1])


def error_response(
    request: web.BaseRequest, code: ErrorCode, detail: Any, *, status: int, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the JSON of an error: `detail`, `error_code` and `request_id`."""
    body = {"detail": detail, "error_code": code, "request_id": request.get(REQUEST_ID, "")}
    return web.json_response(body, status=status, headers=headers, dumps=_dumps)


def _dumps(body: Any) -> str:
    text = json.dumps(body, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # a sentence may repeat a client's bytes that are no UTF-8


@web.middleware
async def _with_request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    given = request.headers.get(_REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
    response = await handler(request)
    if not response.prepared:
        response.headers[_REQUEST_ID_HEADER] = request[REQUEST_ID]
    return response


@web.middleware
async def _traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make the request a span, by OpenTelemetry's semantic conventions for HTTP servers."""
    method, route = _method_of(request), _route_of(request)
    if route in PROBES:
        return await handler(request)
    name = method if route is None else f"{method} {route}"
    attributes = {"http.request.method": method, "url.scheme": request.scheme, "url.path": request.path}
    attributes |= {} if route is None else {"http.route": route}
    parent = request.headers.get("traceparent")
    with tracing.span(name, "server", parent=parent, job_id=_job_id_of(request), attributes=attributes) as span:
        request[SPAN] = span
        response = await handler(request)
        span.set({"http.response.status_code": response.status})
        if response.status >= 500:  # noqa: PLR2004  # what the client did wrong is no error of ours
            span.fail(str(response.status))
        return response


def _method_of(request: web.Request) -> str:
    return request.method if request.method in _METHODS else "other"


def _route_of(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _job_id_of(request: web.Request) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.match_info.get("job_id", ""))
    except ValueError:
        return None


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    method = _method_of(request)
    started = time.monotonic()
    status = "disconnected"
    try:
        response = await handler(request)
        status = str(response.status)
        return response
    finally:
        route = request.get(MEASURED_AS) or _route_of(request) or "unmatched"
        metrics.HTTP_REQUESTS.labels(route, method, status).inc()
        metrics.HTTP_REQUEST_SECONDS.labels(route).observe(time.monotonic() - started)


async def _count_from_zero(app: web.Application) -> None:
    """Begin each route's usual answers at 0: Prometheus sees no increase in a counter that begins at 1."""
    for route in app.router.routes():
        if route.resource is not None and route.method in _METHODS:
            for status in ("202" if route.method == "POST" else "200", "500", "503"):
                metrics.HTTP_REQUESTS.labels(route.resource.canonical, route.method, status)
            metrics.HTTP_REQUEST_SECONDS.labels(route.resource.canonical)


@web.middleware
async def _with_json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except asyncio.CancelledError:
        raise
    except DocfleetError as error:
        return _answer(request, error)
    except web.HTTPException as answer:
        return _translated(request, answer)
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        extra = {"action": "postgres_unavailable", "request_id": request[REQUEST_ID]}
        logger.warning("Postgres is away: %s", error, extra=extra)
        return _answer(request, DocfleetError(ErrorCode.SERVICE_UNAVAILABLE))
    except Exception:
        logger.exception("a request failed", extra={"action": "request_failed", "request_id": request[REQUEST_ID]})
        return _answer(request, DocfleetError(ErrorCode.INTERNAL_ERROR))


def _answer(request: web.Request, error: DocfleetError) -> web.Response:
    kind = ERRORS[error.code]
    status = kind.http_status if kind.http_status is not None else (503 if kind.is_transient else 400)
    detail, headers = (error.detail, error.headers) if isinstance(error, HttpError) else (error.sentence, {})
    if status in {429, 503} or error.code is ErrorCode.IDEMPOTENCY_IN_PROGRESS:
        headers = {"Retry-After": _RETRY_AFTER_SECONDS} | headers
    if error.code is ErrorCode.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"} | headers
    return error_response(request, error.code, detail, status=status, headers=headers)


def _translated(request: web.Request, answer: web.HTTPException) -> web.StreamResponse:
    if answer.status < 400:  # noqa: PLR2004  # a redirect is no error
        raise answer
    fallback = ErrorCode.INTERNAL_ERROR if answer.status >= 500 else ErrorCode.INVALID_REQUEST  # noqa: PLR2004
    code = _CODE_OF_STATUS.get(answer.status, fallback)
    headers = {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else {}
    return error_response(request, code, ERRORS[code].sentence, status=answer.status, headers=headers)
