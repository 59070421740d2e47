"""core/done_ahead: what is committed beside a mark comes back, and what is somebody else's says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier_worker.core.done_ahead import decode, encode


@given(st.integers(0, 2**62), st.frozensets(st.integers(1, 3000)))
def test_offsets_come_back(mark: int, ahead: frozenset[int]) -> None:
    offsets = {mark + distance for distance in ahead}
    assert decode(mark, encode(mark, offsets)) == offsets


def test_the_text_fits_beside_an_offset_whatever_is_done() -> None:
    text = encode(5, range(6, 200_000))
    assert len(text) <= 4096
    assert decode(5, text) < set(range(6, 200_000))


def test_nothing_ahead_is_no_text() -> None:
    assert encode(5, []) == ""


@pytest.mark.parametrize("text", [None, "", "2:AAAA", "1:!", "somebody else's", "1:"])
def test_a_text_that_is_none_of_ours_says_nothing(text: str | None) -> None:
    assert decode(5, text) == frozenset()
