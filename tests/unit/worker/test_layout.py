"""core/layout: numbers about a page's layout, finite and in range whatever the page."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from classifier_worker.core.layout import FEATURES, TRAITS, layout_features, layout_traits
from classifier_worker.core.page import Box, Line, Page, Structure, Table

WHITE = np.full((512, 362, 3), 255, dtype=np.uint8)


def page(
    *lines: str,
    width: float = 595,
    height: float = 842,
    image: np.ndarray = WHITE,
    structure: Structure | None = None,
) -> Page:
    placed = tuple(
        Line(text, Box(0.1, 0.1 + 0.02 * at, min(0.1 + 0.01 * len(text), 1.0), 0.115 + 0.02 * at), 0.012)
        for at, text in enumerate(lines)
    )
    return Page(
        number=1,
        width_points=width,
        height_points=height,
        text="\n".join(lines),
        text_source="layer" if lines else "none",
        lines=placed,
        structure=structure,
        image=image,
    )


def feature(name: str, of: Page) -> float:
    return float(layout_features(of)[FEATURES.index(name)])


def trait(name: str, of: Page) -> float:
    return float(layout_traits(layout_features(of))[list(TRAITS).index(name)])


@given(
    st.lists(st.text(max_size=90), max_size=40),
    st.floats(0.0, 1e5),
    st.floats(0.0, 1e5),
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
)
def test_features_are_finite_and_bounded_whatever_the_page(
    lines: list[str], width: float, height: float, image: np.ndarray
) -> None:
    found = layout_features(page(*lines, width=width, height=height, image=image))
    assert found.shape == (len(FEATURES),)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 50
    assert np.isfinite(layout_traits(found)).all()


def test_money_and_numbers_at_the_right_are_seen() -> None:
    receipt = page("Coffee $3.10", "Cake $4.20", "Total $7.30")
    prose = page("It was a bright cold day in April, and the clocks were striking thirteen." * 1)
    assert trait("money", receipt) > trait("money", prose)
    assert trait("prose", prose) > trait("prose", receipt)


def test_a_table_makes_a_page_tabular() -> None:
    table = Structure(tables=(Table(Box(0.1, 0.1, 0.9, 0.9), 20, 5),))
    assert trait("tabular", page("a", structure=table)) > trait("tabular", page("a"))


def test_a_landscape_page_is_told_from_an_upright_one() -> None:
    assert feature("landscape", page(width=842, height=595)) == 1
    assert feature("landscape", page()) == 0


def test_ruled_lines_are_seen_in_the_pixels() -> None:
    ruled = WHITE.copy()
    ruled[100:400:20, 30:330] = 0
    assert feature("long_rows", page(image=ruled)) == pytest.approx(np.log1p(15), abs=0.1)
    assert trait("staves", page(image=ruled)) == trait("staves", page())  # a table's rules are no staves


def test_five_close_lines_apart_from_others_are_a_stave() -> None:
    music = WHITE.copy()
    for stave in (60, 140, 220):
        music[stave : stave + 20 : 4, 20:340] = 60
    assert feature("staves", page(image=music)) == pytest.approx(np.log1p(2))
    rules = tuple(
        Box(0.1, top, 0.9, top) for stave in (0.1, 0.3) for top in (stave + 0.008 * line for line in range(5))
    )
    assert feature("staves", page(structure=Structure(rules=rules))) == pytest.approx(np.log1p(1))


def test_a_page_of_one_colour_without_text_is_blank() -> None:
    assert feature("blank", page()) == 1
    assert feature("blank", page(image=np.full_like(WHITE, 40))) == 1
    noise = np.random.default_rng(0).integers(0, 256, WHITE.shape, dtype=np.uint8)
    assert feature("blank", page(image=noise)) == 0


def test_a_page_without_text_says_so() -> None:
    assert feature("no_text", page()) == 1
    assert feature("no_text", page("words")) == 0
