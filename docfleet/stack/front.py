"""The one port in front of the two HTTP services: a reverse proxy that streams both ways.

Routes by method and path as deploy/k8s does with an HTTPRoute. Owns no timeout and no size limit:
those are the services'. A client that goes away ends the request behind it, so that the service
sees the disconnect; a service that is away is a 503.
"""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from schemas.errors import ERRORS, ErrorCode

#: RFC 9110 section 7.6.1; `Expect` is answered hop by hop here too.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "expect"}
)
#: Headers that aiohttp's client would add of its own accord.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CONNECT_SECONDS: Final = 5.0
_BUFFER_BYTES: Final = 256 * 1024
_RETRY_AFTER_SECONDS: Final = 1
#: What requests that run may still take when the front stops.
_DRAIN_SECONDS: Final = 3.0


class Front:
    """The proxy; `producer_api` and `status_service` are the addresses behind it, without a path."""

    def __init__(self, *, producer_api: str, status_service: str) -> None:
        self._producer_api = producer_api
        self._status_service = status_service
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Start to answer on a bound socket."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_BUFFER_BYTES,
        )
        # handler_cancellation: a client that waits for an answer and leaves ends its request behind us
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            read_bufsize=_BUFFER_BYTES,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=1024).start()

    async def stop(self) -> None:
        """Accept nothing more, give running requests a moment, close."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz/ready" and request.method in {"GET", "HEAD"}:
            return await self._both_ready()
        return await self._forward(request, self._behind(request.method, request.path))

    def _behind(self, method: str, path: str) -> str:
        """Return which service answers; a wrong method is refused by the service that owns the path."""
        reads = method in {"GET", "HEAD"}
        if path.startswith("/classify/") or (path == "/classify" and reads):
            return self._status_service
        return self._producer_api

    async def _forward(self, request: web.BaseRequest, base: str) -> web.StreamResponse:
        assert self._session is not None  # noqa: S101  # requests come after start()
        body = _Body(request) if request.body_exists else None
        try:
            answer = await self._session.request(
                request.method,
                URL(base + _target(request), encoded=True),
                headers=_request_headers(request),
                data=body and body.read(),
                expect100=body is not None and body.is_expected,
                allow_redirects=False,
                skip_auto_headers=_NOT_ADDED,
            )
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            if body is not None and body.is_broken:
                raise ConnectionResetError("the client went away") from None
            return _unavailable(request)
        try:
            return await _relay(request, answer)
        finally:
            if body is None or body.is_sent:
                answer.release()
            else:
                answer.close()  # refused before it had read everything: nobody must go on reading the request

    async def _both_ready(self) -> web.Response:
        """Return one service's 200 when both are ready, else the answer of one that is not."""
        services = {"producer_api": self._producer_api, "status_service": self._status_service}
        answers = await asyncio.gather(*(self._ask_ready(base) for base in services.values()))
        faults = {name: fault for name, fault in zip(services, answers, strict=True) if fault is not None}
        body = {"status": "not ready" if faults else "ready", "faults": faults}
        return web.json_response(body, status=503 if faults else 200)

    async def _ask_ready(self, base: str) -> object:
        """Return None when the service is ready, else what it says."""
        assert self._session is not None  # noqa: S101
        try:
            async with self._session.get(f"{base}/healthz/ready") as answer:
                said = await answer.text()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return "not reachable"
        if answer.status == 200:
            return None
        try:
            return json.loads(said)
        except ValueError:
            return f"status {answer.status}"


class _Body:
    """The body of a request on its way; remembers how far it came."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self.is_expected = request.headers.get("Expect", "").lower() == "100-continue"
        self.is_sent = False
        self.is_broken = False

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; the service behind has agreed to it when the first piece is asked for."""
        transport = self._request.transport
        if self.is_expected and transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async for piece in self._request.content.iter_any():
                yield piece
        except (ConnectionError, web.RequestPayloadError):
            self.is_broken = True
            raise
        self.is_sent = True


async def _relay(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers))
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except (aiohttp.ClientError, ConnectionError):
        # The status is out, so only a broken connection can tell the client that the body is not whole.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the service went away in mid-answer") from None
    await response.write_eof()
    return response


def _target(request: web.BaseRequest) -> str:
    target = request.rel_url.raw_path_qs
    return target if target.startswith("/") else f"/{target}"


def _request_headers(request: web.BaseRequest) -> CIMultiDict[str]:
    headers = _end_to_end(request.headers)
    hops = [*request.headers.getall("X-Forwarded-For", ()), request.remote or "unknown"]
    headers["X-Forwarded-For"] = ", ".join(hops)
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    headers.setdefault("X-Forwarded-Host", request.host)
    return headers


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers that are meant for the other end, not for this hop."""
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named)


def _unavailable(request: web.BaseRequest) -> web.Response:
    code = ErrorCode.SERVICE_UNAVAILABLE
    request_id = request.headers.get("X-Request-Id") or uuid.uuid4().hex
    body = {"detail": ERRORS[code].sentence, "error_code": code, "request_id": request_id}
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS), "X-Request-Id": request_id}
    return web.json_response(body, status=503, headers=headers)
