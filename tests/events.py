"""Events that are valid by default, one argument to make one thing different; seconds count from `EPOCH`."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import events

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RESULT = '{"success": true, "classification": "invoice", "scores": {"zebra": 0.6, "apple": 0.4}}'


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def _common(job_id: uuid.UUID | None, seconds: float, changed: dict[str, Any]) -> dict[str, Any]:
    return {
        "job_id": job_id or uuid.uuid4(),
        "tenant_id": "acme",
        "attempt": 1,
        "accepted_at": EPOCH,
        "occurred_at": at(seconds),
    } | changed


def requested(job_id: uuid.UUID | None = None, seconds: float = 0, **changed: Any) -> events.ClassificationRequested:
    values = _common(job_id, seconds, changed)
    mine: dict[str, Any] = {
        "object_name": f"jobs/{values['job_id']}/document",
        "media_type": "application/pdf",
        "size_bytes": 1234,
        "categories": ("invoice", "letter"),
    }
    return events.ClassificationRequested(**mine | values)


def started(job_id: uuid.UUID | None = None, seconds: float = 1, **changed: Any) -> events.ClassificationStarted:
    return events.ClassificationStarted(**_common(job_id, seconds, changed))


def progressed(job_id: uuid.UUID | None = None, seconds: float = 2, **changed: Any) -> events.ClassificationProgressed:
    return events.ClassificationProgressed(**{"progress": "Processing page 1 of 4"} | _common(job_id, seconds, changed))


def completed(job_id: uuid.UUID | None = None, seconds: float = 9, **changed: Any) -> events.ClassificationCompleted:
    return events.ClassificationCompleted(**{"result": RESULT} | _common(job_id, seconds, changed))


def failed(job_id: uuid.UUID | None = None, seconds: float = 9, **changed: Any) -> events.ClassificationFailed:
    values = {"error_code": "UNREADABLE_DOCUMENT", "error": "The document could not be read."}
    return events.ClassificationFailed(**values | _common(job_id, seconds, changed))


def cancelled(job_id: uuid.UUID | None = None, seconds: float = 9, **changed: Any) -> events.ClassificationCancelled:
    return events.ClassificationCancelled(**_common(job_id, seconds, changed))


def life(job_id: uuid.UUID | None = None) -> Sequence[events.Event]:
    """Everything that is said about a job that goes well."""
    job_id = job_id or uuid.uuid4()
    return [requested(job_id), started(job_id), progressed(job_id), completed(job_id)]
