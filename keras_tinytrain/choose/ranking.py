"""Rankings of layers and channels: by Fisher information, by the norm of the weights, at random."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from keras_tinytrain.choose.fisher import potential
from keras_tinytrain.model.layers import LayerInfo


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Scores that a strategy gives the candidates: the larger is taken the sooner.

    Args:
        layers: {layer name: score}.
        channels: {layer name: scores of its output channels, (channels,)}.
    """

    layers: dict[str, float]
    channels: dict[str, np.ndarray]


# A criterion is a score of one layer from its potential P and its shares w = W / max W and m = M / max M of the candidates'
# parameters and multiply-accumulates. TinyTrain's is P / (w * m).
CRITERIA: dict[str, Callable[[float, float, float], float]] = {
    "P": lambda p, w, m: p,
    "P/W": lambda p, w, m: p / w,
    "P/M": lambda p, w, m: p / m,
    "P/(W*M)": lambda p, w, m: p / (w * m),
}


def fisher_ranking(rows: Sequence[LayerInfo], fisher: dict[str, np.ndarray], *, criterion: str = "P/(W*M)") -> Ranking:
    """TinyTrain's ranking: s_i = P_i / (||W_i|| / max ||W|| * M_i / max M), channels by their Fisher information.

    Args:
        rows: candidate layers; the maxima run over them.
        fisher: {layer name: (channels,)}, see `fisher.fisher_information`.
        criterion: a key of CRITERIA.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion expects one of {sorted(CRITERIA)}. Received: {criterion!r}")
    most_weights = max((row.num_weights for row in rows), default=0)
    most_macs = max((row.macs for row in rows), default=0)
    score = CRITERIA[criterion]
    layers = {
        row.name: score(potential(fisher[row.name]), row.num_weights / most_weights, row.macs / most_macs) for row in rows
    }
    return Ranking(layers=layers, channels={row.name: np.asarray(fisher[row.name]) for row in rows})


def l2_ranking(rows: Sequence[LayerInfo], kernels: dict[str, np.ndarray]) -> Ranking:
    """Layers and channels by the L2 norm of their weights. `kernels`: {layer name: (channels, weights per channel)}."""
    channels = {row.name: np.linalg.norm(kernels[row.name], axis=1) for row in rows}
    return Ranking(layers={name: float(np.linalg.norm(norms)) for name, norms in channels.items()}, channels=channels)


def random_ranking(rows: Sequence[LayerInfo], *, seed: int = 0) -> Ranking:
    """Layers and channels in random order."""
    rng = np.random.default_rng(seed)
    return Ranking(
        layers={row.name: float(rng.random()) for row in rows},
        channels={row.name: rng.random(row.num_channels) for row in rows},
    )


def best_channels(scores: np.ndarray, count: int) -> tuple[int, ...]:
    """Indices of the `count` largest scores, ascending; of equal scores the lower index comes first."""
    return tuple(sorted(np.argsort(-np.asarray(scores), kind="stable")[:count].tolist()))
