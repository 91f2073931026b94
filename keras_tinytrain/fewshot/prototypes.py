"""Nearest-prototype classification by cosine, as in PMF (Hu et al., CVPR 2022)."""

from typing import Any

from keras import ops

SCALE = 10.0  # inverse temperature of the cosines, as in PMF
_EPSILON = 1e-12


def class_prototypes(features: Any, labels: Any, num_classes: int) -> Any:
    """Mean feature of each class: c_k = 1/N_k * sum of f_n over the samples n of class k.

    Args:
        features: float (N, D).
        labels: int (N,), 0..num_classes-1; every class occurs.
        num_classes: number of classes.

    Returns:
        Tensor float (num_classes, D). Differentiable in `features`.

    Example:
        >>> class_prototypes([[1.0, 0.0], [0.0, 1.0]], [0, 0], 1).numpy()
        array([[0.5, 0.5]], dtype=float32)
    """
    features = ops.convert_to_tensor(features)
    return class_means(features, ops.one_hot(labels, num_classes, dtype=features.dtype))


def class_means(features, membership):
    """`class_prototypes` from one-hot labels: float (N, D) and (N, K) -> (K, D)."""
    return ops.matmul(ops.transpose(membership), features) / ops.sum(membership, axis=0)[:, None]


def cosine_logits(features, prototypes, scale=SCALE, *, bias=0.0):
    """logit_nk = scale * (cos(f_n, c_k) + bias).

    Args:
        features: float (N, D).
        prototypes: float (K, D).
        scale: inverse temperature. PMF learns it from a start of 10.
        bias: PMF learns it from a start of 0. A softmax over the classes does not see it.

    Returns:
        Tensor float (N, K).
    """
    cosines = ops.matmul(l2_normalize(features), ops.transpose(l2_normalize(prototypes)))
    return scale * (cosines + bias)


def leave_one_out_logits(queries, features, membership, scale=SCALE):
    """Cosine logits of queries that are views of the support samples, each one's own sample left out of its own class.

    Query n is a view of sample n, of class y and embedding z_n. With N_y samples in that class,

        logit_nk = scale * cos(q_n, c_k) for k != y,    logit_ny = scale * cos(q_n, (N_y c_y - z_n) / (N_y - 1)).

    A class of one sample keeps its prototype. Without this a query meets its own sample again in the class mean, which
    makes the training loss too small to learn much from.

    Args:
        queries: float (N, D), embeddings of the views.
        features: float (N, D), embeddings of the samples themselves. Stop their gradient to hold prototypes constant.
        membership: float (N, K), one-hot labels.

    Returns:
        Tensor float (N, K).
    """
    counts = ops.matmul(membership, ops.sum(membership, axis=0)[:, None])  # (N, 1): N_y
    prototypes = class_means(features, membership)
    own = ops.matmul(membership, prototypes)  # (N, D): c_y
    others = ops.where(counts > 1, (counts * own - features) / ops.maximum(counts - 1, 1), own)
    cosines = ops.sum(l2_normalize(queries) * l2_normalize(others), axis=-1, keepdims=True)
    return ops.where(membership > 0, scale * cosines, cosine_logits(queries, prototypes, scale))


def l2_normalize(x):
    """x / max(||x||, 1e-12) over the last axis; a zero vector stays zero and has a zero gradient."""
    x = ops.convert_to_tensor(x)
    return x * ops.rsqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), _EPSILON**2))
