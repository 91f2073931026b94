"""Episodes: sizes, disjointness, renumbering, seeds, groups and errors."""

import numpy as np
import pytest

from keras_tinytrain.data import Domain
from keras_tinytrain.data.episodes import sample_episode, sample_indices


@pytest.fixture
def domain():
    """Each image holds its own index; classes 3, 5, ..., 15 with ten samples each."""
    labels = np.repeat(np.arange(3, 17, 2), 10)
    images = np.arange(labels.size, dtype=np.float32).reshape(-1, 1, 1, 1)
    return Domain("numbers", images, labels)


def identities(images):
    return images[:, 0, 0, 0].astype(int)


@pytest.mark.parametrize("queries, num_queries", [(None, 28), (3, 12)])
def test_sizes_and_labels(domain, queries, num_queries):
    episode = sample_episode(domain, ways=4, shots=3, queries=queries, rng=np.random.default_rng(0))
    assert episode.support_x.shape == (12, 1, 1, 1) and episode.query_x.shape == (num_queries, 1, 1, 1)
    np.testing.assert_array_equal(episode.support_y, np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(episode.query_y, np.repeat(np.arange(4), num_queries // 4))


def test_no_sample_twice_and_one_class_per_label(domain):
    episode = sample_episode(domain, ways=5, shots=4, rng=np.random.default_rng(1))
    drawn = identities(np.concatenate([episode.support_x, episode.query_x]))
    assert len(set(drawn)) == len(drawn) == 50
    original = domain.labels[drawn]
    pairs = set(zip(original.tolist(), np.concatenate([episode.support_y, episode.query_y]).tolist()))
    assert len(pairs) == 5
    assert pairs == {(label, number) for number, label in enumerate(episode.classes.tolist())}


def test_same_seed_same_episode(domain):
    first, again, other = (sample_episode(domain, rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.query_x, again.query_x)
    assert not np.array_equal(first.support_x, other.support_x)


def test_groups_stay_on_one_side():
    labels, groups = np.repeat([0, 1], 12), np.tile(np.repeat([0, 1, 2, 3], 3), 2) + np.repeat([0, 10], 12)
    for seed in range(20):
        support, query, _, _ = sample_indices(labels, ways=2, shots=4, rng=np.random.default_rng(seed), groups=groups)
        assert not set(groups[support]) & set(groups[query])
        assert len(support) == 8 and len(query) == 12  # two of the four groups of each class gave to the support


def test_too_few_classes(domain):
    with pytest.raises(ValueError, match="8 ways was asked for, but there are 7 classes"):
        sample_episode(domain, ways=8, rng=np.random.default_rng(0))


@pytest.mark.parametrize("shots, queries", [(11, None), (10, None), (8, 3)])
def test_too_few_samples(domain, shots, queries):
    with pytest.raises(ValueError, match="has 10 samples, too few"):
        sample_episode(domain, shots=shots, queries=queries, rng=np.random.default_rng(0))
