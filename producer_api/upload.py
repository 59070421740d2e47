"""The body of a POST to a checked form: multipart streamed, fields in any order, or urlencoded.

Everything is counted here, since aiohttp's own limits do not hold for a body read in a stream.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, ClientPayloadError, MultipartReader, hdrs, http_exceptions, web

from producer_api.addresses import Allowed, check_url
from producer_api.categories import parse_categories
from producer_api.document import Document, DocumentWriter
from producer_api.options import OPTIONS, Options, parse_evidence, parse_none_of_these
from producer_api.refusals import ClientGone
from schemas.errors import DocfleetError, ErrorCode

Answer = TypeVar("Answer")

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"

#: The fields that are read as text.
_TEXT_FIELDS: Final = frozenset({"categories", "file_url", *OPTIONS})
_CHUNK_BYTES: Final = 256 * 1024
_MAX_PARTS: Final = 1000
#: Of a text field that is known; categories with descriptions are the longest.
_MAX_FIELD_BYTES: Final = 2 * 1024 * 1024
#: Of all fields but the file together.
_MAX_OTHER_BYTES: Final = 16 * 1024 * 1024
_HARMLESS_TRANSFER_ENCODINGS: Final = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How long a body may take and which URLs may be named in it."""

    max_bytes: int
    idle_seconds: float
    total_seconds: float
    allowed: Allowed


@dataclass(frozen=True, slots=True)
class Form:
    """What a client asks for: exactly one of `document` and `file_url` is given."""

    categories: tuple[str, ...]
    document: Document | None
    file_url: str | None
    options: Options


@dataclass(slots=True)
class _Fields:
    """The known fields as they come in."""

    categories: tuple[str, ...] | None = None
    file_url: str | None = None
    document: Document | None = None
    none_of_these: float | None = None
    evidence: bool = False
    seen: set[str] = field(default_factory=set)

    def see(self, name: str) -> None:
        if name in self.seen:
            raise DocfleetError(ErrorCode.REPEATED_FIELD, f"The form field {name} was sent more than once.")
        self.seen.add(name)

    def take_text(self, name: str, text: str, allowed: Allowed) -> None:
        if name == "categories":
            self.categories = parse_categories(text)
        elif name == "none_of_these":
            self.none_of_these = parse_none_of_these(text)
        elif name == "evidence":
            self.evidence = parse_evidence(text)
        elif text.strip():
            self.file_url = check_url(text.strip(), allowed).geturl()
            self.refuse_both()

    def refuse_both(self) -> None:
        if self.file_url is not None and self.document is not None:
            raise DocfleetError(ErrorCode.FILE_AMBIGUOUS)

    def form(self) -> Form:
        if self.file_url is None and self.document is None:
            raise DocfleetError(ErrorCode.FILE_REQUIRED)
        categories = self.categories if self.categories is not None else parse_categories(None)
        options = Options(self.none_of_these, self.evidence)
        options.refuse_ambiguous(categories)
        return Form(categories, self.document, self.file_url, options)


async def read_form(request: web.Request, writer: DocumentWriter, limits: UploadLimits) -> Form:
    """Return the checked form; the document's bytes have gone into `writer`, which has ended.

    Raises:
        DocfleetError: with the code of the first fault.
        ClientGone: the client disconnected.

    """
    _refuse_unreadable(request, limits)
    try:
        async with asyncio.timeout(limits.total_seconds):
            if request.content_type == URLENCODED:
                return await _read_urlencoded(request, limits)
            return await _read_multipart(request, writer, limits)
    except TimeoutError as error:
        raise DocfleetError(ErrorCode.UPLOAD_TIMEOUT) from error
    except (ConnectionError, ClientPayloadError, web.RequestPayloadError) as error:
        raise ClientGone from error


def _refuse_unreadable(request: web.Request, limits: UploadLimits) -> None:
    if request.content_type not in (MULTIPART, URLENCODED):
        raise DocfleetError(ErrorCode.UNSUPPORTED_CONTENT_TYPE)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise DocfleetError(ErrorCode.UNSUPPORTED_CONTENT_TYPE, "Send the body without Content-Encoding.")
    if (request.content_length or 0) > limits.max_bytes + _MAX_OTHER_BYTES:
        raise DocfleetError(
            ErrorCode.FILE_TOO_LARGE, f"The file is larger than {limits.max_bytes} bytes, the most that is accepted."
        )


class _Parts(MultipartReader):
    """A form's fields as they come: `_charset_` is a field like any other.

    Where it comes first, aiohttp would read it itself, in pieces that are shorter than a browser's boundary, which
    fails.
    """

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        # only a first part that aiohttp has not noted as its last one is taken for `_charset_`
        self._last_part = await super().fetch_next_part()
        return self._last_part


async def _read_multipart(request: web.Request, writer: DocumentWriter, limits: UploadLimits) -> Form:
    fields = _Fields()
    other_bytes = 0
    try:
        reader = _Parts(request.headers, request.content)
        for _ in range(_MAX_PARTS):
            part = await _in_time(reader.next(), limits)
            if part is None:
                return fields.form()
            if isinstance(part, MultipartReader):
                raise DocfleetError(ErrorCode.INVALID_REQUEST, "A form field may not be multipart itself.")
            name = part.name or ""
            _refuse_encoded(part, name)
            if name == "pdf_file":
                fields.see(name)
                await _read_file(part, fields, writer, limits)
            else:
                is_known = name in _TEXT_FIELDS
                if is_known:
                    fields.see(name)
                body, size_bytes = await _read_field(part, name, keep=is_known, limits=limits)
                other_bytes += size_bytes
                if other_bytes > _MAX_OTHER_BYTES:
                    raise _too_long("The fields besides pdf_file together", _MAX_OTHER_BYTES)
                if is_known:
                    fields.take_text(name, _text(body, name), limits.allowed)
    except (ValueError, RuntimeError, http_exceptions.BadHttpMessage) as error:
        raise DocfleetError(ErrorCode.INVALID_REQUEST, "The multipart body is malformed or ends too early.") from error
    raise DocfleetError(ErrorCode.INVALID_REQUEST, f"The form has more than {_MAX_PARTS} fields.")


async def _read_file(part: BodyPartReader, fields: _Fields, writer: DocumentWriter, limits: UploadLimits) -> None:
    has_name = bool(part.filename)
    is_empty = True
    while piece := await _in_time(_next_piece(part), limits):
        is_empty = False
        await writer.write(piece)
    if is_empty and not has_name:
        return  # a browser's form, or an SDK's, where no file was chosen
    fields.document = await writer.end()
    fields.refuse_both()


async def _next_piece(part: BodyPartReader) -> bytes:
    """Return the next bytes of a part, b"" only at its end."""
    while not part.at_eof():
        if piece := await part.read_chunk(_CHUNK_BYTES):
            return piece
    return b""


async def _read_field(part: BodyPartReader, name: str, *, keep: bool, limits: UploadLimits) -> tuple[bytes, int]:
    body = bytearray()
    size_bytes = 0
    while piece := await _in_time(_next_piece(part), limits):
        size_bytes += len(piece)
        if keep:
            body += piece
        limit = _MAX_FIELD_BYTES if keep else _MAX_OTHER_BYTES
        if size_bytes > limit:
            raise _too_long(f"The form field {name}", limit)
    return bytes(body), size_bytes


async def _read_urlencoded(request: web.Request, limits: UploadLimits) -> Form:
    body = bytearray()
    while piece := await _in_time(request.content.readany(), limits):
        body += piece
        if len(body) > _MAX_FIELD_BYTES:
            raise _too_long("The form", _MAX_FIELD_BYTES)
    fields = _Fields()
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_MAX_PARTS
        )
    except ValueError as error:
        raise DocfleetError(ErrorCode.INVALID_REQUEST, "The urlencoded form is malformed.") from error
    for name, text in pairs:
        if name in _TEXT_FIELDS:
            fields.see(name)
            fields.take_text(name, text, limits.allowed)
        elif name == "pdf_file" and text:
            raise DocfleetError(ErrorCode.UNSUPPORTED_CONTENT_TYPE, "Send pdf_file as multipart/form-data.")
    return fields.form()


def _refuse_encoded(part: BodyPartReader, name: str) -> None:
    transfer = part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING, "").lower()
    if transfer not in _HARMLESS_TRANSFER_ENCODINGS or hdrs.CONTENT_ENCODING in part.headers:
        raise DocfleetError(ErrorCode.INVALID_REQUEST, f"Send the form field {name} without an encoding.")


def _text(body: bytes, name: str) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocfleetError(ErrorCode.INVALID_REQUEST, f"The form field {name} is no UTF-8.") from error


def _too_long(what: str, limit_bytes: int) -> DocfleetError:
    return DocfleetError(ErrorCode.FILE_TOO_LARGE, f"{what} may have at most {limit_bytes} bytes.")


async def _in_time(step: Awaitable[Answer], limits: UploadLimits) -> Answer:
    async with asyncio.timeout(limits.idle_seconds):
        return await step
