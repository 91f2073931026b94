"""Objectives of few-shot training, and the loop that minimises them with Adam over plain tensors."""

from collections.abc import Callable, Sequence

import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain.fewshot.prototypes import class_means, cosine_logits, leave_one_out_logits

# of `TrainablePart.step`: (loss, embeddings of the queries, new [values, first, second])
Step = Callable[..., tuple[tf.Tensor, tf.Tensor, list[list[tf.Tensor]]]]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Adam's, as in Keras


def prototype_losses(queries, features, membership):
    """Cross-entropy (N,) of softmax(10 cos(query, prototype)); no gradient flows through the prototypes.

    Args:
        queries: embeddings (N, D) of a view of each sample.
        features: embeddings (N, D) of the samples themselves; the prototypes are their class means.
        membership: one-hot labels (N, K).
    """
    logits = cosine_logits(queries, class_means(tf.stop_gradient(features), membership))
    return _cross_entropy(membership, logits)


def leave_one_out_losses(queries, features, membership):
    """`prototype_losses` with each query's own sample left out of its class's prototype (`prototypes.leave_one_out_logits`)."""
    return _cross_entropy(membership, leave_one_out_logits(queries, tf.stop_gradient(features), membership))


def softmax_losses(queries, features, membership, kernel, bias):
    """Cross-entropy (N,) of softmax(queries kernel + bias); kernel (D, K) and bias (K,) are trained too."""
    return _cross_entropy(membership, tf.matmul(queries, kernel) + bias)


def _cross_entropy(membership, logits):
    return tf.nn.softmax_cross_entropy_with_logits(membership, logits)


def adam_step(values, first, second, gradients, iteration, learning_rate):
    """One step of Adam, number `iteration` from 1, in the order of operations that Keras has.

    m += (1 - b1) (g - m);  v += (1 - b2) (g^2 - v);  x -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)

    Args:
        values, first, second, gradients: lists of tensors x, m, v, g.
        iteration: t; in float32 the correction is wrong by 6e-6, as in Keras; in float64 it is as exact as the device's.

    Returns:
        The new [values, first, second].
    """
    rate = learning_rate * tf.cast(tf.sqrt(1 - BETA_2**iteration) / (1 - BETA_1**iteration), tf.float32)
    first = [m + (g - m) * (1 - BETA_1) for m, g in zip(first, gradients, strict=True)]
    second = [v + (g * g - v) * (1 - BETA_2) for v, g in zip(second, gradients, strict=True)]
    values = [x - rate * m / (tf.sqrt(v) + EPSILON) for x, m, v in zip(values, first, second, strict=True)]
    return [values, first, second]


def train(
    step: Step,
    late_step: Step | None,
    samples: ArrayLike,
    views: Sequence[ArrayLike],
    membership: ArrayLike,
    channels: list[tf.Tensor],
    values: list[tf.Tensor],
    *,
    iterations: int,
    learning_rate: float,
    stop_loss: float = 0.0,
    skip_loss: float = 0.0,
) -> tuple[list[tf.Tensor], list[float]]:
    """Repeat a compiled step of `TrainablePart.step`; iteration i takes view i modulo their number.

    An iteration has two passes: one embeds all samples with the present weights, for the prototypes; one takes the view, with
    a gradient. With `late_step` the latter's embeddings serve the next iteration's prototypes, so that only the first iteration has
    the former.

    Args:
        step, late_step: the second takes embeddings (N, D) in place of `samples`; None where prototypes are never late.
        samples: features (N, ...) of the samples themselves.
        views: features (V, N, ...) of their views.
        membership: one-hot labels, float32 (N, K).
        channels: of each trained weight.
        values: the trained tensors, first the channels', then the head's.
        iterations: at most; training ends after one whose loss is below `stop_loss`.
        skip_loss: a sample whose loss is below has no gradient.

    Returns:
        (trained values, loss of every iteration).
    """
    zeros = [tf.zeros_like(value) for value in values]
    state, losses = [list(values), zeros, zeros], []
    queries = [tf.convert_to_tensor(view) for view in views]
    samples = tf.convert_to_tensor(samples)
    rates = tf.constant(learning_rate, tf.float32), tf.constant(skip_loss, tf.float32)
    for iteration in range(iterations):
        count = tf.constant(iteration + 1, tf.float64)
        loss, embeddings, state = step(samples, queries[iteration % len(queries)], membership, channels, state, count, *rates)
        losses.append(loss)
        if late_step is not None:
            step, samples = late_step, embeddings
        if stop_loss and loss < stop_loss:
            break
    return state[0], [float(loss) for loss in losses]
