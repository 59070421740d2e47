"""Fixtures only: one local stack for the storms, started when the first asks for it."""

from collections.abc import Iterator

import pytest

from benchmarks.chaos import system
from benchmarks.chaos.system import System

#: Slow enough that workers have jobs in their hands whenever somebody kills them.
SETTINGS = {"DOCFLEET_SIMULATED_MODEL_SECONDS": "0.1"}


@pytest.fixture(scope="package")
def stormy_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system.running(tmp_path_factory.mktemp("chaos") / "data", settings=SETTINGS) as running:
        yield running
