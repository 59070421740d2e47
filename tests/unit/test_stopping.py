"""Background loops end when they are told to, whatever a cancellation meets."""

import asyncio

from docfleet.stopping import end_tasks


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
