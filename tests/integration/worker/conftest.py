"""Fixtures of the worker's tests."""

from collections.abc import Iterator

import pytest

from tests.integration.worker import running
from tests.servers import Gcs


@pytest.fixture
def bench(kafka: str, topics: None, gcs: Gcs) -> Iterator[running.Bench]:
    with running.bench(kafka, gcs) as opened:
        yield opened
