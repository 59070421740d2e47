"""One worker from Kafka to result event, against a bare loop that reads and classifies the same documents.

    python -m benchmarks.fleet [--documents 60] [--rounds 2] [--corpus DIR] [--no-ocr]

The bare loop has no Kafka, no object store and no child processes: one process opens each document, reads its
first pages and asks the engine, one document after the other. The fleet is `python -m classifier_worker` as
it comes, on a real broker and a real GCS-protocol server; its time runs from the first message published to
the last result event seen. Both take turns on the same machine; OCR is most of a scan's cost, so without it
the fleet's own cost shows more. Aim: 0.9 x the bare loop's pages per second.
"""

import argparse
import csv
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.corpus import CORPUS
from classifier_worker.core.answer import Question
from classifier_worker.core.fusion import combine_pages, rank_scores
from classifier_worker.core.page import Page, UnreadPage
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.engine import Engine
from classifier_worker.reader.pages import open_document, read_pages
from classifier_worker.reader.wire import ReadRequest
from docfleet.stack import gcs_server, kafka_server
from schemas import events
from schemas.errors import DocfleetError
from schemas.topics import TOPICS
from tests.integration.worker import running
from tests.servers import Gcs, gcs_server_running, kafka_server_running

LEAST_RATIO = 0.9
MOST_SECONDS = 600.0
BUCKET = "benchmark"


class BareLoop:
    """Reads and classifies in this process, one document after the other."""

    def __init__(self, bundle: Bundle, names: tuple[str, ...], read: ReadRequest) -> None:
        self._bundle = bundle
        self._engine = Engine(bundle)
        self.names = names
        self._read = read
        self._engine.start()

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()

    def pages_of(self, document: bytes) -> int:
        """Classify a document and return how many of its pages were read; 0 when it cannot be."""
        pages: list[Page] = []

        def on_page(page: Page | UnreadPage) -> None:
            if isinstance(page, Page):
                pages.append(page)

        try:
            opened = open_document(io.BytesIO(document), len(document), self._read)
            read_pages(opened, self._read.max_pages, on_page)
        except DocfleetError:
            return 0
        opened.close()
        futures = [self._engine.submit(page, Question(self.names)) for page in pages]
        answers = [(page.number, future.result().probabilities) for page, future in zip(pages, futures, strict=True)]
        json.dumps(rank_scores(self.names, combine_pages(answers, self._bundle.page_weights)))
        return len(pages)


def documents_of(corpus: Path, count: int) -> tuple[list[bytes], tuple[str, ...]]:
    """Return `count` documents spread over the corpus, and all its labels."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    step = max(1, len(rows) // count)
    chosen = [(corpus / row["path"]).read_bytes() for row in rows[::step][:count]]
    return chosen, tuple(sorted({row["label"] for row in rows}))


def fleet_seconds(bench: running.Bench, documents: list[bytes], names: tuple[str, ...]) -> tuple[float, int]:
    """Return how long the worker took for all documents, and how many pages it read."""
    jobs = []
    for document in documents:
        job = running.request(size_bytes=len(document), categories=names)
        bench.store.put(job.object_name, document, media_type=job.media_type)
        jobs.append(job)
    began = time.monotonic()
    for job in jobs:
        bench.publish(job)
    waiting = {job.job_id for job in jobs}
    pages = 0
    while waiting:
        for event in bench.log.fresh():
            if not isinstance(event, events.ClassificationCompleted | events.ClassificationFailed):
                continue
            if event.job_id in waiting and isinstance(event, events.ClassificationCompleted):
                result = json.loads(event.result)
                pages += sum(page["success"] for page in result.get("page_results", [{"success": True}]))
            waiting.discard(event.job_id)
        if time.monotonic() - began > MOST_SECONDS:
            raise TimeoutError(f"{len(waiting)} of {len(jobs)} jobs have no end after {MOST_SECONDS:g} s")
    return time.monotonic() - began, pages


def measure(bench: running.Bench, bare: BareLoop, documents: list[bytes], options: argparse.Namespace) -> float:
    """Let both take turns, print the figures and return the ratio."""
    rates: dict[str, list[float]] = {"bare loop": [], "fleet": []}
    for number in range(options.rounds + 1):
        shown = documents if number else documents[: max(8, len(documents) // 6)]  # the first round warms up
        began = time.monotonic()
        bare_pages = sum(bare.pages_of(document) for document in shown)
        bare_seconds = time.monotonic() - began
        seconds, pages = fleet_seconds(bench, shown, bare.names)
        if pages != bare_pages:
            raise RuntimeError(f"the fleet read {pages} pages, the bare loop {bare_pages}")
        if number:
            rates["bare loop"].append(bare_pages / bare_seconds)
            rates["fleet"].append(pages / seconds)
    for name, values in rates.items():
        spread = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:10} median {statistics.median(values):6.2f} pages/s  ({spread})")
    return statistics.median(rates["fleet"]) / statistics.median(rates["bare loop"])


def main() -> int:
    """Run and print the ratio; return 0 when the aim is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--no-ocr", dest="ocr", action="store_false", help="read text layers only")
    options = parser.parse_args()
    documents, names = documents_of(options.corpus, options.documents)
    with (
        tempfile.TemporaryDirectory(prefix="docfleet-benchmark-") as scratch,
        kafka_server_running(Path(scratch) / "kafka") as kafka,
        gcs_server_running(Path(scratch) / "gcs") as endpoint,
    ):
        kafka_server.create_topics({"bootstrap.servers": kafka}, TOPICS)
        gcs_server.create_bucket(endpoint, BUCKET, within_seconds=10)
        with running.bench(kafka, Gcs(endpoint, BUCKET), is_frugal=False) as bench:
            bare = BareLoop(load_bundle("default"), names, ReadRequest(ocr=options.ocr))
            with running.worker(bench, Path(scratch) / "worker.log", ocr=str(options.ocr)):
                ratio = measure(bench, bare, documents, options)
            bare.close()
    print(f"fleet: {ratio:.2f} x the bare loop (at least {LEAST_RATIO})")
    return 0 if ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
