"""core/turns: tenants take turns, whatever each has waiting."""

import pytest

from classifier_worker.core.turns import Turns


def filled(**items: int) -> Turns[str]:
    turns: Turns[str] = Turns()
    for tenant, count in items.items():
        for number in range(count):
            turns.put(tenant, f"{tenant}{number}")
    return turns


def test_a_single_item_waits_for_one_of_each_other_tenant_and_not_for_their_backlogs() -> None:
    turns = filled(a=1000, b=1000, c=1)
    assert [turns.take() for _ in range(5)] == ["a0", "b0", "c0", "a1", "b1"]


def test_a_tenants_items_keep_their_order_and_all_come_out() -> None:
    turns = filled(a=3, b=5)
    taken = [turns.take() for _ in range(len(turns))]
    assert [item for item in taken if item[0] == "b"] == ["b0", "b1", "b2", "b3", "b4"]
    assert len(set(taken)) == 8
    with pytest.raises(IndexError):
        turns.take()


def test_what_is_put_back_is_the_next_again() -> None:
    turns = filled(a=2, b=2)
    first = turns.take()
    turns.put_back("a", first)
    assert [turns.take() for _ in range(4)] == ["a0", "b0", "a1", "b1"]


def test_who_comes_back_goes_to_the_end_of_the_line() -> None:
    turns = filled(a=1, b=2)
    assert turns.take() == "a0"
    turns.put("a", "late")
    assert [turns.take() for _ in range(3)] == ["b0", "late", "b1"]


def test_what_is_not_wanted_any_more_is_dropped_with_its_place() -> None:
    turns = filled(a=2, b=2)
    turns.keep(lambda item: item != "a0" and item[0] != "b")
    assert len(turns) == 1
    assert turns.take() == "a1"
