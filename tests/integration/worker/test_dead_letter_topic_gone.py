"""A worker whose dead letter topic is gone: on a broker of its own, since every other test needs that topic."""

from pathlib import Path

from docfleet.stack import kafka_server
from schemas import events, topics
from tests import documents
from tests.integration.worker import running
from tests.servers import Gcs, kafka_server_running


def test_dead_letter_topic_that_is_gone_delays_what_belongs_there_and_nothing_else(tmp_path: Path, gcs: Gcs) -> None:
    with kafka_server_running(tmp_path) as kafka:
        client = {"bootstrap.servers": kafka}
        kafka_server.create_topics(client, [topic for topic in topics.TOPICS if topic is not topics.DLQ])
        with running.bench(kafka, gcs) as bench:
            bad = bench.publisher.forward(topics.JOBS, b"bad", b"{not avro}", []).result(20)
            with running.worker(bench, tmp_path / "worker.log", simulated_model_seconds="0") as worker:
                job = bench.post(documents.pdf(pages=1))
                bench.log.until(job.job_id, events.ClassificationCompleted)
                assert worker.metric("docfleet_jobs_dead_lettered_total") == 0
                assert running.committed(kafka, bad.partition) <= bad.offset
                kafka_server.create_topics(client, [topics.DLQ])
                log = running.EventLog(kafka, topics.DLQ.name)
                letter = log.dead_letter(lambda _message: True)
                log.close()
                assert letter.value() == b"{not avro}"
                worker.terminate()
                assert worker.wait(30)[0] == 0
            assert running.committed(kafka, bad.partition) > bad.offset
