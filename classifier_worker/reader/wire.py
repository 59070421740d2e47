"""The language between a worker and its reader child: framed JSON headers with raw bytes behind them.

The child opens hostile files, so the parent believes nothing: there is no pickle, every length is
bounded before it is allocated, and `page_of` checks each field before it becomes a `Page`.

A frame is two unsigned 32-bit numbers in network order (bytes of header, bytes of payload), the
header as UTF-8 JSON with a `kind`, and the payload. Kinds from the parent: `read` (a read-only
descriptor of the spool travels with it), `ok`, `abort`. From the child: `ready`, `need` (a range of
the document), `opened`, `page` (its text is that of its lines; payload: the pixels, then six floats a
line: box, size, bold), `unread`, then one of `done`, `failed`, `aborted`.
"""

import json
import math
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Box, Line, Page, Structure, Table, UnreadPage

Header = dict[str, Any]

PREFIX: Final = struct.Struct("!II")
HEADER_BYTES_MAX: Final = 16 << 20

#: What one page may carry; the child cuts at these, the parent refuses beyond them.
TEXT_CHARS_MAX: Final = 200_000
LINES_MAX: Final = 3_000
BOXES_MAX: Final = 400
TABLES_MAX: Final = 50
FONTS_MAX: Final = 50
SENTENCE_CHARS_MAX: Final = 500
TOTAL_PAGES_MAX: Final = 10_000_000
POINTS_MAX: Final = 1e12
SECONDS_MAX: Final = 86_400.0
_LINE_NUMBERS: Final = 6
_LINE_BYTES: Final = 4 * _LINE_NUMBERS


class BrokenProtocol(Exception):
    """The other side sent something that a sane one never sends."""


class PeerGone(Exception):
    """The other side closed its socket or died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """What is wanted of a document: its first `max_pages` pages, each with an image of `image_px` on its long side.

    `structure_pages` is how many of them, from the first on, pdfplumber looks at; `ocr` allows OCR
    on pages whose text layer is missing, thin or garbage.
    """

    max_pages: int = 4
    image_px: int = 512
    structure_pages: int = 1
    ocr: bool = True


class Channel:
    """Frames over a stream socket; not for two threads at once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, header: Header, *payload: memoryview | bytes, descriptor: int | None = None) -> None:
        """Send one frame, its payload in parts and without a copy; `PeerGone` when nobody is there or nobody reads."""
        head = json.dumps(header, separators=(",", ":")).encode()
        start = PREFIX.pack(len(head), sum(map(len, payload))) + head
        try:
            if descriptor is None:
                self.sock.sendall(start)
            else:
                socket.send_fds(self.sock, [start], [descriptor])
            for part in payload:
                self.sock.sendall(part)
        except OSError as error:
            raise PeerGone(str(error)) from error

    def receive(self, payload_bytes_max: int, *, on_wait: Callable[[], None] | None = None) -> tuple[Header, bytearray]:
        """Return the next frame; `on_wait` is called before each wait (give the socket a timeout) and may raise."""
        return self.receive_rest(self._exactly(PREFIX.size, on_wait), payload_bytes_max, on_wait=on_wait)

    def receive_rest(
        self, prefix: bytes | bytearray, payload_bytes_max: int, *, on_wait: Callable[[], None] | None = None
    ) -> tuple[Header, bytearray]:
        """Return the frame whose prefix was read already."""
        head_bytes, payload_bytes = PREFIX.unpack(prefix)
        if head_bytes > HEADER_BYTES_MAX or payload_bytes > payload_bytes_max:
            raise BrokenProtocol(f"a frame of {head_bytes} + {payload_bytes} bytes")
        try:
            header = json.loads(self._exactly(head_bytes, on_wait))
        except (ValueError, RecursionError) as error:
            raise BrokenProtocol(f"a header that is not JSON: {error}") from error
        if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
            raise BrokenProtocol("a header without a kind")
        return header, self._exactly(payload_bytes, on_wait)

    def _exactly(self, count: int, on_wait: Callable[[], None] | None) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            if on_wait is not None:
                on_wait()
            try:
                got = self.sock.recv_into(view)
            except TimeoutError:
                continue
            except OSError as error:
                raise PeerGone(str(error)) from error
            if got == 0:
                raise PeerGone("the socket was closed")
            view = view[got:]
        return data


def send_page(channel: Channel, page: Page) -> None:
    """Send a page, its pixels and the numbers of its lines as raw bytes (JSON would cost a tenth of the time)."""
    structure = page.structure
    header = {
        "kind": "page",
        "number": page.number,
        "width_points": page.width_points,
        "height_points": page.height_points,
        "text_source": page.text_source,
        "legibility": page.legibility,
        "ocr_seconds": page.ocr_seconds,
        "lines": [line.text for line in page.lines],
        "structure": None
        if structure is None
        else {
            "rules": [_corners(box) for box in structure.rules],
            "rects": [_corners(box) for box in structure.rects],
            "images": [_corners(box) for box in structure.images],
            "tables": [[*_corners(table.box), table.rows, table.columns] for table in structure.tables],
            "fonts": structure.fonts,
        },
        "shape": page.image.shape,
    }
    numbers = np.array([(*_corners(line.box), line.size, line.is_bold) for line in page.lines], np.float32)
    channel.send(header, page.image.reshape(-1).data, numbers.tobytes())


def page_payload_bytes_max(image_px: int) -> int:
    """Return how many bytes the pixels and lines of one page may have."""
    return image_px * image_px * 3 + LINES_MAX * _LINE_BYTES


def _corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def page_of(header: Header, payload: bytearray, image_px: int) -> Page:
    """Return the page in a frame, each field checked; the image is a view of the payload, not a copy."""
    try:
        return _page_of(header, payload, image_px)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenProtocol(f"a page that is none: {error!r}") from error


def _page_of(header: Header, payload: bytearray, image_px: int) -> Page:
    height_px, width_px, channels = (_whole(value, image_px) for value in header["shape"])
    texts = _rows(header["lines"], LINES_MAX)
    pixel_bytes = height_px * width_px * channels
    if channels != 3 or len(payload) != pixel_bytes + len(texts) * _LINE_BYTES:
        raise ValueError(f"{len(payload)} bytes for shape {header['shape']} and {len(texts)} lines")
    source = header["text_source"]
    if source not in ("layer", "ocr", "none"):
        raise ValueError(f"text source {source!r}")
    lines = _lines(texts, np.frombuffer(payload, np.float32, offset=pixel_bytes).reshape(-1, _LINE_NUMBERS))
    return Page(
        number=_whole(header["number"], TOTAL_PAGES_MAX),
        width_points=_number(header["width_points"], POINTS_MAX),
        height_points=_number(header["height_points"], POINTS_MAX),
        text="\n".join(line.text for line in lines)[:TEXT_CHARS_MAX],
        text_source=source,
        lines=lines,
        structure=None if header["structure"] is None else _structure(header["structure"]),
        image=np.frombuffer(payload, np.uint8, pixel_bytes).reshape(height_px, width_px, 3),
        legibility=_number(header["legibility"], 1.0),
        ocr_seconds=_number(header["ocr_seconds"], SECONDS_MAX),
    )


def sentence_of(value: Any) -> str:  # noqa: ANN401 - anything may come
    """Return a sentence for the client, checked; ValueError when it is none."""
    return _text(value, SENTENCE_CHARS_MAX)


def unread_of(header: Header) -> UnreadPage:
    """Return the unread page in a frame, checked."""
    try:
        return UnreadPage(number=_whole(header["number"], TOTAL_PAGES_MAX), error=sentence_of(header["error"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenProtocol(f"an unread page that is none: {error!r}") from error


def _lines(texts: list[Any], numbers: NDArray[np.float32]) -> tuple[Line, ...]:
    if not bool(np.all((numbers >= 0) & (numbers <= 1))):  # false for NaN too
        raise ValueError("a line's number is not in 0..1")
    return tuple(
        Line(_text(text, TEXT_CHARS_MAX), Box(left, top, right, bottom), size, is_bold > 0)
        for text, (left, top, right, bottom, size, is_bold) in zip(texts, numbers.tolist(), strict=True)
    )


def _structure(value: Header) -> Structure:
    return Structure(
        rules=tuple(_box(row) for row in _rows(value["rules"], BOXES_MAX)),
        rects=tuple(_box(row) for row in _rows(value["rects"], BOXES_MAX)),
        images=tuple(_box(row) for row in _rows(value["images"], BOXES_MAX)),
        tables=tuple(
            Table(box=_box(row[:4]), rows=_whole(row[4], 10_000), columns=_whole(row[5], 10_000))
            for row in _rows(value["tables"], TABLES_MAX)
        ),
        fonts=tuple(_text(name, 200) for name in _rows(value["fonts"], FONTS_MAX)),
    )


def _box(corners: list[Any]) -> Box:
    left, top, right, bottom = (_number(value, 1.0) for value in corners)
    return Box(left=left, top=top, right=right, bottom=bottom)


def _rows(value: Any, count_max: int) -> list[Any]:  # noqa: ANN401 - anything may come
    if not isinstance(value, list) or len(value) > count_max:
        raise ValueError(f"not a list of at most {count_max}")
    return value


def _number(value: Any, maximum: float) -> float:  # noqa: ANN401
    number = float(value)
    if not math.isfinite(number) or not 0 <= number <= maximum:
        raise ValueError(f"{number} is not in 0..{maximum}")
    return number


def _whole(value: Any, maximum: int) -> int:  # noqa: ANN401
    if type(value) is not int or not 0 < value <= maximum:
        raise ValueError(f"{value!r} is not in 1..{maximum}")
    return value


def _text(value: Any, chars_max: int) -> str:  # noqa: ANN401
    if not isinstance(value, str) or len(value) > chars_max:
        raise ValueError(f"not a text of at most {chars_max} characters")
    return value.encode(errors="replace").decode()  # half a surrogate pair can be in no event
