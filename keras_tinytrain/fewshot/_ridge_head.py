"""The closed-form head of a few-shot classifier: pooled maps and embedding -> logits."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.delta import ChannelValues
from keras_tinytrain.fewshot.prototypes import SCALE, l2_normalize
from keras_tinytrain.fewshot.ridge import class_rows, leave_one_out, normalised, solve
from keras_tinytrain.fewshot.unknown import COSINE_WEIGHT, KNOWN

_FROM_DELTA = "it comes from a delta. Call adapt(..., head='ridge') with the samples of all classes."


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeHead:
    """logit_k = 10 score_k, see `ridge`.

    Args:
        means: float32 (D,), of the support set.
        kernel: float32 (K, D).
        maps: names of the layers that the features come from; the embedding is their last part.
        sizes: number of features of each part.
        features, labels: (N, D) and (N,), the support set; None where it is not known, as in a delta. Samples of no class have
            label K.
        class_rows: float32 (K, D), of rows that are not centred, for the familiarity; None where they are not known.
        unknown: float32 (D,), kernel of the samples of no class; None where there are none.
    """

    means: np.ndarray
    kernel: np.ndarray
    maps: tuple[str, ...]
    sizes: tuple[int, ...]
    features: np.ndarray | None = None
    labels: np.ndarray | None = None
    class_rows: np.ndarray | None = None
    unknown: np.ndarray | None = None
    NAME = "ridge"

    @classmethod
    def of(cls, features: Any, labels: Any, num_classes: int, maps: tuple[str, ...], sizes: tuple[int, ...]) -> "RidgeHead":
        """Solve for features (N, D) with labels (N,); label `num_classes` is that of samples of no class."""
        features, labels = np.asarray(features), np.asarray(labels)
        found = solve(features, labels, max(num_classes, int(labels.max()) + 1), sizes)
        kernel, rows = np.ascontiguousarray(found.kernel.T), normalised(features, np.zeros(features.shape[1]), sizes)
        means = class_rows(rows, labels, num_classes, sizes).astype(np.float32)
        unknown = kernel[num_classes] if len(kernel) > num_classes else None
        return cls(found.means, kernel[:num_classes], maps, sizes, features, labels, means, unknown)

    @property
    def num_classes(self) -> int:
        return len(self.kernel)

    @functools.cached_property
    def leave_one_out(self) -> float:
        """Accuracy on the support set, each sample by the solution without it; nan where the samples are not known."""
        if self.features is None or self.labels is None:
            return float("nan")
        scores = leave_one_out(self.features, self.labels, max(self.num_classes, int(self.labels.max()) + 1), self.sizes)
        return float(np.mean(np.argmax(scores, axis=1) == self.labels))

    def logits(self, features: Any) -> tf.Tensor:
        """float32 (N, D) -> (N, K)."""
        return ridge_logits(features, self.means, self.kernel.T, self.sizes)

    def familiarity(self, features: Any) -> np.ndarray:
        """float32 (N, D) -> (N, K), see `unknown`. Raises ValueError where the class means are not known."""
        class_rows = self._known()
        features = np.asarray(features)
        scores = normalised(features, self.means, self.sizes)
        cosines = normalised(features, np.zeros_like(self.means), self.sizes) @ class_rows.T
        unknown = 0 if self.unknown is None else (scores @ self.unknown)[:, None]
        return scores @ self.kernel.T - unknown + COSINE_WEIGHT * cosines

    def _known(self):
        if self.class_rows is None:
            raise ValueError(f"This head does not know what its classes look like: {_FROM_DELTA}")
        return self.class_rows

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        """(features, labels). Raises ValueError where they are not known."""
        if self.features is None or self.labels is None:
            raise ValueError(f"A closed-form head is solved anew, and this one holds no samples: {_FROM_DELTA}")
        return self.features, self.labels

    def with_class(self, features: Any, *, unknown: bool = False) -> "RidgeHead":
        """This head solved anew with samples (n, D) of one more class, or of no class.

        Raises ValueError where the support set is not known.
        """
        rows, labels = self.support()
        count = self.num_classes + (not unknown)
        labels = np.where(labels == self.num_classes, count, labels)  # those of no class keep the last label
        labels = np.append(labels, np.full(len(features), self.num_classes))
        return RidgeHead.of(np.concatenate([rows, np.asarray(features)]), labels, count, self.maps, self.sizes)

    def without(self, left_out: np.ndarray) -> "RidgeHead":
        """This head solved anew without the samples of a mask (N,); a class without samples is none."""
        features, labels = self.support()
        present, labels = np.unique(labels[~left_out], return_inverse=True)
        return RidgeHead.of(features[~left_out], labels, int(np.sum(present < self.num_classes)), self.maps, self.sizes)

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

    def known_record(self, threshold: float, name: str = KNOWN) -> ChannelValues:
        """What the familiarity needs, as a delta holds it: a row for each class, then `unknown`; the threshold for each row."""
        values = self._known() if self.unknown is None else np.concatenate([self._known(), self.unknown[None]])
        return ChannelValues(name, tuple(range(len(values))), values, np.full(len(values), threshold, np.float32))

    def with_known(self, record: ChannelValues) -> "RidgeHead":
        """This head of a delta with what `known_record` holds. Raises ValueError where the record is not of this head."""
        expected = self.kernel.shape
        if record.values.shape not in (expected, (expected[0] + 1, expected[1])):
            raise ValueError(f"The delta's record '{record.name}' has shape {record.values.shape}; its head is {expected}.")
        unknown = record.values[self.num_classes] if len(record.values) > self.num_classes else None
        return dataclasses.replace(self, class_rows=record.values[: self.num_classes], unknown=unknown)

    def layer(self, features: keras.KerasTensor, name: str = NAME) -> keras.KerasTensor:
        """Its Keras layer, called on a symbolic tensor: the logits."""
        layer = RidgeLogits(self.num_classes, self.sizes, name=name)
        logits = layer(features)
        layer.set_weights([self.means, self.kernel.T])
        return logits


def threshold_in(record: ChannelValues) -> float:
    """The threshold of `known_record`. Raises ValueError where the record has none."""
    if record.biases is None or not len(record.biases):
        raise ValueError(f"The delta's record '{record.name}' holds no threshold.")
    return float(record.biases[0])


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
    centred = [keras.ops.subtract(features, means)]
    if len(sizes) > 1:  # Keras takes an empty list of places for floats
        centred = keras.ops.split(centred[0], np.cumsum(sizes)[:-1].tolist(), axis=-1)
    rows = keras.ops.concatenate([l2_normalize(part) for part in centred], axis=-1)
    return keras.ops.matmul(rows, kernel) * (SCALE / len(sizes) ** 0.5)
