"""Which lines of a page are read when not all of them can be."""

from classifier_worker.reader.choice import lines_within


def test_everything_is_read_while_the_budget_lasts() -> None:
    assert lines_within(300, [10, 10, 10], [100, 100, 100]) == [0, 1, 2]


def test_headings_come_first_then_the_beginning_then_labels() -> None:
    heights = [10.0] * 10
    costs_px = [500.0] * 10
    heights[8] = 30.0
    costs_px[6] = 100.0
    assert lines_within(1100, heights, costs_px) == [0, 6, 8]


def test_budget_is_never_exceeded() -> None:
    for budget_px in (0, 150, 1000, 2500):
        chosen = lines_within(budget_px, [10.0, 40.0] * 10, [200.0, 150.0] * 10)
        assert sum([200.0, 150.0][at % 2] for at in chosen) <= budget_px
