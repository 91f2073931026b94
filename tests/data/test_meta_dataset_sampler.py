"""Meta-Dataset's sampler: the formulas by hand, and what must hold for any domain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tinytrain.data import Domain
from keras_tinytrain.data.meta_dataset_sampler import (
    SamplerLimits,
    sample_meta_dataset_episode,
    sample_meta_dataset_indices,
    support_counts,
)

seeds = st.integers(0, 2**32 - 1)
class_sizes = st.lists(st.integers(2, 60), min_size=5, max_size=60)


class Fixed:
    """A generator that draws what it is told."""

    def __init__(self, beta, logs):
        self._beta, self._logs = beta, logs

    def random(self):
        return 1 - self._beta

    def uniform(self, low, high, count):
        assert (low, high, count) == (np.log(0.5), np.log(2), len(self._logs))
        return np.array(self._logs)


def test_support_counts_by_hand():
    # |S| = ceil(.25 * 8) + ceil(.25 * 30) + ceil(.25 * 100) = 2 + 8 + 25 = 35, so 32 are shared out beyond one each.
    # Weights 2 * 10 : 1 * 40 : .5 * 200 = 20 : 40 : 100; floor(32 * 20/160) + 1 = 5, floor(8) + 1 = 9, floor(20) + 1 = 21.
    counts = support_counts(np.array([10, 40, 200]), np.array([8, 30, 190]), Fixed(0.25, np.log([2, 1, 0.5])))
    assert counts.tolist() == [5, 9, 21]


def test_support_is_capped_at_five_hundred_and_at_what_remains():
    sizes = np.full(50, 200)
    counts = support_counts(sizes, sizes - 10, Fixed(1.0, np.zeros(50)))
    assert counts.tolist() == [10] * 50  # (500 - 50) / 50 + 1
    uneven = support_counts(np.array([3, 300]), np.array([1, 290]), Fixed(1.0, np.log([2, 0.5])))
    # |S| = 1 + 100; floor(99 * 6/156) + 1 = 4 > 1 remaining; floor(99 * 150/156) + 1 = 96
    assert uneven.tolist() == [1, 96]


@given(class_sizes, seeds)
def test_any_domain(sizes, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    support, query, support_y, query_y = sample_meta_dataset_indices(labels, rng=np.random.default_rng(seed))
    both = np.concatenate([support, query])
    assert len(set(both.tolist())) == len(both)
    shots, queries = np.bincount(support_y), np.bincount(query_y)
    assert 5 <= len(shots) == len(queries) <= min(50, len(sizes)) and shots.min() >= 1
    drawn = [sizes[labels[query[query_y == k][0]]] for k in range(len(queries))]
    assert set(queries.tolist()) == {min(10, min(drawn) // 2)}
    assert len(support) <= 500
    of_class = {(k, label) for k, label in zip(np.concatenate([support_y, query_y]).tolist(), labels[both].tolist())}
    assert len(of_class) == len(shots) == len({label for _, label in of_class})


@given(seeds)
def test_same_seed_same_task(seed):
    labels = np.repeat(np.arange(9), 20)
    first, again = (sample_meta_dataset_indices(labels, rng=np.random.default_rng(seed)) for _ in range(2))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)


@given(st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=8), min_size=5, max_size=12), seeds)
def test_groups_stay_on_one_side(group_sizes, seed):
    pairs = [(label, size) for label, sizes in enumerate(group_sizes) for size in sizes]
    labels = np.repeat([label for label, _ in pairs], [size for _, size in pairs])
    groups = np.repeat(np.arange(len(pairs)), [size for _, size in pairs])
    support, query, _, _ = sample_meta_dataset_indices(labels, rng=np.random.default_rng(seed), groups=groups)
    assert not set(groups[support]) & set(groups[query])


def test_ways_and_shots_vary():
    domain = Domain("d", np.arange(800, dtype=np.float32).reshape(-1, 1, 1, 1), np.arange(800) % 20)
    episodes = [sample_meta_dataset_episode(domain, rng=np.random.default_rng(seed)) for seed in range(60)]
    ways = {episode.support_y.max() + 1 for episode in episodes}
    assert min(ways) == 5 and max(ways) == 20
    assert min(len(e.support_y) / (e.support_y.max() + 1) for e in episodes) < 4
    assert max(np.bincount(e.support_y).max() for e in episodes) > 15


def test_limits_are_what_they_say():
    labels = np.repeat(np.arange(30), 40)
    limits = SamplerLimits(min_ways=3, max_ways=3, max_queries=2, max_support=9)
    support, _, support_y, query_y = sample_meta_dataset_indices(labels, rng=np.random.default_rng(0), limits=limits)
    assert query_y.tolist() == [0, 0, 1, 1, 2, 2] and set(support_y.tolist()) == {0, 1, 2} and len(support) <= 9


@pytest.mark.parametrize("groups, what", [(None, "two samples"), (np.arange(8) // 2, "two groups of samples")])
def test_too_few_classes(groups, what):
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    with pytest.raises(ValueError, match=f"needs 5 classes of {what}. Received: {4 if groups is None else 0}"):
        sample_meta_dataset_indices(labels, rng=np.random.default_rng(0), groups=groups)
