"""Student's prediction bound against SciPy's quantiles."""

import numpy as np
import pytest
from scipy import stats

from keras_tinytrain._prediction_bound import MOST_SCORES, prediction_bound, prediction_bounds


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.3])
def test_bound_is_students_quantile(rate):
    for count in (2, 3, 4, 7, 25, 128, 1001):
        expected = stats.t.ppf(1 - rate, count - 1) * np.sqrt(1 + 1 / count)
        assert prediction_bound(rate, count) == pytest.approx(expected, rel=1e-9)


def test_table_ends_where_the_bound_hardly_changes():
    bounds = prediction_bounds(0.05, 100_000)
    assert len(bounds) == MOST_SCORES - 1 and bounds[-1] == pytest.approx(stats.norm.ppf(0.95), rel=0.02)
    assert prediction_bounds(0.05, 1) == (prediction_bound(0.05, 2),)
