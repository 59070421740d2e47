"""Damaged documents for `benchmarks.fuzz`: what is done to a seed file, as pure functions of a random generator.

Half of the ways know a format (objects and streams of a PDF, chunks of a PNG), so that the damage lies behind the
parser's front door; the others damage bytes wherever they stand. File number n of a run depends on the run's seed, on
n and on the seed files alone.
"""

import random
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Final

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

_MOST_MUTATIONS: Final = 4
#: A mutated file is cut here: damage, not size, is what this is about.
_MOST_BYTES: Final = 4 << 20
#: Streams of a seed that unpack to more are left as they are.
_MOST_UNPACKED_BYTES: Final = 1 << 20

_MAGICS: Final = (
    *(b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*"),
    *(b"RIFF\x00\x00\x00\x00WEBPVP8 ", b"II+\x00\x08\x00\x00\x00", b"PK\x03\x04"),
)
_NUMBERS: Final = (
    *(b"0", b"-1", b"1", b"65535", b"65536", b"2147483647", b"2147483648", b"-2147483648", b"4294967295"),
    *(b"9999999999", b"1e308", b"0.0000001", b"18446744073709551616", b"9" * 40),
)
_WORDS: Final = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
#: Where headers of pictures keep their sizes.
_HEAD_BYTES: Final = 256

_OBJECT: Final = re.compile(rb"\d+ \d+ obj\b.*?\bendobj\s", re.DOTALL)
_STREAM: Final = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_REFERENCE: Final = re.compile(rb"\b\d+ 0 R\b")
_NAME: Final = re.compile(rb"/[A-Za-z][A-Za-z0-9]+")
_NUMBER: Final = re.compile(rb"-?\b\d+(?:\.\d+)?\b")
_FILTER: Final = re.compile(rb"/Filter\s*/FlateDecode")


def mutated(run_seed: int, number: int, seeds: Sequence[bytes]) -> tuple[bytes, random.Random, str]:
    """Return file `number` of the run, the generator to go on with, and which mutations made it."""
    rng = random.Random(f"{run_seed}/{number}")
    data = rng.choice(seeds)
    names = []
    for _ in range(rng.randint(1, _MOST_MUTATIONS)):
        mutation = rng.choice(MUTATIONS)
        data = mutation(rng, data, seeds)[:_MOST_BYTES]
        names.append(mutation.__name__)
    return data, rng, " + ".join(names)


def flip_bits(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Turn over up to 64 bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 64) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Keep the beginning, or lose it."""
    place = rng.randint(0, len(data))
    return data[:place] if rng.random() < 0.8 else data[place:]


def splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Put a piece of another seed in, over what stands there or between it."""
    piece = _piece(rng, rng.choice(seeds))
    place = rng.randint(0, len(data))
    return data[:place] + piece + data[place + (len(piece) if rng.random() < 0.5 else 0) :]


def repeat_piece(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Say a piece of the file several times."""
    piece = _piece(rng, data)
    place = data.find(piece)
    return data[:place] + piece * rng.randint(2, 20) + data[place + len(piece) :]


def remove_piece(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Take a piece out."""
    start = rng.randint(0, len(data))
    return data[:start] + data[start + rng.randint(1, 4096) :]


def swap_magic(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Begin like another format."""
    magic = rng.choice(_MAGICS)
    return magic + data[len(magic) if rng.random() < 0.7 else 0 :]


def change_header_word(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Write an extreme number of 1 to 4 bytes near the beginning, where pictures keep their sizes."""
    width = rng.choice((1, 2, 4))
    word = (rng.choice(_WORDS) & ((1 << 8 * width) - 1)).to_bytes(width, rng.choice(("little", "big")))
    place = rng.randint(0, min(_HEAD_BYTES, len(data)))
    return data[:place] + word + data[place + width :]


def change_number(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Write an extreme number in place of one that is written in digits."""
    return _replaced(rng, data, _NUMBER, lambda _found: rng.choice(_NUMBERS))


def change_reference(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Point to another object of the file, which may lead back to where it came from."""
    references = _REFERENCE.findall(data)
    return _replaced(rng, data, _REFERENCE, lambda _found: rng.choice(references))


def change_name(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Write another name of the file in place of one."""
    names = _NAME.findall(data)
    return _replaced(rng, data, _NAME, lambda _found: rng.choice(names))


def remove_object(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Take an object out of a PDF."""
    return _replaced(rng, data, _OBJECT, lambda _found: b"")


def repeat_object(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Say an object of a PDF twice, the second time damaged."""
    return _replaced(rng, data, _OBJECT, lambda found: found + flip_bits(rng, found, seeds))


def damage_packed_stream(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Damage a stream of a PDF as it is stored, so that its decoder fails in the middle."""
    return _replaced_stream(rng, data, lambda packed: flip_bits(rng, packed, seeds))


def damage_stream(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Damage what a stream of a PDF unpacks to: drawing operators, fonts, tables of objects."""
    change = rng.choice((flip_bits, splice, repeat_piece, remove_piece, change_number, change_name))
    return _replaced_stream(rng, data, lambda packed: zlib.compress(change(rng, _unpacked(packed), seeds)))


def nest_stream(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Pack a stream of a PDF again and again; its filter says so, or does not."""
    depth = rng.randint(2, 40)

    def pack(packed: bytes) -> bytes:
        for _ in range(depth - 1):
            packed = zlib.compress(packed)
        return packed

    nested = _replaced_stream(rng, data, pack)
    filters = b"/Filter [" + b" /FlateDecode" * depth + b"]"
    return _replaced(rng, nested, _FILTER, lambda _found: filters) if rng.random() < 0.7 else nested


def swell_stream(rng: random.Random, data: bytes, _seeds: Sequence[bytes]) -> bytes:
    """Let a stream of a PDF unpack to up to 64 MB of itself."""
    times = rng.choice((100, 10_000))

    def swell(packed: bytes) -> bytes:
        unit = _unpacked(packed)[:4096] or b"q "
        return zlib.compress(unit * min(times, (64 << 20) // len(unit)), 1)

    return _replaced_stream(rng, data, swell)


def change_png_chunk(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Damage a chunk of a PNG and make its checksum right again; other files stay as they are."""
    if not data.startswith(b"\x89PNG"):
        return flip_bits(rng, data, seeds)
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((place, length))
        place += 12 + length
    if not chunks:
        return data
    start, length = rng.choice(chunks)
    body = bytearray(data[start + 4 : start + 8 + length])
    for _ in range(rng.randint(1, 4)):
        if len(body) > 4:
            body[rng.randrange(4, len(body))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return data[: start + 4] + body + zlib.crc32(body).to_bytes(4, "big") + data[start + 12 + length :]


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(flip_bits, truncate, splice, repeat_piece, remove_piece, swap_magic, change_header_word, change_number),
    *(change_reference, change_name, remove_object, repeat_object, damage_packed_stream, damage_stream),
    *(nest_stream, swell_stream, change_png_chunk),
)


def _piece(rng: random.Random, data: bytes) -> bytes:
    start = rng.randint(0, len(data))
    return data[start : start + rng.choice((1, 16, 256, 4096))]


def _replaced(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], new: Callable[[bytes], bytes]) -> bytes:
    """Return the data with one thing that the pattern finds replaced; the data itself when it finds none."""
    found = list(pattern.finditer(data))
    if not found:
        return data
    one = rng.choice(found)
    return data[: one.start()] + new(one.group()) + data[one.end() :]


def _replaced_stream(rng: random.Random, data: bytes, new: Callable[[bytes], bytes]) -> bytes:
    def whole(found: bytes) -> bytes:
        inner = _STREAM.fullmatch(found)
        return b"stream\n" + new(inner[1]) + b"\nendstream" if inner else found

    return _replaced(rng, data, _STREAM, whole)


def _unpacked(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, _MOST_UNPACKED_BYTES)
    except zlib.error:
        return packed
