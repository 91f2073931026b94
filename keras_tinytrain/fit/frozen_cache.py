"""Run the frozen part of a model once per distinct sample, and not again when `fit` shows the sample again."""

import hashlib

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.graph import flatten, walk
from keras_tinytrain.model.private_keras import all_layers
from keras_tinytrain.model.split import split_model
from keras_tinytrain.plan import Plan


class FrozenCache:
    """The frozen part's output for each sample, found again by the sample's SHA-256.

    A callback cannot replace the data of `fit`, and batches are shuffled, so samples are known by their bytes. Data sets,
    weights, validation and other callbacks need no change. Training on data that never repeat is correct too, but not faster.

    Args:
        frozen: samples (N, ...) -> features (N, ...); it neither changes nor draws at random.
        limit_bytes: of the features that are kept; all others are computed each time.

    Attributes:
        num_computed: samples that went through the frozen part so far.
        num_read: samples whose features were kept already.
    """

    def __init__(self, frozen: keras.Model, limit_bytes: int):
        self._run = tf.function(lambda x: frozen(x, training=False), jit_compile=False, reduce_retracing=True)
        self._limit_bytes = limit_bytes
        self.clear()

    def __call__(self, x: ArrayLike) -> tf.Tensor:
        """Features of the samples x (N, ...)."""
        x = np.ascontiguousarray(x)
        keys = [hashlib.sha256(sample.data).digest() for sample in x]
        first_at = {key: index for index, key in reversed(list(enumerate(keys))) if key not in self._features}
        new = dict(zip(first_at, self._run(x[list(first_at.values())]).numpy())) if first_at else {}
        features = tf.constant(np.stack([self._features[key] if key in self._features else new[key] for key in keys]))
        for key, value in new.items():
            self._keep(key, value)
        self.num_computed += len(new)
        self.num_read += len(keys) - len(new)
        return features

    @property
    def num_bytes(self) -> int:
        """Of the features that are kept."""
        return self._limit_bytes - self._free_bytes

    def clear(self) -> None:
        """Forget all features and counts."""
        self._features: dict[bytes, np.ndarray] = {}
        self._free_bytes = self._limit_bytes
        self.num_computed = self.num_read = 0

    def _keep(self, key, value):
        if value.nbytes <= self._free_bytes:
            self._free_bytes -= value.nbytes
            self._features[key] = value.copy()  # not a view that keeps its whole batch alive


def split_for_cache(model: keras.Model, plan: Plan) -> tuple[keras.Model, keras.Model]:
    """The frozen part and the trainable part of `model`, which share its layers.

    The trainable part begins at the earliest layer that must run at every step: one that `plan` trains, draws at random or
    adds a loss.

    Raises:
        ValueError: the frozen part is empty, or the model cannot be walked.
    """
    flat, trained = flatten(model), {find_weights(model, layer.name).layer_name for layer in plan.layers}
    first = next(node.layer for node in walk(flat) if node.layer.name in trained or _differs_each_time(node.layer))
    frozen, trainable = split_model(flat, first.name)
    if frozen is None:
        raise ValueError(
            f"cache_frozen: model '{model.name}' has no layer before layer '{first.name}', which must run at every step. "
            "Leave cache_frozen out; or, where that layer augments, augment the data instead, so that its views repeat."
        )
    return frozen, trainable


def _differs_each_time(layer):
    if not isinstance(layer, keras.layers.Layer):
        return False
    inner = [layer, *all_layers(layer)]
    draws = any(isinstance(value, keras.random.SeedGenerator) for each in inner for value in vars(each).values())
    return draws or any(each.activity_regularizer is not None for each in inner)
