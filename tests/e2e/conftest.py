"""Fixtures only: one stack for all end-to-end tests, started when the first asks for it."""

import shutil
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.e2e.running import RunningStack


@pytest.fixture(scope="package")
def started_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    options = ("--monitoring",) if shutil.which("prometheus") else ()
    stack = RunningStack(tmp_path_factory.mktemp("stack") / "data", *options)
    stack.start()
    yield stack
    if stack.is_running:
        stack.stop()


@pytest.fixture
def stack(started_stack: RunningStack) -> RunningStack:
    if not started_stack.is_running:  # the test before failed half-way
        started_stack.start()
    return started_stack


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stack.url, headers={"api-key": stack.api_key}) as session:
        yield session
