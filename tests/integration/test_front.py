"""The one port: what goes in comes out on the other side, both ways, and a break on one side is felt on the other."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from docfleet.stack.front import Front
from docfleet.stack.ports import free_port
from tests.waiting import PATIENCE_SECONDS, eventually

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Services:
    """Two services whose answers a test chooses, and the front before them."""

    def __init__(self) -> None:
        self.producer_api: Handler = named("producer_api")
        self.status_service: Handler = named("status_service")
        self.url = ""
        self.port = 0


def named(name: str) -> Handler:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = {**request.headers}
        answer = {"service": name, "path": request.raw_path, "headers": headers, "size": len(body)}
        return web.json_response(answer, headers={"Location": "/classify/1", "Connection": "X-Hop", "X-Hop": "1"})

    return handler


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    chosen = Services()
    runners, addresses = [], []
    for name in ("producer_api", "status_service"):

        async def handle(request: web.BaseRequest, name: str = name) -> web.StreamResponse:
            return await getattr(chosen, name)(request)

        runner = web.ServerRunner(web.Server(handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
    front, chosen.url, chosen.port = await running_front(*addresses)
    yield chosen
    await front.stop()
    for runner in runners:
        await runner.cleanup()


async def running_front(producer_api: str, status_service: str) -> tuple[Front, str, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    front = Front(producer_api=producer_api, status_service=status_service)
    await front.start(listener)
    port = listener.getsockname()[1]
    return front, f"http://127.0.0.1:{port}", port


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_request_passes_with_its_path_and_headers(services: Services, client: aiohttp.ClientSession) -> None:
    target = URL(f"{services.url}/classify?a=%2F&b=c+d", encoded=True)
    headers = {"api-key": "k", "Connection": "close, X-Own", "X-Own": "1", "X-Forwarded-For": "10.0.0.9"}
    async with client.post(target, data=b"12345", headers=headers) as answer:
        seen = await answer.json()
        assert answer.headers["Location"] == "/classify/1"
        assert "X-Hop" not in answer.headers
    assert seen["service"] == "producer_api"
    assert seen["path"] == "/classify?a=%2F&b=c+d"
    assert seen["size"] == 5
    assert seen["headers"]["api-key"] == "k"
    assert seen["headers"]["X-Forwarded-For"] == "10.0.0.9, 127.0.0.1"
    assert seen["headers"]["X-Forwarded-Proto"] == "http"
    assert seen["headers"]["X-Forwarded-Host"] == seen["headers"]["Host"] == f"127.0.0.1:{services.port}"
    assert "X-Own" not in seen["headers"]


async def test_status_requests_go_to_the_status_service(services: Services, client: aiohttp.ClientSession) -> None:
    async with client.get(f"{services.url}/classify/1?wait=1") as answer:
        assert (await answer.json())["service"] == "status_service"


async def test_errors_and_redirects_are_passed_on_as_they_are(
    services: Services, client: aiohttp.ClientSession
) -> None:
    async def moved(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "http://elsewhere.invalid/"}, reason="Moved Once")

    services.producer_api = moved
    async with client.get(f"{services.url}/docs", allow_redirects=False) as answer:
        assert (answer.status, answer.reason) == (307, "Moved Once")
        assert answer.headers["Location"] == "http://elsewhere.invalid/"


async def test_compressed_answer_is_not_touched(services: Services) -> None:
    async def compressed(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"not really gzip", headers={"Content-Encoding": "gzip"})

    services.producer_api = compressed
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.get(f"{services.url}/docs") as answer,
    ):
        assert await answer.read() == b"not really gzip"
        assert answer.headers["Content-Encoding"] == "gzip"


async def test_head_has_the_length_and_no_body(services: Services, client: aiohttp.ClientSession) -> None:
    async def sized(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"" if _request.method == "HEAD" else b"x", headers={"Content-Length": "12345"})

    services.status_service = sized
    for _ in range(2):  # the second uses the same connections
        async with client.head(f"{services.url}/classify/1") as answer:
            assert answer.headers["Content-Length"] == "12345"
            assert await answer.read() == b""


async def test_answer_arrives_piece_by_piece(services: Services, client: aiohttp.ClientSession) -> None:
    first_was_read = asyncio.Event()

    async def pieces(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await asyncio.wait_for(first_was_read.wait(), PATIENCE_SECONDS)
        await response.write(b"second")
        return response

    services.producer_api = pieces
    async with client.get(f"{services.url}/events") as answer:
        assert await answer.content.readany() == b"first"
        first_was_read.set()
        assert await answer.content.read() == b"second"


async def test_upload_is_not_taken_faster_than_the_service_reads(services: Services) -> None:
    may_read = asyncio.Event()
    total_bytes = 64 * 1024 * 1024

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await may_read.wait()
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        return web.json_response({"size": size})

    services.producer_api = slow
    reader, writer = await asyncio.open_connection("127.0.0.1", services.port)
    writer.write(f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {total_bytes}\r\n\r\n".encode())
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        while sent < total_bytes:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    sending = asyncio.create_task(send_all())
    standstill = -1
    while standstill != sent:  # until nothing moves any more
        standstill = sent
        await asyncio.sleep(0.3)
    assert sent < total_bytes
    may_read.set()
    await asyncio.wait_for(sending, PATIENCE_SECONDS)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(await reader.readexactly(len(b'{"size": 67108864}'))) == {"size": total_bytes}
    writer.close()


async def test_service_sees_a_client_that_leaves_in_mid_upload(services: Services) -> None:
    outcome: asyncio.Future[str]
    started = asyncio.Event()

    async def read(request: web.BaseRequest) -> web.StreamResponse:
        started.set()
        try:
            await request.read()
        except (ConnectionError, asyncio.CancelledError) as error:
            outcome.set_result(type(error).__name__)
            raise
        outcome.set_result("read to the end")
        return web.Response()

    services.producer_api = read
    for head in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
        outcome = asyncio.get_running_loop().create_future()
        _, writer = await asyncio.open_connection("127.0.0.1", services.port)
        writer.write(f"POST /classify HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n3e8\r\n".encode() + bytes(1000) + b"\r\n")
        await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
        started.clear()
        writer.close()
        assert await asyncio.wait_for(outcome, PATIENCE_SECONDS) in {"ConnectionResetError", "CancelledError"}


async def test_service_sees_a_client_that_leaves_while_it_waits(services: Services) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(_request: web.BaseRequest) -> web.StreamResponse:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return web.Response()

    services.status_service = wait
    _, writer = await asyncio.open_connection("127.0.0.1", services.port)
    writer.write(b"GET /classify/1?wait=60 HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
    writer.close()
    await asyncio.wait_for(ended.wait(), PATIENCE_SECONDS)


async def test_body_is_called_for_only_when_the_service_wants_it(services: Services) -> None:
    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401)

    async def accept(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return web.Response(body=await request.read())

    request = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    services.producer_api = refuse
    reader, writer = await asyncio.open_connection("127.0.0.1", services.port)
    writer.write(request)
    assert (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 401")
    writer.close()

    services.producer_api = accept
    reader, writer = await asyncio.open_connection("127.0.0.1", services.port)
    writer.write(request)
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(4) == b"body"
    writer.close()


async def test_refusal_before_the_end_of_an_upload_reaches_the_client(services: Services) -> None:
    async def refuse(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=413, text="too large")

    services.producer_api = refuse
    reader, writer = await asyncio.open_connection("127.0.0.1", services.port)
    writer.write(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + bytes(100_000))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    assert head.startswith(b"HTTP/1.1 413")
    assert await reader.readexactly(9) == b"too large"
    writer.close()


async def test_service_that_is_away_is_a_503_with_retry_after(client: aiohttp.ClientSession) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    front, url, _ = await running_front(nobody, nobody)
    async with client.post(f"{url}/classify", data=b"x", headers={"X-Request-Id": "r1"}) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        error = await answer.json()
    assert error["error_code"] == "SERVICE_UNAVAILABLE"
    assert error["request_id"] == "r1"
    assert error["detail"]
    async with client.get(f"{url}/healthz/ready") as answer:
        assert answer.status == 503
    await front.stop()


async def test_service_that_dies_in_mid_answer_breaks_the_connection(
    services: Services, client: aiohttp.ClientSession
) -> None:
    async def die(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    services.producer_api = die
    with pytest.raises(aiohttp.ClientError):
        async with client.get(f"{services.url}/docs") as answer:
            await answer.read()


async def test_ready_means_both_services(services: Services, client: aiohttp.ClientSession) -> None:
    async def status_of() -> int:
        async with client.get(f"{services.url}/healthz/ready") as answer:
            return answer.status

    async def not_ready(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "not ready", "faults": {"kafka": "away"}}, status=503)

    await eventually(status_of)
    assert await status_of() == 200
    services.status_service = not_ready
    assert await status_of() == 503
    async with client.get(f"{services.url}/healthz/ready") as answer:
        assert (await answer.json())["faults"]["status_service"]["faults"] == {"kafka": "away"}
