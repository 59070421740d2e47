"""The metric catalogue: every metric of every service, typed, in base units, with bounded labels.

No job id, API key or category is ever a label. `docs/metrics.md` is generated from this file.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOB_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

# The HTTP services
HTTP_REQUESTS: Final = Counter(
    "docfleet_http_requests_total", "Requests answered.", ("service", "route", "method", "status")
)
HTTP_REQUEST_SECONDS: Final = Histogram(
    "docfleet_http_request_seconds",
    "Time from a request's headers to the end of its answer.",
    ("service", "route"),
    buckets=_SECONDS,
)
UPLOAD_BYTES: Final = Counter("docfleet_upload_bytes_total", "Document bytes taken in.")

# producer_api
JOBS_ACCEPTED: Final = Counter("docfleet_jobs_accepted_total", "Jobs made durable.", ("source",))
JOBS_REFUSED: Final = Counter("docfleet_jobs_refused_total", "Posts refused.", ("error_code",))
OUTBOX_DEPTH: Final = Gauge("docfleet_outbox_depth", "Jobs whose event is not in Kafka yet.")
JOBS_HELD_BACK: Final = Gauge(
    "docfleet_jobs_held_back", "Jobs that wait in Postgres until their tenant has fewer in Kafka."
)
RELAYED: Final = Counter(
    "docfleet_relayed_events_total", "Events that the relay or the sweeper published.", ("reason",)
)
REAPED: Final = Counter(
    "docfleet_reaped_items_total", "Documents and rows deleted after their time, and orphaned documents.", ("kind",)
)
URL_FETCHES: Final = Counter("docfleet_url_fetches_total", "Fetches of file_url by outcome.", ("outcome",))

# classifier_worker
JOBS_IN_FLIGHT: Final = Gauge("docfleet_jobs_in_flight", "Jobs that this worker holds.")
BYTES_IN_FLIGHT: Final = Gauge("docfleet_bytes_in_flight", "Size of the documents that this worker holds.")
JOBS_FINISHED: Final = Counter("docfleet_jobs_finished_total", "Jobs ended by this worker.", ("outcome", "error_code"))
JOBS_RETRIED: Final = Counter("docfleet_jobs_retried_total", "Jobs sent to the retry topic.", ("error_code",))
JOBS_DEAD_LETTERED: Final = Counter(
    "docfleet_jobs_dead_lettered_total", "Messages sent to the dead letter topic.", ("error_code",)
)
JOB_SECONDS: Final = Histogram(
    "docfleet_job_seconds", "Time from accepted to the terminal event.", ("outcome",), buckets=_JOB_SECONDS
)
STAGE_SECONDS: Final = Histogram(
    "docfleet_stage_seconds", "Time of one job in one stage.", ("stage",), buckets=_SECONDS
)
PAGES_CLASSIFIED: Final = Counter("docfleet_pages_classified_total", "Pages by outcome.", ("outcome",))
BATCH_PAGES: Final = Histogram(
    "docfleet_batch_pages", "Pages in a model batch.", ("kind",), buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
BATCH_SECONDS: Final = Histogram("docfleet_batch_seconds", "Time of a model batch.", ("kind",), buckets=_SECONDS)
OBJECT_BYTES_READ: Final = Counter("docfleet_object_bytes_read_total", "Bytes fetched from the object store.")
READER_DEATHS: Final = Counter(
    "docfleet_reader_deaths_total", "Reader processes that ended before their time.", ("reason",)
)
CONSUMER_PAUSES: Final = Counter("docfleet_consumer_pauses_total", "Times that intake was paused.")
REBALANCES: Final = Counter("docfleet_rebalances_total", "Partitions given and taken.", ("kind",))
HEAD_STRETCH: Final = Gauge(
    "docfleet_head_stretch_messages", "Most messages of one partition finished ahead of one that is not."
)
HEADS_BROKEN: Final = Counter(
    "docfleet_heads_broken_total",
    "Jobs stopped because they held a partition or a record's lock for too long.",
    ("how",),
)
SHARE_RECORDS: Final = Counter(
    "docfleet_share_records_total", "Records of the share group that did not just start and end.", ("what",)
)
CONSUMER_LAG: Final = Gauge("docfleet_consumer_lag", "Messages of a partition not read yet.", ("topic", "partition"))

# status_service
EVENTS_PROJECTED: Final = Counter(
    "docfleet_events_projected_total", "Events written into the table of jobs.", ("type",)
)
EVENTS_UNDECODABLE: Final = Counter("docfleet_events_undecodable_total", "Messages that are no event.", ("topic",))
PROJECTOR_LAG: Final = Gauge(
    "docfleet_projector_lag", "Messages of a partition not projected yet.", ("topic", "partition")
)
PROJECTION_SECONDS: Final = Histogram("docfleet_projection_seconds", "Time of one transaction.", buckets=_SECONDS)
WAITERS: Final = Gauge("docfleet_waiters", "Requests that wait for a job to change.")


def name_of(metric: MetricWrapperBase) -> str:
    """Return the name under which a metric is exposed; a histogram's samples add `_bucket`, `_sum` and `_count`."""
    (family,) = metric.describe()
    return family.name + ("_total" if family.type == "counter" else "")
