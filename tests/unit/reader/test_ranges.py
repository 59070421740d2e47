"""A document that is fetched as it is read: right bytes, few requests, little more than was asked for."""

import os
import random
from pathlib import Path

import pytest

from classifier_worker.reader.ranges import BLOCK_BYTES, READ_AHEAD_BYTES_MAX, WHOLE_BYTES, FetchAborted, RangedFile


class Store:
    """A document, its sparse spool, and the ranges that were asked for."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.data = random.Random(size_bytes).randbytes(65_521) * (size_bytes // 65_521 + 1)
        self.data = self.data[:size_bytes]
        self.spool = os.open(folder / "spool", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.spool, size_bytes)
        self.ranges: list[tuple[int, int]] = []
        self.is_away = False

    def fetch(self, start: int, end: int) -> bool:
        if self.is_away:
            return False
        self.ranges.append((start, end))
        os.pwrite(self.spool, self.data[start:end], start)
        return True

    def open(self) -> RangedFile:
        return RangedFile(self.spool, len(self.data), self.fetch)

    @property
    def fetched_bytes(self) -> int:
        return sum(end - start for start, end in self.ranges)


def test_small_document_comes_in_one_request(tmp_path: Path) -> None:
    store = Store(tmp_path, WHOLE_BYTES)
    file = store.open()
    assert file.is_whole
    assert file.read() == store.data
    assert store.ranges == [(0, WHOLE_BYTES)]


def test_reads_anywhere_give_the_documents_bytes_and_no_byte_is_fetched_twice(tmp_path: Path) -> None:
    store = Store(tmp_path, 7 * WHOLE_BYTES + 12_345)
    file = store.open()
    chance = random.Random(7)
    for _ in range(300):
        start = chance.randrange(len(store.data) + 10)
        count = chance.choice([1, 20, 512, 5_000, 300_000])
        file.seek(start)
        assert file.read(count) == store.data[start : start + count]
    seen = bytearray(len(store.data))
    for start, end in store.ranges:
        assert end - start <= READ_AHEAD_BYTES_MAX
        assert not any(seen[start:end:BLOCK_BYTES])
        seen[start:end] = b"\x01" * (end - start)


def test_jumps_fetch_little_more_than_they_read(tmp_path: Path) -> None:
    store = Store(tmp_path, 24 * WHOLE_BYTES)
    file = store.open()
    for start in range(0, 20 * WHOLE_BYTES, 2 * WHOLE_BYTES):
        file.seek(start + 100)
        file.read(512)
    assert store.fetched_bytes == 10 * BLOCK_BYTES


def test_scan_from_front_to_back_needs_few_requests(tmp_path: Path) -> None:
    store = Store(tmp_path, 30 * WHOLE_BYTES)
    file = store.open()
    while file.read(4096):
        pass
    assert store.fetched_bytes == len(store.data)
    assert len(store.ranges) < 16


def test_failed_fetch_fails_this_and_every_later_read(tmp_path: Path) -> None:
    store = Store(tmp_path, 4 * WHOLE_BYTES)
    file = store.open()
    file.read(10)
    store.is_away = True
    file.seek(3 * WHOLE_BYTES)
    with pytest.raises(FetchAborted):
        file.read(10)
    assert file.is_aborted
    store.is_away = False
    with pytest.raises(FetchAborted):
        file.read(10)
