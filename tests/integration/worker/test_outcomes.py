"""Jobs through one real worker process: what comes out for what goes in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import codec, events, topics
from schemas.errors import ErrorCode
from tests import documents
from tests.integration.worker import running
from tests.waiting import eventually_sync


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


def test_pdf_becomes_a_result_of_the_contracts_shape(bench: running.Bench, tmp_path: Path) -> None:
    with running.worker(bench, tmp_path / "worker.log"):
        job = bench.post(documents.pdf(pages=6))
        completed = bench.log.until(job.job_id, events.ClassificationCompleted)
        result = json.loads(completed.result)
        print(json.dumps(result, indent=1))
