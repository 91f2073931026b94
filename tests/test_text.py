"""Numbers, columns and errors as people read them."""

import pytest

from keras_tinytrain import Budget
from keras_tinytrain._text import aligned, duration, first_paragraph, kilobytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0042, "4.2 ms"),
        (0.035, "35 ms"),
        (0.9996, "1 s"),
        (4.21, "4.2 s"),
        (59.96, "1 min 0 s"),
        (253.076, "4 min 13 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration_is_in_the_two_units_that_matter(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(280, "0.3"), (10_188, "9.9"), (10_189, "10"), (97_312, "95"), (262_144, "256"), (2_250_752, "2,198")],
)
def test_kilobytes_are_of_1024_bytes_as_in_a_budget(num_bytes, text):
    assert kilobytes(num_bytes) == text
    assert abs(Budget(f"{text.replace(',', '')}KB").memory_bytes - num_bytes) <= 512


def test_columns_stand_to_the_right_except_the_named_ones():
    rows = [("name", "n", "why"), ("a", "10", "so")]
    assert aligned(rows) == "name   n  why\na     10   so"
    assert aligned(rows, left_columns=(2,)) == "name   n  why\na     10  so"


def test_first_paragraph_of_an_error():
    assert first_paragraph(ValueError("One sentence.\n\nA traceback of another library.")) == "One sentence."
