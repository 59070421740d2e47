"""Categories, formats and the Idempotency-Key header."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.categories import parse_categories
from producer_api.formats import media_type_of
from producer_api.keys import idempotency_key_in
from schemas.errors import DocfleetError, ErrorCode


def test_names_come_as_texts_or_objects_and_are_trimmed() -> None:
    text = '[" Invoice ", {"name": "Brief\\u00a0", "description": "x", "id": 7}, "請求書"]'
    assert parse_categories(text) == ("Invoice", "Brief", "請求書")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([], "1 to 500"),
        (["x"] * 501, "1 to 500"),
        (["a", 7], "category 2"),
        (["a", None], "category 2"),
        ([{"name": 1}], "category 1"),
        ([["a"]], "category 1"),
        (["a", "b", "  "], "category 3 is blank"),
        (["a" * 201], "201 characters"),
        (["a\u0007b"], "control characters"),
        (["a", "b", "A"], "category 3 has the same name as category 1"),
        (["Straße", "STRASSE"], "same name"),
        (["caf\u00e9", "cafe\u0301"], "same name"),
        ("a", "JSON array"),
    ],
)
def test_each_fault_is_named_with_its_position(entries: object, fault: str) -> None:
    with pytest.raises(DocfleetError, match=fault) as refusal:
        parse_categories(json.dumps(entries))
    assert refusal.value.code is ErrorCode.INVALID_CATEGORIES


@pytest.mark.parametrize("text", ["", "[", "a,b", "[" * 100_000, "[1e999999999999]", '["\\ud800"]'])
def test_broken_json_is_a_fault_of_the_client(text: str) -> None:
    with pytest.raises(DocfleetError):
        parse_categories(text)


@given(st.text())
def test_any_text_is_names_or_a_named_fault(text: str) -> None:
    try:
        names = parse_categories(text)
    except DocfleetError as error:
        assert error.code is ErrorCode.INVALID_CATEGORIES
    else:
        assert all(name == name.strip() and 1 <= len(name) <= 200 for name in names)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"%PDF-1.4", "application/pdf"),
        (b"\xef\xbb\xbf%PDF-1.4", "application/pdf"),
        (b"x" * 1019 + b"%PDF-", "application/pdf"),
        (b"x" * 1020 + b"%PDF-", None),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\xff\xd8\xff\xe0%PDF-", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"GIF88a", None),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"II*\x00", "image/tiff"),
        (b"MM\x00+", "image/tiff"),
        (b"BM" + b"\x00" * 12 + (40).to_bytes(4, "little"), "image/bmp"),
        (b"BMW is a maker of cars", None),
        (b"PK\x03\x04", None),
        (b"", None),
    ],
)
def test_format_is_known_by_first_bytes(head: bytes, media_type: str | None) -> None:
    assert media_type_of(head) == media_type


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        (["abc"], "abc"),
        (['"abc"'], "abc"),
        ([' "a b" '], "a b"),
        (['"a\\"b"'], 'a"b'),
        (["x" * 255], "x" * 255),
    ],
)
def test_idempotency_key_is_bare_or_quoted(values: list[str], key: str | None) -> None:
    assert idempotency_key_in(values) == key


@pytest.mark.parametrize("values", [[""], ['"'], ['""'], ['"a"b"'], ["x" * 256], ["a\tb"], ["é"], ["a", "b"]])
def test_bad_idempotency_key_is_refused(values: list[str]) -> None:
    with pytest.raises(DocfleetError) as refusal:
        idempotency_key_in(values)
    assert refusal.value.code is ErrorCode.INVALID_IDEMPOTENCY_KEY
