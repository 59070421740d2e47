"""Background loops end when they are told to, and processes by their deadline, whatever hangs."""

import asyncio
import subprocess
import sys

import pytest

from docfleet.stopping import Deadline, end_tasks
from tests.waiting import PATIENCE_SECONDS


async def test_loop_that_loses_its_cancellation_to_a_broken_connection_ends_all_the_same() -> None:
    lost = asyncio.Event()

    async def loop() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost.is_set():
                    raise
                lost.set()  # the driver raised its own error instead, and the loop goes on later

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task]), 10)
    assert lost.is_set()
    assert task.cancelled()


async def test_nothing_to_end_is_fine() -> None:
    await end_tasks([])


def test_what_follows_gets_its_time_and_never_more_than_half() -> None:
    assert 90 < Deadline(100).before(5).remaining() <= 95
    assert 1 < Deadline(4).before(5).remaining() <= 2
    assert Deadline(0).before(5).is_over


@pytest.mark.parametrize("hangs", ["asyncio.run(hang())", "threading.Thread(target=time.sleep, args=(600,)).start()"])
def test_process_ends_with_1_at_its_deadline_whatever_hangs(hangs: str) -> None:
    program = f"""
import asyncio, threading, time
from docfleet.stopping import Deadline, exit_by

async def hang():
    await asyncio.to_thread(time.sleep, 600)

exit_by(Deadline(0.2))
{hangs}
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_SECONDS, capture_output=True, check=False)
    assert (done.returncode, b"deadline" in done.stderr) == (1, True)


def test_process_that_ends_in_time_keeps_its_exit_code() -> None:
    program = "from docfleet.stopping import Deadline, exit_by; exit_by(Deadline(600)); raise SystemExit(7)"
    done = subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 7
