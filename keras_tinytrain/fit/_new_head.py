"""Where a new head starts: at the class means of the scored samples, so that it knows something before it is trained.

Scores that go through a random head are of no task, and its first gradients move trained channels at random.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_tinytrain.choose.fisher import passes
from keras_tinytrain.choose.protocols import Loss
from keras_tinytrain.model.graph import find_layer, flatten, walk
from keras_tinytrain.model.split import split_model

_SCALE = 4.0  # of the cosines that the logits start as; 10 did worse on digits, equally on sketches and glyphs
_KNOWS = 0.5  # of the loss of a head of zeros: a head whose loss is lower than this has been trained
_KNOWS_A_LITTLE = 0.9  # the same where its bias says so too: such a head ends better than class means, even if it starts worse
_COMMON = 16.0  # times as long as what differs between samples is the part that they share, at most
_TELLS = 0.999  # of the loss when each unit has another class: a loss that is lower tells which class is whose
_SHARES = (1.0, 0.3, 0.1, 0.03)  # of a head's own weights
_FOLDS = 5  # in which samples are left out of the class means
_RESHAPES = (keras.layers.Flatten, keras.layers.Reshape)


def class_mean_weights(model: keras.Model, head: str, x: np.ndarray, y: Any, loss: Loss) -> list[np.ndarray] | None:
    """Weights of the layer `head` by which it compares a sample with the class means; None where the head stays as it is.

    u_n = (f_n - mean f) / |f_n - mean f| for features f, the head's input; p_c = the mean of u over class c, of length 1;
    logit_c = _SCALE * p_c . (f - mean f) / mean_n |f'_n - mean f|, and 0 for a class without a sample. f' is f as dropout before
    the head leaves it in training, so that its noise stays small beside the logits. Without a bias p_c is made orthogonal to
    mean f. A single unit gets p_1 - p_0.

    The head stays as it is
    - where it was trained before: its loss, at its best share, is at most half that of a head of zeros (with a bias that is not 0,
      nine tenths), or no higher than that of class means on samples that were left out of them;
    - where labels are no classes, or all samples are of one class;
    - where the loss is the same whichever unit a class has, as that of an embedding.

    Args:
        model: with `head` near its end.
        head: name of a Dense layer or of a 1x1 convolution.
        x: samples (N, ...).
        y: labels as `fit` takes them.
        loss: loss(outputs, indices) -> the SUM of the losses of the samples `indices`.
    """
    layer = find_layer(model, head)
    num_units = layer.kernel.shape[-1]
    classes = class_numbers(y, num_units)
    pointwise = int(np.prod(layer.kernel.shape[:-2])) == 1
    if classes is None or not pointwise or len(np.unique(classes)) < 2:
        return None
    flat = flatten(model)
    frozen, ending = split_model(flat, head)
    inputs = x if frozen is None else np.concatenate([frozen(x[some], training=False) for some in passes(len(x))])
    all_samples = np.arange(len(inputs))
    own = _calibrated_loss(ending, layer, inputs, loss, all_samples)
    of_zeros = _loss_with(ending, layer, [np.zeros_like(weight) for weight in layer.get_weights()], inputs, loss, all_samples)
    was_trained = layer.use_bias and np.any(layer.bias)  # a new head's bias is 0
    if own <= (_KNOWS_A_LITTLE if was_trained else _KNOWS) * of_zeros:
        return None
    features = np.asarray(inputs, np.float64).reshape(len(inputs), -1, inputs.shape[-1]).mean(axis=1)
    rate = _dropout_rate(flat, head)

    def of_samples(some):
        return _class_means(layer, features[some], classes[some], rate)

    start = of_samples(all_samples)
    others = [np.roll(weight, 1, axis=-1) if num_units > 1 else -weight for weight in start]  # each unit has another class
    right, wrong = (_loss_with(ending, layer, weights, inputs, loss, all_samples) for weights in (start, others))
    if right >= _TELLS * wrong:
        return None
    gains = [
        _calibrated_loss(ending, layer, inputs, loss, some) - _loss_with(ending, layer, of_samples(kept), inputs, loss, some)
        for kept, some in _folds(classes)
    ]
    proven = gains and min(gains) > 0 if was_trained else sum(gains) >= 0
    return start if proven else None


def _class_means(layer, features, classes, rate):
    """Weights of `layer` by features (N, D) of samples of `classes` (N,)."""
    num_units = layer.kernel.shape[-1]
    centre = features.mean(axis=0)
    lengths = np.linalg.norm(features - centre, axis=1, keepdims=True)
    units = (features - centre) / np.maximum(lengths, 1e-12)
    directions = np.stack([_unit(units[classes == number].sum(axis=0)) for number in range(max(2, num_units))], axis=1)
    if num_units == 1:
        directions = directions[:, 1:] - directions[:, :1]
    if not layer.use_bias:  # which would take the centre's share: what all samples have in common tells no class
        common = _unit(centre)[:, None]
        directions = directions - common @ (common.T @ directions)
    kernel = _SCALE / _mean_length(features, centre, rate) * directions
    weights = [kernel.reshape(layer.kernel.shape), -centre @ kernel]
    return [weight.astype(np.float32) for weight in weights[: 2 if layer.use_bias else 1]]


def _folds(classes):
    """[(indices of the samples that are kept, of those left out)]: each sample is left out once, in as many folds as the largest
    class has samples, _FOLDS at most; the only one of its class never is."""
    numbers, sizes = np.unique(classes, return_counts=True)
    fold = np.full(len(classes), -1)
    for number in numbers[sizes > 1]:
        (members,) = np.nonzero(classes == number)
        fold[members] = np.arange(len(members)) % _FOLDS
    return [(np.nonzero(fold != each)[0], np.nonzero(fold == each)[0]) for each in np.unique(fold[fold >= 0])]


def _mean_length(features, centre, rate):
    """Mean of |f'_n - mean f| with each f'_ni 0 with probability `rate`, else f_ni / (1 - rate)."""
    noise = features**2 * (rate / (1 - rate))  # the variance of each f'
    lengths = np.sqrt(np.sum((features - centre) ** 2 + noise, axis=1))
    return max(lengths.mean(), np.linalg.norm(centre) / _COMMON, 1e-12)


def _dropout_rate(flat, head):
    """Of the dropout that stands before the layer `head`, at most reshaped; 0 where there is none."""
    nodes = walk(flat)
    (node,) = (each for each in nodes if each.layer.name == head)
    while node.inputs:
        node = nodes[node.inputs[0]]
        if not isinstance(node.layer, _RESHAPES):
            break
    rate = getattr(node.layer, "rate", 0.0) if isinstance(node.layer, keras.layers.Layer) else 0.0
    return float(rate) if isinstance(rate, (int, float)) and 0 < rate < 1 else 0.0


@contextlib.contextmanager
def given_weights(layer: keras.layers.Layer, weights: list[np.ndarray] | None) -> Iterator[None]:
    """Inside it, `layer` has `weights`; afterwards its own again, bit for bit. None changes nothing."""
    own = layer.get_weights()
    try:
        if weights is not None:
            layer.set_weights(weights)
        yield
    finally:
        layer.set_weights(own)


def _unit(vector):
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def class_numbers(y: Any, num_units: int) -> np.ndarray | None:
    """Class numbers (N,) of labels that are whole numbers or one-hot; None of others."""
    leaves = keras.tree.flatten(y)
    if len(leaves) != 1 or leaves[0] is None:
        return None
    labels = np.asarray(leaves[0])
    if labels.ndim == 2 and labels.shape[1] == num_units > 1:
        one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        return labels.argmax(axis=1) if one_hot else None
    if labels.size != len(labels) or not np.isin(labels, np.arange(max(2, num_units))).all():
        return None
    return labels.reshape(-1).astype(int)


def _calibrated_loss(ending, layer, inputs, loss, indices):
    """The least loss of the head's own weights times a factor of _SHARES: where data drifted, it may be right and too sure."""
    own = layer.get_weights()
    return min(_loss_with(ending, layer, [share * each for each in own], inputs, loss, indices) for share in _SHARES)


def _loss_with(ending, layer, weights, inputs, loss, indices):
    """The loss of samples while `layer` has `weights`. `ending` is the model from the head on."""
    parts = [indices[some] for some in passes(len(indices))]
    with given_weights(layer, weights):
        return sum(float(loss(ending(inputs[some], training=False), some)) for some in parts)
