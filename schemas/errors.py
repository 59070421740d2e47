"""Every error a client or an event consumer can meet: code, HTTP status, whether a retry can help, the sentence.

This is the only table of codes. `docs/errors.md` is generated from it, the `error_code` of an
HTTP answer and of a failed job come from it, and the worker asks it whether to retry.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class ErrorCode(StrEnum):
    """The `error_code` of an HTTP answer or of a failed job."""

    # What a request got wrong
    INVALID_REQUEST = "INVALID_REQUEST"
    FILE_REQUIRED = "FILE_REQUIRED"
    FILE_AMBIGUOUS = "FILE_AMBIGUOUS"
    INVALID_CATEGORIES = "INVALID_CATEGORIES"
    INVALID_OPTION = "INVALID_OPTION"
    EMPTY_FILE = "EMPTY_FILE"
    REPEATED_FIELD = "REPEATED_FIELD"
    INVALID_WAIT = "INVALID_WAIT"
    INVALID_IDEMPOTENCY_KEY = "INVALID_IDEMPOTENCY_KEY"
    URL_NOT_ALLOWED = "URL_NOT_ALLOWED"
    UNAUTHORIZED = "UNAUTHORIZED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    UPLOAD_TIMEOUT = "UPLOAD_TIMEOUT"
    IDEMPOTENCY_IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    UNSUPPORTED_CONTENT_TYPE = "UNSUPPORTED_CONTENT_TYPE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    RATE_LIMITED = "RATE_LIMITED"
    # What a document or its address got wrong
    PASSWORD_REQUIRED = "PASSWORD_REQUIRED"
    UNREADABLE_DOCUMENT = "UNREADABLE_DOCUMENT"
    NO_PAGES = "NO_PAGES"
    DOCUMENT_TOO_COMPLEX = "DOCUMENT_TOO_COMPLEX"
    READER_CRASHED = "READER_CRASHED"
    OBJECT_MISSING = "OBJECT_MISSING"
    URL_UNREACHABLE = "URL_UNREACHABLE"
    URL_TOO_LARGE = "URL_TOO_LARGE"
    # What went wrong on our side
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    MODEL_FAILED = "MODEL_FAILED"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a code means wherever it is met.

    `http_status` is None for codes that only jobs have. `is_transient` says whether the same job
    may succeed when it is tried again without anybody changing anything.
    """

    http_status: int | None
    is_transient: bool
    sentence: str


_PERMANENT: Final = False
_TRANSIENT: Final = True

#: `sentence` is what a client reads when nothing more exact is known.
ERRORS: Final[dict[ErrorCode, ErrorKind]] = {
    ErrorCode.INVALID_REQUEST: ErrorKind(400, _PERMANENT, "The request could not be understood."),
    ErrorCode.FILE_REQUIRED: ErrorKind(400, _PERMANENT, "Either pdf_file or file_url must be provided"),
    ErrorCode.FILE_AMBIGUOUS: ErrorKind(400, _PERMANENT, "Provide either pdf_file or file_url, not both"),
    ErrorCode.INVALID_CATEGORIES: ErrorKind(
        400, _PERMANENT, "categories must be a JSON array of 1 to 500 unique names, each 1 to 200 characters."
    ),
    ErrorCode.INVALID_OPTION: ErrorKind(
        400,
        _PERMANENT,
        "none_of_these must be true, false or a number from 0 to 1; evidence must be true or false.",
    ),
    ErrorCode.EMPTY_FILE: ErrorKind(400, _PERMANENT, "The file is empty (0 bytes)."),
    ErrorCode.REPEATED_FIELD: ErrorKind(400, _PERMANENT, "A form field was sent more than once."),
    ErrorCode.INVALID_WAIT: ErrorKind(400, _PERMANENT, "wait must be a number of seconds from 0 to 60."),
    ErrorCode.INVALID_IDEMPOTENCY_KEY: ErrorKind(
        400, _PERMANENT, "Idempotency-Key must be 1 to 255 printable ASCII characters."
    ),
    ErrorCode.URL_NOT_ALLOWED: ErrorKind(400, _PERMANENT, "The file_url must not be fetched from this system."),
    ErrorCode.UNAUTHORIZED: ErrorKind(
        401, _PERMANENT, "A valid API key is needed, in the header api-key or as Authorization: Bearer."
    ),
    ErrorCode.QUOTA_EXCEEDED: ErrorKind(402, _PERMANENT, "Insufficient quota"),
    ErrorCode.JOB_NOT_FOUND: ErrorKind(404, _PERMANENT, "Job not found"),
    ErrorCode.NOT_FOUND: ErrorKind(404, _PERMANENT, "There is nothing at this path."),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(405, _PERMANENT, "This path does not answer that method."),
    ErrorCode.UPLOAD_TIMEOUT: ErrorKind(408, _PERMANENT, "The upload stalled or took too long."),
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: ErrorKind(
        409, _TRANSIENT, "The first request with this Idempotency-Key is still running; try again shortly."
    ),
    ErrorCode.FILE_TOO_LARGE: ErrorKind(413, _PERMANENT, "The file is larger than this system accepts."),
    ErrorCode.UNSUPPORTED_FORMAT: ErrorKind(
        415, _PERMANENT, "The file is none of PDF, JPG, PNG, GIF, WebP, BMP and TIFF."
    ),
    ErrorCode.UNSUPPORTED_CONTENT_TYPE: ErrorKind(
        415,
        _PERMANENT,
        "Send multipart/form-data, or application/x-www-form-urlencoded with file_url.",
    ),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorKind(
        422, _PERMANENT, "This Idempotency-Key was used before with another request."
    ),
    ErrorCode.RATE_LIMITED: ErrorKind(429, _TRANSIENT, "Too many requests for this API key."),
    ErrorCode.PASSWORD_REQUIRED: ErrorKind(None, _PERMANENT, "The document needs a password to be opened."),
    ErrorCode.UNREADABLE_DOCUMENT: ErrorKind(
        None, _PERMANENT, "The document could not be read: it is damaged or not what its first bytes promise."
    ),
    ErrorCode.NO_PAGES: ErrorKind(None, _PERMANENT, "The document has no pages."),
    ErrorCode.DOCUMENT_TOO_COMPLEX: ErrorKind(
        None, _PERMANENT, "Reading the document took more time or memory than allowed."
    ),
    ErrorCode.READER_CRASHED: ErrorKind(
        None, _PERMANENT, "The document made its reader process crash, more than once."
    ),
    ErrorCode.OBJECT_MISSING: ErrorKind(None, _PERMANENT, "The uploaded document is no longer in the object store."),
    ErrorCode.URL_UNREACHABLE: ErrorKind(None, _PERMANENT, "The file_url could not be fetched."),
    ErrorCode.URL_TOO_LARGE: ErrorKind(None, _PERMANENT, "The file at file_url is larger than this system accepts."),
    ErrorCode.STORAGE_UNAVAILABLE: ErrorKind(None, _TRANSIENT, "The object store did not answer."),
    ErrorCode.MODEL_FAILED: ErrorKind(None, _TRANSIENT, "The model could not classify the document."),
    ErrorCode.ATTEMPTS_EXHAUSTED: ErrorKind(
        None, _PERMANENT, "The job was tried as often as allowed and no attempt finished."
    ),
    ErrorCode.INTERNAL_ERROR: ErrorKind(500, _TRANSIENT, "Something unexpected went wrong here."),
    ErrorCode.SERVICE_UNAVAILABLE: ErrorKind(
        503, _TRANSIENT, "The request cannot be made durable or answered at the moment; try again."
    ),
}


class DocfleetError(Exception):
    """An error with its place in the table; the message says what was wrong and what is allowed."""

    def __init__(self, code: ErrorCode, sentence: str | None = None) -> None:
        self.code = code
        self.sentence = sentence or ERRORS[code].sentence
        super().__init__(f"{code}: {self.sentence}")

    @property
    def is_transient(self) -> bool:
        """Whether trying again can help."""
        return ERRORS[self.code].is_transient

    def __reduce__(self) -> tuple[type["DocfleetError"], tuple[ErrorCode, str]]:
        return type(self), (self.code, self.sentence)
