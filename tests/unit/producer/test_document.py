"""A document's hash, which says whether a post is the same as the first with its Idempotency-Key."""

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from producer_api.document import DocumentWriter, Storage
from tests.waiting import PATIENCE_SECONDS

LARGE = b"%PDF-1.7\n" + b"x" * 1_100_000


async def test_a_document_that_is_only_looked_at_is_hashed_in_order_however_busy_the_threads_are() -> None:
    may_go_on = threading.Event()
    no_store: Any = None
    with ThreadPoolExecutor(1) as threads:
        threads.submit(may_go_on.wait, PATIENCE_SECONDS)
        writer = DocumentWriter(Storage(no_store, threads, max_bytes=10_000_000, memory_bytes=100_000), None)
        await writer.write(LARGE)
        await writer.write(b"the rest")
        ending = asyncio.create_task(writer.end())
        await asyncio.sleep(0)
        may_go_on.set()
        assert (await ending).sha256 == hashlib.sha256(LARGE + b"the rest").digest()
