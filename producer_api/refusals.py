"""Refusals of a POST whose answer is more than a sentence: headers to send, an object as `detail`."""

import math

from docfleet.http import HttpError
from schemas.errors import ErrorCode


class ClientGone(Exception):
    """The client closed the connection in the middle of its request, so nobody hears an answer."""


def quota_exceeded(*, current: int, limit: int) -> HttpError:
    """Return the 402 in the form that the vendor's clients read."""
    quota_data = {"current": current, "limit": limit, "remaining": max(0, limit - current)}
    detail = {"message": "Insufficient quota", "status": "QUOTA_EXCEEDED", "quota_data": quota_data}
    return HttpError(ErrorCode.QUOTA_EXCEEDED, detail=detail)


def rate_limited(wait_seconds: float) -> HttpError:
    """Return the 429 with the whole seconds, at least 1, after which the next request passes."""
    return HttpError(ErrorCode.RATE_LIMITED, headers={"Retry-After": str(max(1, math.ceil(wait_seconds)))})


def still_running() -> HttpError:
    """Return the 409 for a second request while the first with its Idempotency-Key lives."""
    return HttpError(ErrorCode.IDEMPOTENCY_IN_PROGRESS, headers={"Retry-After": "1"})
