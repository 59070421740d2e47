"""How docfleet's own services are started: which program, which variables, when they are ready."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from docfleet.settings import COMMAND_VARIABLES
from docfleet.stack.faults import StartFailed
from docfleet.stack.ports import LOOPBACK
from docfleet.stack.processes import Program, Supervisor, tail

PRODUCER_API: Final = "producer_api"
STATUS_SERVICE: Final = "status_service"
WORKER: Final = "classifier_worker"

#: The database is not the workers' business.
_NEEDS_DATABASE: Final = frozenset({PRODUCER_API, STATUS_SERVICE})
#: What a service may take to stop, unless the user's environment says otherwise.
STOP_SECONDS: Final = 8.0
#: A first start may fetch a model.
_READY_SECONDS: Final = 900.0
#: A service that ends this often before it was ever ready will not become ready.
_MOST_EARLY_ENDS: Final = 2
_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where the servers are; `gcs_endpoint` None is Google's own."""

    kafka_bootstrap_servers: str
    postgres_dsn: str
    gcs_endpoint: str | None
    gcs_bucket: str


def program(name: str, port: int, neighbours: Neighbours) -> Program:
    """Return the program of a service that listens on `port`; its module is the name without `-<number>`."""
    module = name.partition("-")[0]
    environment = {variable: text for variable, text in os.environ.items() if variable not in COMMAND_VARIABLES}
    environment |= _variables(module, port, neighbours)
    if module not in _NEEDS_DATABASE:
        environment.pop("DATABASE_URL", None)
    environment.setdefault("DOCFLEET_STOP_DEADLINE_SECONDS", f"{STOP_SECONDS:g}")
    return Program(name, [sys.executable, "-m", module], environment)


def _variables(module: str, port: int, neighbours: Neighbours) -> Mapping[str, str]:
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": neighbours.kafka_bootstrap_servers,
        "DOCFLEET_BUCKET": neighbours.gcs_bucket,
        "DOCFLEET_HTTP_HOST": LOOPBACK,
        "DOCFLEET_HTTP_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a folder `schemas` where the user happens to be is not ours
    }
    if module in _NEEDS_DATABASE:
        variables["DATABASE_URL"] = neighbours.postgres_dsn
    if neighbours.gcs_endpoint is not None:
        variables["STORAGE_EMULATOR_HOST"] = neighbours.gcs_endpoint
    return variables


async def wait_until_ready(service: Supervisor, address: str, session: aiohttp.ClientSession) -> None:
    """Return when the service says that it is ready.

    Raises:
        StartFailed: it ended again and again, or the time is over; the end of its log is in the message.

    """
    deadline = time.monotonic() + _READY_SECONDS
    said = "nothing"
    while True:
        try:
            async with session.get(f"{address}/healthz/ready", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                if answer.status == 200:
                    return
                said = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            said = str(error) or type(error).__name__
        if service.restarts >= _MOST_EARLY_ENDS:
            raise StartFailed(f"{service.program.name} does not start; its log ends:\n{tail(service.log_path)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{service.program.name} is not ready after {_READY_SECONDS:.0f} s; it says: {said}")
        await asyncio.sleep(_POLL_SECONDS)
