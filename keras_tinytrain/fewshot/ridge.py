"""Ridge regression in closed form on several parts of a sample's features, as in R2-D2 (Bertinetto et al., ICLR 2019).

Part p of sample i is x_ip. With mu_p its mean over the support set, z_ip = (x_ip - mu_p) / ||x_ip - mu_p||, and P parts,

    K = 1/P sum_p Z_p Z_p^T,   A = (K + lambda I)^-1 Y,   score(x) = 1/P sum_p z_p(x) Z_p^T A,

where row i of Y (N, ways) is the one-hot label of sample i minus 1 / ways. The solver works in float64.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

RIDGE = 0.1  # lambda; accuracy hardly depends on it between 0.01 and 0.5
_EPSILON = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What a support set gives.

    Args:
        means: float32 (D,), mu of all parts.
        kernel: float32 (D, ways): score = normalised features x kernel.
    """

    means: np.ndarray
    kernel: np.ndarray


def solve(features: ArrayLike, labels: ArrayLike, num_classes: int, sizes: Sequence[int], *, ridge: float = RIDGE) -> Solution:
    """Solve for the scores of a support set.

    Args:
        features: float (N, D), D being the sum of `sizes`.
        labels: int (N,), 0..num_classes-1, each at least once.
        num_classes: ways.
        sizes: number of features of each part.
        ridge: lambda.

    Example:
        >>> solve([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], [0, 0, 1], 2, (2,)).means
        array([1.3333334, 1.6666666], dtype=float32)
    """
    features = np.asarray(features, np.float64)
    means = features.mean(axis=0)
    rows = normalised(features, means, sizes)
    targets = np.eye(num_classes)[np.asarray(labels)] - 1 / num_classes
    weights = np.linalg.solve(rows @ rows.T + ridge * np.eye(len(rows)), targets)
    return Solution(means.astype(np.float32), (rows.T @ weights).astype(np.float32))


def leave_one_out(
    features: ArrayLike, labels: ArrayLike, num_classes: int, sizes: Sequence[int], *, ridge: float = RIDGE
) -> np.ndarray:
    """Scores of each sample by a solution that does not know it at all: the means are those of the other samples too.

    A mean in which the sample takes part would tell its class: around it, the others of that class lie opposite to those of all
    others. Each sample is a solve of N - 1 samples, from products of the features alone.

    Args:
        features, labels, num_classes, sizes, ridge: as for `solve`.

    Returns:
        float64 (N, num_classes).
    """
    features = np.asarray(features, np.float64)
    centred = features - features.mean(axis=0)
    products = [part @ part.T for part in np.split(centred, np.cumsum(sizes)[:-1], axis=1)]
    targets = np.eye(num_classes)[np.asarray(labels)] - 1 / num_classes
    scores = np.empty_like(targets)
    for index in range(len(targets)):
        rest = np.arange(len(targets)) != index
        kernel = np.mean([_cosines(each, rest / rest.sum()) for each in products], axis=0)
        regular = kernel[np.ix_(rest, rest)] + ridge * np.eye(len(targets) - 1)
        scores[index] = kernel[index, rest] @ np.linalg.solve(regular, targets[rest])
    return scores


def _cosines(products: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """cos(x_i - mu, x_j - mu) from the products x_i x_j (N, N), mu being the mean of `shares` (N,)."""
    means = products @ shares
    centred = products - means[:, None] - means + shares @ means
    lengths = np.sqrt(np.maximum(np.diag(centred), _EPSILON**2))
    return centred / np.outer(lengths, lengths)


def class_rows(rows: np.ndarray, labels: ArrayLike, num_classes: int, sizes: Sequence[int]) -> np.ndarray:
    """Class means of the rows (N, D) of `normalised`, each part again of length 1 / sqrt(number of parts): (num_classes, D)."""
    means = np.stack([rows[np.asarray(labels) == index].mean(axis=0) for index in range(num_classes)])
    return normalised(means, np.zeros(rows.shape[1]), sizes)


def normalised(features: np.ndarray, means: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Each part of features (N, D) minus its mean, of length 1 / sqrt(number of parts): their products average over parts."""
    centred = np.split(features - means, np.cumsum(sizes)[:-1], axis=-1)
    scale = 1 / np.sqrt(len(sizes))
    lengths = (np.maximum(np.linalg.norm(part, axis=-1, keepdims=True), _EPSILON) for part in centred)
    return np.concatenate([scale * part / length for part, length in zip(centred, lengths, strict=True)], axis=-1)
