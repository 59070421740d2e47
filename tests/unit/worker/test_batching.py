"""core/batching: which parts go through a tower together, in which of the static shapes."""

from hypothesis import given
from hypothesis import strategies as st

from classifier_worker.core.batching import Intake, Shapes, plan_images, plan_texts, split_rows

SHAPES = Shapes(image_rows=(1, 2, 4, 8), text_rows=(1, 4, 16), text_tokens=(16, 64, 128))


@given(st.integers(0, 100))
def test_every_part_is_in_one_batch_and_padding_is_never_more_than_a_quarter(count: int) -> None:
    batches = split_rows(count, SHAPES.image_rows)
    assert sum(taken for taken, _ in batches) == count
    for taken, rows in batches:
        assert rows in SHAPES.image_rows
        assert 0 < taken <= rows
        assert taken * 4 >= rows * 3


def test_rows_that_are_nearly_full_are_padded_and_others_are_split() -> None:
    assert split_rows(7, (1, 2, 4, 8)) == [(7, 8)]
    assert split_rows(5, (1, 2, 4, 8)) == [(4, 4), (1, 1)]
    assert split_rows(20, (1, 2, 4, 8)) == [(8, 8), (8, 8), (4, 4)]


@given(st.integers(1, 64), st.sampled_from([0.25, 0.5, 0.75]))
def test_share_of_real_rows_is_as_told_where_there_is_a_smaller_size(count: int, least_full: float) -> None:
    batches = split_rows(count, (4, 16, 64), least_full=least_full)
    assert sum(taken for taken, _ in batches) == count
    assert all(taken >= rows * least_full or rows == 4 for taken, rows in batches)


def test_shapes_tell_how_full_a_batch_must_be() -> None:
    willing = Shapes(image_rows=(4, 16), text_rows=(8, 32), text_tokens=(32,), least_full=0.25)
    assert [batch.rows for batch in plan_images(5, willing)] == [16]
    assert [batch.rows for batch in plan_texts([9] * 9, willing)] == [32]
    assert [batch.rows for batch in plan_images(3, willing)] == [4]


def test_fewer_parts_than_the_smallest_batch_are_padded_to_it() -> None:
    assert split_rows(1, (4, 8)) == [(1, 4)]


@given(st.lists(st.integers(1, 400), max_size=60))
def test_texts_are_padded_to_a_length_that_hangs_on_themselves_alone(lengths: list[int]) -> None:
    batches = plan_texts(lengths, SHAPES)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(len(lengths)))
    for batch in batches:
        assert {SHAPES.tokens_for(lengths[index]) for index in batch.indices} == {batch.tokens}


def test_a_text_longer_than_the_longest_shape_is_cut_to_it() -> None:
    assert [SHAPES.tokens_for(length) for length in (1, 16, 17, 128, 999)] == [16, 16, 64, 128, 128]


def test_images_keep_their_order() -> None:
    assert [batch.indices for batch in plan_images(5, SHAPES)] == [(0, 1, 2, 3), (4,)]


def test_intake_is_first_come_first_served_and_bounded() -> None:
    intake = Intake(2, [1, 2, 3])
    assert intake.take() == [1, 2]
    assert intake.take() == [3]
    assert intake.take() == []
