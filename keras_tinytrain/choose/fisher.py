"""Fisher information per output channel, from one forward and backward pass over the support set."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.model.float64 import call_in_float64
from keras_tinytrain.model.graph import only, require_functional
from keras_tinytrain.model.private_keras import run_graph

_MOST_SAMPLES = 4  # of a pass, which holds all its activations in float64


def fisher_information(
    model: keras.Model, x: ArrayLike, loss: Loss, layer_names: Sequence[str], *, batch_size: int | None = None
) -> dict[str, np.ndarray]:
    """Fisher information of the channels of some layers.

    F_o = 1/(2N) * sum_n ( sum_d a_nd * g_nd )^2, per output channel o; a the layer's output, g the gradient of the loss with
    respect to it; n runs over N samples, d over spatial positions (Delta_o in Kwon et al., ICML 2024; after Theis et al., 2018).

    Gradients of activations are computed, down to the earliest of the layers, and none of weights. The network runs in float64: in float32
    a ReLU6 gate near its edge may open the other way, and the sum over positions, which cancels, then changes by a step.

    Args:
        model: a flat Functional model in canonical form (see `fold.fold_batch_norm`).
        x: float array of N samples, (N, ...).
        loss: called as loss(outputs, indices) with the model's outputs for the samples `indices`; returns the SUM of their
            losses, a scalar (a mean would scale everything by 1/N^2).
        layer_names: layers to score.
        batch_size: samples per pass; the result does not depend on it. None: as `passes`.

    Returns:
        {layer name: float64 array of (channels,)}.

    Raises:
        ValueError: the loss does not depend on a layer, or something is not finite.
    """
    x = np.asarray(x)

    def products_of(indices):
        return activation_gradient_products(model, x[indices], lambda outputs: loss(outputs, indices), layer_names)

    return mean_squares(products_of, len(x), layer_names, batch_size=batch_size)


def passes(num_samples: int, batch_size: int | None = None) -> list[np.ndarray]:
    """Indices of the samples of each pass.

    Args:
        num_samples: of the support set, which in `fit` is a batch.
        batch_size: samples per pass; None: a quarter of them and 4 at most, whose activations in float64 take less memory than
            a step of full training on all of them.
    """
    batch_size = batch_size or max(1, min(_MOST_SAMPLES, num_samples // 4))
    return np.split(np.arange(num_samples), range(batch_size, num_samples, batch_size))


def mean_squares(
    products_of: Callable[[np.ndarray], dict], num_samples: int, layer_names: Sequence[str], *, batch_size: int | None = 32
) -> dict[str, np.ndarray]:
    """F_o of `fisher_information` from the products of `activation_gradient_products`.

    Args:
        products_of: indices of samples -> {layer name: (samples, channels)}.
        num_samples: N.
        layer_names, batch_size: as in `fisher_information`.
    """
    sums = dict.fromkeys(layer_names, np.zeros(()))
    for indices in passes(num_samples, batch_size):
        for name, products in products_of(indices).items():
            sums[name] = sums[name] + np.sum(np.square(np.asarray(products, np.float64)), axis=0)
    infinite = [name for name, total in sums.items() if not np.isfinite(total).all()]
    if infinite:
        raise ValueError(f"The Fisher information of layers {infinite} is not finite: look for NaN in samples and weights.")
    return {name: total / (2 * num_samples) for name, total in sums.items()}


def potential(fisher: np.ndarray) -> float:
    """Fisher potential of a layer, P = sum_o F_o (Turner et al., BlockSwap, 2020)."""
    return float(np.sum(fisher))


def activation_gradient_products(
    model: keras.Model, x: tf.Tensor, loss: Callable[[Any], tf.Tensor], layer_names: Sequence[str]
) -> dict[str, tf.Tensor]:
    """{layer name: sum_d a_nd * g_nd, float64 (samples, channels)} of one pass, eagerly or in a `tf.function`.

    Args:
        model, layer_names: as in `fisher_information`.
        x: samples (N, ...).
        loss: the model's outputs -> the SUM of the samples' losses.
    """
    activations: dict[str, tf.Tensor] = {}
    names = set(layer_names)
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def visit(layer):
            def call(*args, **kwargs):
                output = call_in_float64(layer, *args, **kwargs)
                if layer.name in names:  # nothing before the first watched tensor is recorded
                    tape.watch(output)
                    activations[layer.name] = output
                return output

            return call

        total = loss(only(run_graph(require_functional(model), [tf.cast(x, tf.float64)], visit)))
    gradients = tape.gradient(total, activations)
    unreached = [name for name, gradient in gradients.items() if gradient is None]
    if unreached:
        raise ValueError(f"The loss does not depend on layers {unreached}; name the layers to score without them.")
    return {name: _sum_over_positions(activations[name], gradients[name]) for name in activations}


def _sum_over_positions(activation, gradient):
    axes = tuple(range(1, len(activation.shape) - 1))
    return tf.reduce_sum(activation * gradient, axis=axes)
