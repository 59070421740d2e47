"""A worker without its object store: the attempts are used up, then the job fails and is among the dead letters."""

import dataclasses
from pathlib import Path

import pytest

from schemas import events
from schemas.errors import ErrorCode
from tests.integration.worker import running


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}, id="nobody-listens"),
        pytest.param({"DOCFLEET_BUCKET": "nobody-made-this"}, id="no-bucket"),
    ],
)
def test_store_that_stays_away_uses_up_the_attempts_then_dead_letters_and_fails(
    bench: running.Bench, tmp_path: Path, environment: dict[str, str]
) -> None:
    away = dataclasses.replace(bench, environment=bench.environment | environment)
    job = running.request(size_bytes=1000)
    bench.publish(job)
    quick = {"max_attempts": "2", "retry_base_seconds": "0.2", "object_timeout_seconds": "1"}
    quick |= {"simulated_model_seconds": "0"}  # no document ever comes as far as the model
    with running.worker(away, tmp_path / "worker.log", **quick):
        failed = bench.log.until(job.job_id, events.ClassificationFailed)
    assert failed.error_code == ErrorCode.ATTEMPTS_EXHAUSTED
    assert "2 times" in failed.error
    assert failed.attempt == 2
    retried = [e for e in bench.log.of(job.job_id) if isinstance(e, events.ClassificationRequested)]
    assert [e.attempt for e in retried] == [2, 2], "once in the retry topic, once in the dead letters"
