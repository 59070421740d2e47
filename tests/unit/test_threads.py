"""Blocking work beside a loop is waited for by whoever asked, and by nobody else."""

import asyncio
import threading

import pytest

from docfleet.threads import in_thread
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_what_work_returns_or_raises_comes_back() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


def test_loop_ends_although_its_work_still_blocks() -> None:
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        has_begun.set()
        may_end.wait(PATIENCE_SECONDS)
        has_ended.set()

    async def run() -> None:
        task = asyncio.create_task(in_thread(work))
        await eventually(has_begun.is_set)
        task.cancel()

    asyncio.run(run())
    assert not has_ended.is_set()
    may_end.set()
