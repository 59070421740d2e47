"""What a reader child may say, and what its parent refuses to believe."""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from classifier_worker.core.page import Box, Line, Page, Structure, Table
from classifier_worker.reader import wire

PAGE = Page(
    number=2,
    width_points=595.0,
    height_points=842.0,
    text="Título\nbody",
    text_source="layer",
    lines=(
        Line("Título", Box(0.125, 0.25, 0.5, 0.375), 0.0625, is_bold=True),
        Line("body", Box(0.125, 0.5, 0.75, 0.625), 0.03125),
    ),
    structure=Structure(
        rules=(Box(0.0, 0.5, 1.0, 0.5),),
        tables=(Table(box=Box(0.1, 0.1, 0.2, 0.2), rows=3, columns=4),),
        fonts=("Helvetica",),
    ),
    image=np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3),
)


@pytest.fixture
def pair() -> Iterator[tuple[wire.Channel, wire.Channel]]:
    left, right = socket.socketpair()
    with left, right:
        yield wire.Channel(left), wire.Channel(right)


def frame(pair: tuple[wire.Channel, wire.Channel], page: Page = PAGE) -> tuple[dict[str, Any], bytearray]:
    wire.send_page(pair[0], page)
    return pair[1].receive(10_000)


def test_page_arrives_as_it_was_sent(pair: tuple[wire.Channel, wire.Channel]) -> None:
    arrived = wire.page_of(*frame(pair), 7)
    assert np.array_equal(arrived.image, PAGE.image)
    for name in ("number", "width_points", "height_points", "text", "text_source", "lines", "structure"):
        assert getattr(arrived, name) == getattr(PAGE, name), name


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [5, 7, 4]},
        {"shape": [5, 8, 3]},
        {"shape": [500_000, 7, 3]},
        {"shape": [-5, -7, 3]},
        {"number": 0},
        {"number": "2"},
        {"text_source": "rumour"},
        {"lines": ["only one"]},
        {"lines": [1, 2]},
        {"width_points": 1e300},
        {"width_points": "NaN"},
        {"structure": {"rules": [[0, 0, 2, 2]], "rects": [], "images": [], "tables": [], "fonts": []}},
        {"structure": {"rules": [[0, 0, 0, 0]] * 401, "rects": [], "images": [], "tables": [], "fonts": []}},
        {"structure": []},
    ],
    ids=str,
)
def test_page_with_one_lie_is_refused(pair: tuple[wire.Channel, wire.Channel], lie: dict[str, Any]) -> None:
    header, payload = frame(pair)
    with pytest.raises(wire.BrokenProtocol):
        wire.page_of(header | lie, payload, 7)


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert wire.sentence_of("a\ud800b") == "a?b"
    assert wire.unread_of({"kind": "unread", "number": 1, "error": "\udfff"}).error == "?"


def test_line_beyond_the_page_or_without_a_number_is_refused(pair: tuple[wire.Channel, wire.Channel]) -> None:
    header, payload = frame(pair)
    for wrong in (1.5, -0.1, float("nan"), float("inf")):
        spoiled = payload[:-4] + struct.pack("=f", wrong)
        with pytest.raises(wire.BrokenProtocol):
            wire.page_of(header, spoiled, 7)


@pytest.mark.parametrize(
    "data",
    [
        wire.PREFIX.pack(wire.HEADER_BYTES_MAX + 1, 0),
        wire.PREFIX.pack(10, 10_001),
        wire.PREFIX.pack(4, 0) + b"\xff\xfe{}",
        wire.PREFIX.pack(4, 0) + b"[{}]",
        wire.PREFIX.pack(10, 0) + b'{"kind":1}',
        wire.PREFIX.pack(100_000, 0) + b"[" * 100_000,
    ],
    ids=["long header", "long payload", "no UTF-8", "no object", "no kind", "deep"],
)
def test_frame_out_of_bounds_is_refused(pair: tuple[wire.Channel, wire.Channel], data: bytes) -> None:
    pair[0].sock.sendall(data)
    with pytest.raises(wire.BrokenProtocol):
        pair[1].receive(10_000)


def test_closed_socket_is_told_apart_from_a_broken_frame(pair: tuple[wire.Channel, wire.Channel]) -> None:
    pair[0].sock.sendall(wire.PREFIX.pack(100, 0) + json.dumps({"kind": "done"}).encode())
    pair[0].sock.close()
    with pytest.raises(wire.PeerGone):
        pair[1].receive(0)
