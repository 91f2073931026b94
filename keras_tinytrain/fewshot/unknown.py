"""Is a sample of a class that was learned? Its familiarity, and the threshold below which the answer is UNKNOWN.

The familiarity of a sample with class k is s_k - s_unknown + 3 c_k: s are the scores of the closed-form head, s_unknown that of
the samples of no class where there are some, else 0, and c_k is the mean over parts of cos(x_p, m_kp), m_kp being the class mean
of x_ip / ||x_ip||. The 3 was chosen on other classes than docs/results/unknown.md reports.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain._prediction_bound import prediction_bound

UNKNOWN = -1
KNOWN = "known"  # a delta's record for the familiarity
COSINE_WEIGHT = 3.0


def threshold(labels: ArrayLike, num_classes: int, rate: float, familiarity: Callable[[np.ndarray], np.ndarray]) -> float:
    """The familiarity below which a sample is of no class, from the support set alone.

    What is unknown is played by samples that are left out: of three classes and more each class in turn, else the samples of no
    class one by one where there are some. A further one of them exceeds the threshold with probability `rate`. Where there are
    neither, each sample is left out, and a further sample of a class is below the threshold with that probability.

    Args:
        labels: int (N,), 0..num_classes-1, and num_classes for samples of no class.
        num_classes: K.
        rate: fraction of 1.
        familiarity: of the samples that a mask (N,) leaves out, by heads that are solved for the others.

    Raises:
        ValueError: the rate is not between 0 and 0.5, or there is too little to leave out.
    """
    labels = np.asarray(labels)
    if num_classes > 2:
        return upper_bound(_left_out((labels == index for index in range(num_classes)), familiarity), rate, num_classes)
    negatives = np.flatnonzero(labels == num_classes)
    if len(negatives) > 1:
        return upper_bound(_left_out(_singles(negatives, len(labels)), familiarity), rate)
    counts = np.bincount(labels)
    known = np.flatnonzero((labels < num_classes) & (counts[labels] > 1))
    if len(known) < 2:
        raise ValueError(
            f"A threshold for unknown samples needs three classes, or two samples of a class. Received: {num_classes} classes of "
            f"{counts[:num_classes].tolist()} samples."
        )
    return -upper_bound(-_left_out(_singles(known, len(labels)), familiarity), rate)


def upper_bound(scores: ArrayLike, rate: float, independent: int | None = None) -> float:
    """What a further score exceeds with probability `rate`: the prediction bound of normally distributed scores,
    mean + t sqrt(1 + 1/n) s, with Student's t of n - 1 degrees of freedom.

    Args:
        scores: (N,), at least 2.
        rate: fraction of 1.
        independent: n, how many of the scores are independent of each other, such as one for each class; None: all.

    Raises:
        ValueError: the rate is not between 0 and 0.5.

    Example:
        >>> round(upper_bound([0.0, 1.0, 2.0], 0.05), 3)
        4.372
    """
    values = np.asarray(scores, np.float64)
    count = len(values) if independent is None else independent
    return float(values.mean() + prediction_bound(rate, count) * values.std(ddof=1))


def _left_out(masks: Iterator[np.ndarray], familiarity: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.concatenate([familiarity(mask) for mask in masks])


def _singles(indices: Sequence[int] | np.ndarray, count: int) -> Iterator[np.ndarray]:
    return (np.arange(count) == index for index in indices)
