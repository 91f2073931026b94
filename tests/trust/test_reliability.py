"""The page of reliability is what its figures say, and sums what tests record."""

import pytest
from trust.reliability import page, renewed, summed


def test_figures_are_summed_by_kind():
    figures = [
        ("tried", "plan|5|3"),
        ("tried", "kill|2|"),
        ("tried", "plan|1|1"),
        ("grew", "rounds|20|500|0.3"),
        ("other", "x"),
    ]
    assert summed(figures) == {
        "tried": {"kill": {"tried": 2, "refused": None}, "plan": {"tried": 6, "refused": 4}},
        "grew": {"rounds": {"first": 20, "last": 500, "megabytes": 0.3}},
    }


def test_the_page_has_a_line_for_each_kind():
    text = page({"count": 7, "rounds": 9, "seed": 1, **summed([("tried", "plan|5000|3000"), ("grew", "rounds|20|500|0.34")])})
    assert "| plan | 5,000 | 3,000 | 0 |" in text and "| rounds | 20 | 500 | 0.3 |" in text and "--count 7 --rounds 9" in text


def test_some_rows_are_renewed_by_as_many_trials():
    asked = {"count": 7, "rounds": 9, "seed": 1}
    before = {**asked, **summed([("tried", "plan|7|3"), ("tried", "serial|7|"), ("grew", "rounds|20|500|0.34")])}
    after = renewed(before, {**asked, **summed([("tried", "serial|8|1")])})
    assert after["tried"] == {"plan": {"tried": 7, "refused": 3}, "serial": {"tried": 8, "refused": 1}}
    assert after["grew"] == before["grew"]
    with pytest.raises(SystemExit, match="--count 7 --rounds 9 --seed 1"):
        renewed(before, {**before, "count": 8})
