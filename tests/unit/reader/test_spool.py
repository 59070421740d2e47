"""The spool: what it opened is closed, also when there is no room for it."""

from pathlib import Path

import pytest

from classifier_worker.reader.reading import Spool


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_spool_that_cannot_be_made_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(OSError, match="Invalid argument"):
        Spool(-1, tmp_path)
    assert descriptors() == before
    assert not list(tmp_path.iterdir())


def test_spool_closes_what_it_opened(tmp_path: Path) -> None:
    before = descriptors()
    with Spool(10, tmp_path) as spool:
        assert {spool.descriptor, spool.for_child}
        assert descriptors() == before + 2
    assert descriptors() == before
