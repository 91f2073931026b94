"""Nearest-prototype classification by cosine, as in PMF (Hu et al., CVPR 2022)."""

from keras import ops

_EPSILON = 1e-12


def class_prototypes(features, labels, num_classes: int):
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
    membership = ops.one_hot(labels, num_classes, dtype=features.dtype)  # (N, K)
    return ops.matmul(ops.transpose(membership), features) / ops.sum(membership, axis=0)[:, None]


def cosine_logits(features, prototypes, scale=10.0, *, bias=0.0):
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


def l2_normalize(x):
    """x / max(||x||, 1e-12) over the last axis; a zero vector stays zero and has a zero gradient."""
    x = ops.convert_to_tensor(x)
    return x * ops.rsqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), _EPSILON**2))
