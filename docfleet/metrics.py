"""The metric catalogue: every metric of every service, typed, in base units, with what each label may say.

No job id, API key, tenant or category is ever a label; a job's id goes along as an exemplar. `docs/metrics.md` is
generated from this file.
"""

import re
from typing import Final

from prometheus_client import REGISTRY, disable_created_metrics

from docfleet.metric_section import Metric, Open, Section
from docfleet.release import release
from schemas import events, topics
from schemas.errors import ERRORS, ErrorCode

_JOB_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

_TOPICS: Final = tuple(topic.name for topic in topics.TOPICS)
_TOPIC: Final = Open("name of one of our topics", re.compile("|".join(map(re.escape, _TOPICS))))
_PARTITION: Final = Open("its number", re.compile(r"\d{1,5}"))
_ROUTE: Final = Open("path of a route as it is declared", re.compile(r"/[a-z_./{}]*(\?wait)?|unmatched"))
_STATUS: Final = Open("HTTP status, or disconnected", re.compile(r"[1-5]\d\d|disconnected"))
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
#: What a job may end with: codes that only jobs have, and those that a worker finds as well as a request.
_JOB_CODES: Final = tuple(
    str(code)
    for code, kind in ERRORS.items()
    if kind.http_status is None
    or code in {ErrorCode.EMPTY_FILE, ErrorCode.UNSUPPORTED_FORMAT, ErrorCode.INVALID_REQUEST, ErrorCode.INTERNAL_ERROR}
)
_BATCHES: Final = ("look", "text", "names")
_EVENT_TYPES: Final = tuple(event.__name__ for event in events.EVENT_TYPES)

PRODUCER_API: Final = "producer_api"
CLASSIFIER_WORKER: Final = "classifier_worker"
STATUS_SERVICE: Final = "status_service"

_all = Section("Every service", (PRODUCER_API, CLASSIFIER_WORKER, STATUS_SERVICE))
BUILD_INFO: Final = _all.gauge(
    "docfleet_build_info",
    "1; says which service this is, and its version.",
    {
        "program": (PRODUCER_API, CLASSIFIER_WORKER, STATUS_SERVICE),
        "version": Open("version of docfleet", re.compile(r"[\w.+!-]+")),
    },
)

_http = Section("The HTTP services", (PRODUCER_API, STATUS_SERVICE))
HTTP_REQUESTS: Final = _http.counter(
    "docfleet_http_requests_total", "Requests answered.", {"route": _ROUTE, "method": _METHODS, "status": _STATUS}
)
HTTP_REQUEST_SECONDS: Final = _http.histogram(
    "docfleet_http_request_seconds",
    "Time from a request's headers to the end of its answer; lookups that ask to wait are a route of their own.",
    {"route": _ROUTE},
)

_publishing = Section("The services that publish events", (PRODUCER_API, CLASSIFIER_WORKER))
MESSAGES_PUBLISHED: Final = _publishing.counter(
    "docfleet_messages_published_total",
    "Messages that Kafka took (delivered), or did not within their time (failed).",
    {"topic": _TOPICS, "outcome": ("delivered", "failed")},
)
PUBLISH_SECONDS: Final = _publishing.histogram(
    "docfleet_publish_seconds", "Time from a message's sending to all in-sync replicas having it.", {"topic": _TOPICS}
)

_consuming = Section("The services that consume events", (CLASSIFIER_WORKER, STATUS_SERVICE))
REBALANCES: Final = _consuming.counter(
    "docfleet_rebalances_total", "Partitions given and taken.", {"kind": ("assigned", "revoked", "lost")}
)

_producer = Section("producer_api", (PRODUCER_API,))
UPLOAD_BYTES: Final = _producer.counter("docfleet_upload_bytes_total", "Document bytes taken in.")
JOBS_ACCEPTED: Final = _producer.counter(
    "docfleet_jobs_accepted_total", "Jobs made durable.", {"source": ("file", "url")}
)
JOBS_REFUSED: Final = _producer.counter(
    "docfleet_jobs_refused_total",
    "Posts refused.",
    {"error_code": tuple(str(code) for code, kind in ERRORS.items() if kind.http_status is not None)},
)
OUTBOX_DEPTH: Final = _producer.gauge(
    "docfleet_outbox_depth", "Jobs whose event is not in Kafka yet, those held back included."
)
JOBS_HELD_BACK: Final = _producer.gauge(
    "docfleet_jobs_held_back", "Jobs that wait in Postgres until their tenant has fewer in Kafka."
)
RELAYED: Final = _producer.counter(
    "docfleet_relayed_events_total",
    "Events that the relay or the sweeper published.",
    {"reason": ("unpublished", "sweep", "exhausted")},
)
REAPED: Final = _producer.counter(
    "docfleet_reaped_items_total",
    "Documents and rows deleted after their time, and orphaned documents.",
    {"kind": ("document", "job", "orphan")},
)
URL_FETCHES: Final = _producer.counter(
    "docfleet_url_fetches_total", "Fetches of file_url by outcome.", {"outcome": ("stored", "put off", "refused")}
)

_worker = Section("classifier_worker", (CLASSIFIER_WORKER,))
JOBS_IN_FLIGHT: Final = _worker.gauge("docfleet_jobs_in_flight", "Jobs that this worker holds.")
BYTES_IN_FLIGHT: Final = _worker.gauge("docfleet_bytes_in_flight", "Size of the documents that this worker holds.")
JOBS_FINISHED: Final = _worker.counter(
    "docfleet_jobs_finished_total",
    "Jobs ended by this worker; error_code is empty for those completed.",
    {"outcome": ("completed", "failed"), "error_code": ("", *_JOB_CODES)},
    first=[("completed", ""), *(("failed", code) for code in _JOB_CODES)],
)
JOBS_RETRIED: Final = _worker.counter(
    "docfleet_jobs_retried_total", "Jobs sent to the retry topic.", {"error_code": _JOB_CODES}
)
JOBS_DEAD_LETTERED: Final = _worker.counter(
    "docfleet_jobs_dead_lettered_total", "Messages sent to the dead letter topic.", {"error_code": _JOB_CODES}
)
INTAKE_FUSED: Final = _worker.gauge(
    "docfleet_intake_fused", "1 while intake stands still because most jobs end as dead letters."
)
JOB_SECONDS: Final = _worker.histogram(
    "docfleet_job_seconds",
    "Time from accepted to the terminal event; exemplars name jobs.",
    {"outcome": ("completed", "failed")},
    buckets=_JOB_SECONDS,
)
STAGE_SECONDS: Final = _worker.histogram(
    "docfleet_stage_seconds",
    "Time of one job in one stage, which add up to the job: in queues until a worker starts it, waiting for a"
    " reader, fetching bytes, reading without them and without OCR, OCR, waiting for the model after the last page was"
    " read, publishing the end; exemplars name jobs.",
    {"stage": ("queue", "reader_wait", "fetch", "read", "ocr", "classify", "publish")},
    buckets=_JOB_SECONDS,
)
PAGE_SECONDS: Final = _worker.histogram(
    "docfleet_page_seconds",
    "Time of one page at the model: being prepared, waiting for a batch, in the batch.",
    {"stage": ("prepare", "batch_wait", "model")},
)
PAGES_CLASSIFIED: Final = _worker.counter(
    "docfleet_pages_classified_total", "Pages by outcome.", {"outcome": ("classified", "unread")}
)
BATCH_PAGES: Final = _worker.histogram(
    "docfleet_batch_pages",
    "Parts in a model batch: pages' images (look), pieces of their text, names.",
    {"kind": _BATCHES},
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_FILL: Final = _worker.histogram(
    "docfleet_batch_fill_ratio",
    "Share of a model batch's rows that hold parts; the rest is padding.",
    {"kind": _BATCHES},
    buckets=(0.25, 0.5, 0.75, 0.9, 1.0),
)
BATCH_SECONDS: Final = _worker.histogram("docfleet_batch_seconds", "Time of a model batch.", {"kind": _BATCHES})
ENGINE_SECONDS: Final = _worker.counter(
    "docfleet_engine_seconds_total",
    "Time of the thread that owns the device: at work (busy), without a page although this worker holds jobs"
    " (starved), without any job (idle).",
    {"state": ("busy", "starved", "idle")},
)
MODEL_INFO: Final = _worker.gauge(
    "docfleet_model_info", "1; says which model is loaded.", {"model": Open("name@version", re.compile(r"[^@]+@.+"))}
)
MODEL_READY: Final = _worker.gauge("docfleet_model_ready", "1 when the model is loaded and warmed up.")
MODEL_LOAD_SECONDS: Final = _worker.gauge(
    "docfleet_model_load_seconds", "Time that the model took to be loaded and warmed up."
)
MODEL_LOAD_FAILURES: Final = _worker.counter(
    "docfleet_model_load_failures_total", "Failed tries to load the model or to warm it up."
)
READERS: Final = _worker.gauge(
    "docfleet_readers", "Reader processes that have a document, and places for more.", {"state": ("busy", "free")}
)
READER_DEATHS: Final = _worker.counter(
    "docfleet_reader_deaths_total",
    "Reader processes that ended before their time.",
    {"reason": ("deadline", "memory", "recycled", "crashed")},
)
OBJECT_BYTES_READ: Final = _worker.counter("docfleet_object_bytes_read_total", "Bytes fetched from the object store.")
CONSUMER_PAUSES: Final = _worker.counter("docfleet_consumer_pauses_total", "Times that intake was paused.")
CONSUMER_LAG: Final = _worker.gauge(
    "docfleet_consumer_lag", "Messages of a partition not read yet.", {"topic": _TOPIC, "partition": _PARTITION}
)
HEAD_STRETCH: Final = _worker.gauge(
    "docfleet_head_stretch_messages", "Most messages of one partition finished ahead of one that is not."
)
HEADS_BROKEN: Final = _worker.counter(
    "docfleet_heads_broken_total",
    "Jobs stopped because they held a partition or a record's lock for too long.",
    {"how": ("stopped", "taken_over")},
)
SHARE_RECORDS: Final = _worker.counter(
    "docfleet_share_records_total",
    "Records of the share group that did not just start and end.",
    {"what": ("carried_over", "lock_lost", "released", "not_acknowledged")},
)

_status = Section("status_service", (STATUS_SERVICE,))
JOBS: Final = _status.gauge(
    "docfleet_jobs",
    "Jobs that have not ended, by state; those that have are counted by docfleet_jobs_finished_total.",
    {"state": ("queued", "processing")},
)
OLDEST_UNFINISHED: Final = _status.gauge(
    "docfleet_oldest_unfinished_job_seconds",
    "Age of the oldest job that has not ended; 0 when there is none.",
    is_late=True,
)
JOBS_COUNTED_AT: Final = _status.gauge(
    "docfleet_jobs_counted_timestamp_seconds",
    "When the two above were last counted, in seconds since the epoch.",
    is_late=True,
)
EVENTS_PROJECTED: Final = _status.counter(
    "docfleet_events_projected_total", "Events written into the table of jobs.", {"type": _EVENT_TYPES}
)
EVENTS_UNDECODABLE: Final = _status.counter(
    "docfleet_events_undecodable_total", "Messages that are no event.", {"topic": _TOPICS}
)
PROJECTOR_LAG: Final = _status.gauge(
    "docfleet_projector_lag", "Messages of a partition not projected yet.", {"topic": _TOPIC, "partition": _PARTITION}
)
PROJECTION_SECONDS: Final = _status.histogram("docfleet_projection_seconds", "Time of one transaction.")
WAITERS: Final = _status.gauge("docfleet_waiters", "Requests that wait for a job to change.")

#: All sections, in the order of the docs.
CATALOGUE: Final = (_all, _http, _publishing, _consuming, _producer, _worker, _status)


def expose(program: str) -> None:
    """Let this process's `/metrics` tell the metrics of the service `program`, and no others; once is enough."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each series, which nobody asks for
    entries = [entry for section in CATALOGUE if program in section.services for entry in section.entries]
    for entry in entries:
        if not entry.is_late:
            reveal(entry.metric)
        for labels in entry.first:
            entry.metric.labels(*labels)
    BUILD_INFO.labels(program, release()).set(1)


def reveal(metric: Metric) -> None:
    """Expose one metric from now on; once is enough."""
    if metric not in _exposed:
        _exposed.append(metric)
        REGISTRY.register(metric)


def exemplar(job_id: object, traceparent: str | None) -> dict[str, str]:
    """Return what leads from a bucket to one of its jobs: its id, and its W3C trace id where there is one."""
    found = {"job_id": str(job_id)}
    if traceparent and len(parts := traceparent.split("-")) > 1:
        found["trace_id"] = parts[1]
    return found


_exposed: Final[list[Metric]] = []
