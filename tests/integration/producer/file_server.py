"""A web server of the test's own for file_url: each path behaves in its own way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.integration.producer.service import PDF


@dataclass
class FileServer:
    """`asked` counts the requests by path."""

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    failures: int = 0  #: how many requests for /flaky are answered 503 first


_BODIES = {"/ok.pdf": PDF, "/empty": b"", "/text": b"hello", "/large": PDF + b"x" * 4_000_000}


@asynccontextmanager
async def running() -> AsyncIterator[FileServer]:
    server = FileServer("")
    released = asyncio.Event()

    async def redirect(request: web.Request) -> web.Response:
        server.asked[request.path] += 1
        return web.Response(status=302, headers={"Location": request.query.get("to", "/redirect")})

    async def flaky(request: web.Request) -> web.Response:
        server.asked[request.path] += 1
        is_up = server.asked[request.path] > server.failures
        return web.Response(body=PDF) if is_up else web.Response(status=503)

    async def zipped(_request: web.Request) -> web.Response:
        return web.Response(body=PDF, headers={"Content-Encoding": "gzip"})

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(PDF)
        while not released.is_set():
            await response.write(b"x" * 100_000)
        return response

    async def silent(request: web.Request) -> web.Response:
        server.asked[request.path] += 1
        await released.wait()
        return web.Response()

    async def redirect_in_latin_1(request: web.Request) -> web.Response:
        assert request.transport is not None  # aiohttp writes UTF-8 only, so the bytes go out beside it
        request.transport.write(b"HTTP/1.1 302 Found\r\nLocation: http://m\xfcnchen.example/\r\n\r\n")
        request.transport.close()
        return web.Response()

    async def body(request: web.Request) -> web.Response:
        server.asked[request.path] += 1
        known = _BODIES.get(request.path)
        return web.Response(status=404) if known is None else web.Response(body=known, content_type="text/html")

    app = web.Application()
    for path, handler in {
        "/redirect": redirect,
        "/redirect-in-latin-1": redirect_in_latin_1,
        "/flaky": flaky,
        "/gzip": zipped,
        "/endless": endless,
        "/silent": silent,
        "/{path:.*}": body,
    }.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    released.set()
    await runner.cleanup()
