"""A row as the JSON of `GET /classify/{job_id}` (DESIGN: HTTP contract). Pure."""

import json
from datetime import datetime
from typing import Any

from schemas.codec import utc
from schemas.lifecycle import TERMINAL
from status_service.jobs import JobRow


def job_json(job: JobRow) -> str:
    """Return the job as JSON text; its `result` is the stored text as it is, key order and digits included."""
    head = _dumps({"job_id": str(job.job_id), "status": job.status, "progress": job.progress, "error": job.error})
    tail = _dumps(
        {
            "error_code": job.error_code,
            "created_at": utc(job.created_at),
            "started_at": _utc_or_none(job.started_at),
            "finished_at": _utc_or_none(job.finished_at),
        }
    )
    return f'{head[:-1]}, "result": {job.result or "null"}, {tail[1:]}'


def is_finished(job: JobRow) -> bool:
    """Whether the job will never change again."""
    return job.status in TERMINAL


def _utc_or_none(at: datetime | None) -> str | None:
    return None if at is None else utc(at)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
