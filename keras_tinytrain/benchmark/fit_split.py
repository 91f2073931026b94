"""Samples to train on and to test on, for `benchmark fit`."""

import numpy as np

from keras_tinytrain.data import Domain

TEST_SHARE = 0.3  # of each class, at least


def train_and_test(domain: Domain, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the samples to train on and of those to test on, class by class; each group of samples stays on one side.

    Args:
        domain: a class of one group only, or of one sample, is trained on and not tested.
        seed: of the groups that are drawn.
    """
    rng = np.random.default_rng(seed)
    groups = np.arange(domain.labels.size) if domain.groups is None else domain.groups
    tested = np.zeros(domain.labels.size, bool)
    for label in np.unique(domain.labels):
        members = domain.labels == label
        for group in rng.permutation(np.unique(groups[members]))[1:]:
            if tested[members].mean() >= TEST_SHARE:
                break
            tested |= members & (groups == group)
    return np.flatnonzero(~tested), np.flatnonzero(tested)
