"""Requests per second of POST /classify with 100 KB, against a bare aiohttp server that only reads the same body.

    python -m benchmarks.post [--seconds 6] [--rounds 3] [--connections 16]

Both are asked in turn by the same client over keep-alive connections; the ratio is of the medians.
What a POST costs beyond reading its body is told per process, in CPU time. No worker runs beside it.
Aim: 0.5 x the sink's requests per second.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from benchmarks.ingress import Ingress, ingress
from benchmarks.running import descendants
from tests import documents

LEAST_RATIO = 0.5
DOCUMENT_BYTES = 100_000
BOUNDARY = "docfleet-benchmark"


async def sink(request: web.Request) -> web.Response:
    """Read a multipart body to its end and answer 202."""
    async for part in await request.multipart():
        while await part.read_chunk(65536):  # type: ignore[union-attr]
            pass
    return web.json_response({"status": "processing"}, status=202)


def run_sink(port: int) -> None:
    """Serve `sink` until killed."""
    app = web.Application()
    app.router.add_post("/classify", sink)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=lambda *_: None)


def request_bytes(api_key: str) -> bytes:
    """Return one whole HTTP request with a 100 KB PDF and three categories."""
    document = documents.pdf(pages=1)
    document += b"\n%" + b"x" * (DOCUMENT_BYTES - len(document) - 2)
    categories = json.dumps([{"name": name} for name in ("invoice", "letter", "form")])
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="pdf_file"; filename="a.pdf"\r\n'
        "Content-Type: application/pdf\r\n\r\n"
    ).encode() + document
    body += (
        f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="categories"\r\n\r\n'
        f"{categories}\r\n--{BOUNDARY}--\r\n"
    ).encode()
    head = (
        f"POST /classify HTTP/1.1\r\nHost: localhost\r\napi-key: {api_key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def requests_in(url: str, request: bytes, *, connections: int, seconds: float) -> int:
    """Return how many requests were answered 202 within `seconds` over so many connections."""
    where = urllib.parse.urlsplit(url)
    ends_at = time.monotonic() + seconds

    async def client() -> int:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        answered = 0
        while time.monotonic() < ends_at:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(length)
            if b" 202 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(f"{head!r} {body!r}")
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(client() for _ in range(connections))))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and those below it have used, ended ones included."""
    ticks = 0
    for one in (pid, *descendants(pid)):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile; its parent has its time
            fields = Path(f"/proc/{one}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until_listening(port: int, *, within_seconds: float = 30.0) -> None:
    """Return when something listens on the port; ConnectionError when nothing does in time."""
    ends_at = time.monotonic() + within_seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.05)
        else:
            return


def measure(running: Ingress, sink_url: str, arguments: argparse.Namespace) -> float:
    """Ask both in turn, print the figures and return the ratio."""
    request = request_bytes(running.api_key)
    ask = {"sink": sink_url, "docfleet": running.url}
    rates: dict[str, list[float]] = {name: [] for name in ask}
    spent = dict.fromkeys(running.pids, 0.0)
    posted = 0
    for round_number in range(arguments.rounds + 1):
        for name, url in ask.items():
            before = {name: cpu_seconds(pid) for name, pid in running.pids.items()}
            options = {"connections": arguments.connections, "seconds": arguments.seconds}
            answered = asyncio.run(requests_in(url, request, **options))
            if round_number == 0:  # warm-up
                continue
            rates[name].append(answered / arguments.seconds)
            if name == "docfleet":
                posted += answered
                for process_name, pid in running.pids.items():
                    spent[process_name] += cpu_seconds(pid) - before[process_name]
    for name, values in rates.items():
        print(f"{name:9} median {statistics.median(values):7.1f} requests/s  ({', '.join(f'{v:.0f}' for v in values)})")
    for name, seconds in spent.items():
        print(f"  CPU per POST in {name:20} {seconds / posted * 1000:6.2f} ms")
    used = sum(spent.values()) / (arguments.rounds * arguments.seconds) / (os.cpu_count() or 1)
    print(f"  together {used:.0%} of {os.cpu_count()} cores, without the client and the kernel's own threads")
    return statistics.median(rates["docfleet"]) / statistics.median(rates["sink"])


def main() -> int:
    """Run and print the ratio; return 0 when the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sink-port", type=int, help="only serve the sink at this port")
    arguments = parser.parse_args()
    if arguments.sink_port:
        run_sink(arguments.sink_port)
        return 0
    port = 18471
    with (
        ingress() as running,
        subprocess.Popen([sys.executable, "-m", "benchmarks.post", "--sink-port", str(port)]) as process,
    ):
        wait_until_listening(port)
        ratio = measure(running, f"http://127.0.0.1:{port}", arguments)
        process.terminate()
    print(f"POST of 100 KB: {ratio:.2f} x the bare sink (at least {LEAST_RATIO})")
    return 0 if ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
