"""The formats that are accepted, known by their first bytes and never by a name. Pure."""

from typing import Final

#: How many first bytes decide; a PDF's header may stand anywhere in the first 1024 (ISO 32000, annex H).
HEAD_BYTES: Final = 1024

_AT_START: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
)
#: "BM" alone also opens ordinary text, so the size of the header that follows must be one that exists.
_BMP_HEADER_BYTES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})


def media_type_of(head: bytes) -> str | None:
    """Return the media type of a file that begins with `head` (HEAD_BYTES or the whole file), None when unsupported."""
    for mark, media_type in _AT_START:
        if head.startswith(mark):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    return "application/pdf" if b"%PDF-" in head[:HEAD_BYTES] else None
