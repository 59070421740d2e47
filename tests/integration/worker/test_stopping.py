"""Worker processes that stop, politely or not: no job is lost, and a polite stop keeps its deadline."""

from pathlib import Path

import pytest

from schemas import events
from tests import documents
from tests.integration.worker import running
from tests.waiting import eventually_sync

#: Nothing here is about answers: workers have no model to load, but for one that has to stop it.
QUICK = {"simulated_model_seconds": "0.02"}
#: Of a document that takes a worker minutes to draw, which its reader's time-out allows here.
SLOW = QUICK | {"document_seconds": "60", "stop_deadline_seconds": "6", "session_timeout_seconds": "3"}


def started(bench: running.Bench, job: events.ClassificationRequested) -> None:
    bench.log.until(job.job_id, events.ClassificationStarted)


@pytest.mark.parametrize("group_protocol", ["classic", "consumer", "share"])
def test_sigterm_in_mid_job_exits_0_within_its_deadline_and_another_worker_ends_the_job(
    bench: running.Bench, tmp_path: Path, group_protocol: str
) -> None:
    with running.worker(bench, tmp_path / "1.log", **SLOW, group_protocol=group_protocol) as one:
        slow = bench.post(documents.slow_pdf())
        started(bench, slow)
        one.terminate()
        eventually_sync(lambda: one.answer("/healthz/ready")[0] != 200)
        code, _ = one.wait(6 + 4)
        assert code == 0, one.log_path.read_text()[-3000:]
        ended = [e for e in bench.log.of(slow.job_id) if not isinstance(e, events.ClassificationStarted)]
        assert ended == [], "a job that was handed back is neither failed nor retried"
    with running.worker(bench, tmp_path / "2.log", **QUICK, document_seconds="2", group_protocol=group_protocol):
        assert bench.log.until(slow.job_id, events.ClassificationFailed).attempt == 1
    if group_protocol == "share":
        running.count_as_done(bench.kafka)


def test_sigterm_lets_a_started_job_finish(bench: running.Bench, tmp_path: Path) -> None:
    with running.worker(bench, tmp_path / "1.log", stop_deadline_seconds="20") as one:
        job = bench.post(documents.pdf(pages=4))
        started(bench, job)
        one.terminate()
        code, _ = one.wait(25)
        assert code == 0
        bench.log.until(job.job_id, events.ClassificationCompleted, within=5)
    with running.worker(bench, tmp_path / "2.log", **QUICK):
        marker = bench.post(documents.pdf(pages=1))
        bench.log.until(marker.job_id, events.ClassificationCompleted)
    begun = [e for e in bench.log.of(job.job_id) if isinstance(e, events.ClassificationStarted)]
    assert len(begun) == 1, "a finished job was committed before the worker left"


def test_job_of_a_killed_worker_is_ended_by_another_and_its_readers_die_with_it(
    bench: running.Bench, tmp_path: Path
) -> None:
    with running.worker(bench, tmp_path / "1.log", **SLOW) as one:
        slow = bench.post(documents.slow_pdf())
        started(bench, slow)
        one.kill()
    with running.worker(bench, tmp_path / "2.log", **(SLOW | {"document_seconds": "2"})):
        failed = bench.log.until(slow.job_id, events.ClassificationFailed)
        assert failed.attempt == 1, "a killed worker is no attempt"


def test_job_that_holds_its_partition_back_is_tried_again_and_ends_once(bench: running.Bench, tmp_path: Path) -> None:
    impatient = SLOW | {"head_seconds": "1", "max_attempts": "2", "retry_base_seconds": "0.1"}
    with running.worker(bench, tmp_path / "1.log", **impatient) as one:
        slow = bench.post(documents.slow_pdf())
        failed = bench.log.until(slow.job_id, events.ClassificationFailed)
        assert (failed.error_code, failed.attempt) == ("ATTEMPTS_EXHAUSTED", 2)
        assert "held others back" in failed.error
        # what other tests left in the topic is stopped, too
        assert one.metric('docfleet_heads_broken_total{how="stopped"}') >= 2
        quick = bench.post(documents.pdf(pages=1))
        bench.log.until(quick.job_id, events.ClassificationCompleted)
    ended = [e for e in bench.log.of(slow.job_id) if isinstance(e, events.ClassificationFailed)]
    assert len(ended) == 1


def test_wrong_settings_exit_2_with_every_fault(bench: running.Bench, tmp_path: Path) -> None:
    process = running.WorkerProcess({"DOCFLEET_READERS": "none"}, tmp_path / "log")
    code, _ = process.wait(60)
    assert code == 2
    told = (tmp_path / "log").read_text()
    assert "DOCFLEET_READERS" in told
    assert "KAFKA_BOOTSTRAP_SERVERS" in told
    assert "Traceback" not in told
