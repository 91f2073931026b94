"""The closed-form head of a few-shot classifier: pooled maps and embedding -> logits."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.delta import ChannelValues
from keras_tinytrain.fewshot.prototypes import SCALE, l2_normalize
from keras_tinytrain.fewshot.ridge import solve


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeHead:
    """logit_k = 10 score_k, see `ridge`.

    Args:
        means: float32 (D,), of the support set.
        kernel: float32 (K, D).
        maps: names of the layers that the features come from; the embedding is their last part.
        sizes: number of features of each part.
        features, labels: (N, D) and (N,), the support set; None where it is not known, as in a delta.
        leave_one_out: accuracy on the support set, each sample by the solution without it; nan where that is not known.
    """

    means: np.ndarray
    kernel: np.ndarray
    maps: tuple[str, ...]
    sizes: tuple[int, ...]
    features: np.ndarray | None = None
    labels: np.ndarray | None = None
    leave_one_out: float = float("nan")
    NAME = "ridge"

    @classmethod
    def of(cls, features: Any, labels: Any, num_classes: int, maps: tuple[str, ...], sizes: tuple[int, ...]) -> "RidgeHead":
        """Solve for features (N, D) with labels (N,)."""
        features, labels = np.asarray(features), np.asarray(labels)
        found = solve(features, labels, num_classes, sizes)
        return cls(found.means, np.ascontiguousarray(found.kernel.T), maps, sizes, features, labels, found.accuracy(labels))

    @property
    def num_classes(self) -> int:
        return len(self.kernel)

    def logits(self, features: Any) -> tf.Tensor:
        """float32 (N, D) -> (N, K)."""
        return ridge_logits(features, self.means, self.kernel.T, self.sizes)

    def with_class(self, features: Any) -> "RidgeHead":
        """This head solved anew with one more class, of samples (n, D). Raises ValueError where the support set is not known."""
        if self.features is None or self.labels is None:
            raise ValueError(
                "A closed-form head is solved anew for a new class, and this one holds no samples: it comes from a delta. "
                "Call adapt(..., head='ridge') with the samples of all classes."
            )
        rows = np.concatenate([self.features, np.asarray(features)])
        labels = np.append(self.labels, np.full(len(features), self.num_classes))
        return RidgeHead.of(rows, labels, self.num_classes + 1, self.maps, self.sizes)

    def record(self, name: str = NAME) -> ChannelValues:
        """As a delta holds it: a row for each class, then the means."""
        values = np.concatenate([self.kernel, self.means[None]])
        return ChannelValues(name, tuple(range(len(values))), values, None)

    @classmethod
    def from_record(cls, record: ChannelValues, maps: tuple[str, ...], sizes: tuple[int, ...]) -> "RidgeHead":
        """Raises ValueError where the record is not of these maps."""
        *kernel, means = record.values
        if means.shape != (sum(sizes),):
            raise ValueError(
                f"The delta's closed-form head reads {means.size} features, and maps {', '.join(maps)} with the embedding give "
                f"{sum(sizes)}. Give `maps` as `adapt` had them."
            )
        return cls(means, np.stack(kernel), maps, sizes)

    def layer(self, features: keras.KerasTensor, name: str = NAME) -> keras.KerasTensor:
        """Its Keras layer, called on a symbolic tensor: the logits."""
        layer = RidgeLogits(self.num_classes, self.sizes, name=name)
        logits = layer(features)
        layer.set_weights([self.means, self.kernel.T])
        return logits


@keras.saving.register_keras_serializable(package="keras_tinytrain")
class RidgeLogits(keras.layers.Layer):
    """`ridge_logits` of features (N, D), with weights `means` (D,) and `kernel` (D, num_classes)."""

    learned_state = True

    def __init__(self, num_classes: int, sizes: Sequence[int], *, name: str = RidgeHead.NAME, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_classes, self.sizes, self.use_bias = num_classes, tuple(sizes), False

    def build(self, input_shape):
        size = input_shape[-1]
        self.means = self.add_weight(shape=(size,), initializer="zeros", trainable=False, name="means")
        self.kernel = self.add_weight(shape=(size, self.num_classes), initializer="zeros", trainable=False, name="kernel")

    def call(self, features):
        return ridge_logits(features, self.means, self.kernel, self.sizes)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "sizes": self.sizes}


def ridge_logits(features, means, kernel, sizes):
    """10 times the scores of `ridge`, as tensors: features (N, D), means (D,) and kernel (D, K) -> (N, K)."""
    centred = keras.ops.split(keras.ops.subtract(features, means), np.cumsum(sizes)[:-1].tolist(), axis=-1)
    rows = keras.ops.concatenate([l2_normalize(part) for part in centred], axis=-1)
    return keras.ops.matmul(rows, kernel) * (SCALE / len(sizes) ** 0.5)
