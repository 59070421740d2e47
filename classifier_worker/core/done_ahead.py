"""What is finished ahead of the low-water mark, as the text that Kafka keeps beside a committed offset.

Jobs finish out of order, all the more since tenants take turns. Whoever gets the partition next begins at the
mark, and by this text leaves out what is done already. Only a saving: without it those jobs are done again.
The text is `1:` and, in base64, a bit for each offset from the mark on (confluent's parallel-consumer does likewise).
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Final

_VERSION: Final = "1:"
#: Kafka's `offset.metadata.max.bytes` is 4096 by default; base64 makes four bytes of three.
_OFFSETS_MAX: Final = 8 * 3000


def encode(mark: int, offsets: Iterable[int]) -> str:
    """Return the text for finished offsets above `mark`; those that lie too far ahead are left out."""
    bits = 0
    for offset in offsets:
        if 0 <= offset - mark < _OFFSETS_MAX:
            bits |= 1 << (offset - mark)
    if not bits:
        return ""
    return _VERSION + base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def decode(mark: int, text: str | None) -> frozenset[int]:
    """Return the finished offsets; none when the text is somebody else's."""
    if not text or not text.startswith(_VERSION):
        return frozenset()
    try:
        bits = int.from_bytes(base64.b64decode(text.removeprefix(_VERSION), validate=True), "little")
    except (binascii.Error, ValueError):
        return frozenset()
    return frozenset(mark + place for place in range(bits.bit_length()) if bits >> place & 1)
