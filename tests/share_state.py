"""How far a share group has come in a partition, as the share coordinator has it durable.

KIP-932's ReadShareGroupState, which librdkafka does not have. (DescribeShareGroupOffsets is one write behind.)
"""

import socket
import struct
from typing import Final
from uuid import UUID

_READ_SHARE_GROUP_STATE: Final = 84
_NO_TAGS: Final = b"\x00"
_DONE: Final = {2, 4}  # acknowledged, archived


def done_below(bootstrap_servers: str, group: str, topic_id: UUID, partition: int) -> int | None:
    """Return the lowest offset that is not done; None before the group has a state. The broker is the coordinator."""
    place = _array(struct.pack(">ii", partition, 0) + _NO_TAGS)  # leader epoch 0: nobody led it before
    body = _text(group) + _array(topic_id.bytes + place + _NO_TAGS) + _NO_TAGS
    header = struct.pack(">hhih", _READ_SHARE_GROUP_STATE, 0, 1, -1) + _NO_TAGS
    host, port = bootstrap_servers.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        return _done_below(answer.read(size))


def _done_below(answer: bytes) -> int | None:
    at = 4 + 1 + 1 + 16 + 1 + 4  # correlation id, tags, one topic, its id, one partition, its number
    (error_code,) = struct.unpack_from(">h", answer, at)
    at += 2
    at += max(1, answer[at])  # the error's message: a compact text's length is one more than its bytes
    if error_code:
        return None
    _state_epoch, start_offset = struct.unpack_from(">iq", answer, at)
    at += 12
    count = answer[at] - 1
    batches = [struct.unpack_from(">qqbh", answer, at + 1 + number * 20) for number in range(count)]
    for first, last, state, _deliveries in sorted(batches):
        if state in _DONE and first <= start_offset:
            start_offset = max(start_offset, last + 1)
    return start_offset if start_offset >= 0 else None


def _text(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode()


def _array(*items: bytes) -> bytes:
    return bytes([len(items) + 1]) + b"".join(items)
