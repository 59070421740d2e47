"""The topics: what each carries, who writes it, who reads it, how long it keeps.

The local stack, the Kubernetes manifests and the documents derive from this catalogue. Every
message is keyed by its job_id, so that one job's messages stay in order and no tenant pins a
partition.
"""

from dataclasses import dataclass
from typing import Final

from schemas import events

_DAY_MS: Final = 24 * 60 * 60 * 1000

#: A header of docfleet.jobs.retry: RFC 3339 time before which the message must not be worked on.
NOT_BEFORE_HEADER: Final = "docfleet_not_before"

#: Headers of docfleet.jobs.dlq: where the message came from and why it is there.
DLQ_ERROR_CODE_HEADER: Final = "docfleet_error_code"
DLQ_ERROR_HEADER: Final = "docfleet_error"
DLQ_TOPIC_HEADER: Final = "docfleet_original_topic"
DLQ_PARTITION_HEADER: Final = "docfleet_original_partition"
DLQ_OFFSET_HEADER: Final = "docfleet_original_offset"

#: Largest message that topics and producers take: 500 long category names in five lists of scores are 2 MiB.
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024

#: Consumer groups.
WORKER_GROUP: Final = "docfleet.classifier-worker"
WORKER_SHARE_GROUP: Final = "docfleet.classifier-worker.share"  # of DOCFLEET_GROUP_PROTOCOL=share
STATUS_GROUP: Final = "docfleet.status-service"
#: Has no members: its offsets say how far people have worked the dead letters off.
DLQ_REVIEW_GROUP: Final = "docfleet.dlq-review"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; `retention_ms` of -1 keeps for ever."""

    name: str
    purpose: str
    event_types: tuple[type[events.Event], ...]
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    retention_ms: int
    partitions: int = 12

    @property
    def config(self) -> dict[str, str]:
        """The topic's own settings, as a broker takes them."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
        }


JOBS: Final = Topic(
    "docfleet.jobs",
    "Jobs that wait for a worker.",
    (events.ClassificationRequested,),
    ("producer_api",),
    ("classifier_worker", "status_service"),  # the latter to rebuild lost rows of queued jobs
    7 * _DAY_MS,
)
EVENTS: Final = Topic(
    "docfleet.events",
    "What became of each job; downstream consumers read this one.",
    (
        events.ClassificationStarted,
        events.ClassificationCompleted,
        events.ClassificationFailed,
        events.ClassificationCancelled,
    ),
    ("classifier_worker", "producer_api"),
    ("status_service", "downstream consumers"),
    30 * _DAY_MS,
)
PROGRESS: Final = Topic(
    "docfleet.progress",
    "Signs of life of running jobs; nobody is harmed by losing one.",
    (events.ClassificationProgressed,),
    ("classifier_worker",),
    ("status_service",),
    _DAY_MS // 24,
)
RETRY: Final = Topic(
    "docfleet.jobs.retry",
    "Jobs that failed for a passing reason and wait for their time.",
    (events.ClassificationRequested,),
    ("classifier_worker",),
    ("classifier_worker",),
    7 * _DAY_MS,
    # few: cooperative-sticky levels the sum of a group's partitions, and two workers with as many of each topic may end
    # up with all jobs here and all retries there
    partitions=3,
)
DLQ: Final = Topic(
    "docfleet.jobs.dlq",
    "Jobs given up, and messages that could not be understood, kept for a person to look at.",
    (events.ClassificationRequested,),
    ("classifier_worker",),
    ("people",),
    30 * _DAY_MS,
    partitions=3,
)

TOPICS: Final = (JOBS, EVENTS, PROGRESS, RETRY, DLQ)
