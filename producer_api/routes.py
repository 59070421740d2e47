"""HTTP in, admission, HTTP out: no SQL, no Kafka."""

from typing import Any, Final

from aiohttp import web

from docfleet import metrics
from docfleet.api_keys import ApiKeys
from docfleet.http import SPAN
from producer_api.admission import Admission
from producer_api.keys import idempotency_key_in
from producer_api.refusals import ClientGone
from producer_api.store import UNAVAILABLE
from producer_api.upload import UploadLimits, read_form
from schemas.errors import DocfleetError, ErrorCode

API_KEYS: Final = web.AppKey("api_keys", ApiKeys)
ADMISSION: Final = web.AppKey("admission", Admission)
LIMITS: Final = web.AppKey("limits", UploadLimits)

#: When a client should first ask for the result.
_RETRY_AFTER_SECONDS: Final = "1"
#: nginx's number for a client that closed the connection; nobody reads the answer.
_CLIENT_CLOSED_REQUEST: Final = 499

routes = web.RouteTableDef()


@routes.post("/classify")
async def classify(request: web.Request) -> web.Response:
    """Answer 202 when the job is durable."""
    try:
        body = await _accepted(request)
    except ClientGone:
        return web.Response(status=_CLIENT_CLOSED_REQUEST, reason="Client Closed Request")
    except DocfleetError as error:
        code = ErrorCode.SERVICE_UNAVAILABLE if error.code is ErrorCode.STORAGE_UNAVAILABLE else error.code
        metrics.JOBS_REFUSED.labels(code).inc()
        if code is error.code:
            raise
        raise DocfleetError(code) from error
    except UNAVAILABLE as error:
        metrics.JOBS_REFUSED.labels(ErrorCode.SERVICE_UNAVAILABLE).inc()
        raise DocfleetError(ErrorCode.SERVICE_UNAVAILABLE) from error
    request[SPAN].set({"docfleet.job_id": body["job_id"]})
    headers = {"Location": f"/classify/{body['job_id']}", "Retry-After": _RETRY_AFTER_SECONDS}
    return web.json_response(body, status=202, headers=headers)


async def _accepted(request: web.Request) -> dict[str, Any]:
    admission = request.app[ADMISSION]
    key = await request.app[API_KEYS].of(request.headers)
    await admission.check_rate(key)
    return await admission.accept(
        key,
        lambda writer: read_form(request, writer, request.app[LIMITS]),
        idempotency_key=idempotency_key_in(request.headers.getall("Idempotency-Key", [])),
    )
