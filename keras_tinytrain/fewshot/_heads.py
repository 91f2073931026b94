"""Heads of a few-shot classifier: cosine to prototypes, a trained dense layer, or the closed-form head."""

import dataclasses
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.delta import ChannelValues
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot.prototype_head import PrototypeHead
from keras_tinytrain.fewshot.prototypes import SCALE, class_prototypes, cosine_logits

ORIGINAL = "original_"  # before the name of the original network's head, of its layer and of the delta's record


@dataclasses.dataclass(frozen=True, eq=False)
class CosineHead:
    """logit_k = 10 cos(z, prototype_k).

    Args:
        prototypes: float32 (K, D).
    """

    prototypes: np.ndarray
    NAME = "prototypes"
    maps = None  # it reads the embedding alone
    SPECS = ()  # of the tensors that are trained

    @classmethod
    def of(cls, embeddings: Any, labels: Any, num_classes: int) -> "CosineHead":
        """The class means of embeddings (N, D) with labels (N,)."""
        return cls(np.asarray(class_prototypes(embeddings, labels, num_classes)))

    @property
    def num_classes(self) -> int:
        return len(self.prototypes)

    def tensors(self) -> list[tf.Tensor]:
        """The trained tensors: none."""
        return []

    def trained(self, tensors: list[tf.Tensor], embeddings: Any, labels: Any) -> "CosineHead":
        """The head after training: the class means of the new embeddings."""
        return CosineHead.of(embeddings, labels, self.num_classes)

    def logits(self, embeddings: Any) -> tf.Tensor:
        """float32 (N, D) -> (N, K)."""
        return cosine_logits(embeddings, self.prototypes, SCALE)

    def with_class(self, embeddings: Any) -> "CosineHead":
        """This head with one more class, whose samples have `embeddings` (n, D)."""
        return CosineHead(np.concatenate([self.prototypes, np.mean(embeddings, axis=0, keepdims=True)]))

    def record(self, name: str = NAME) -> ChannelValues:
        """As a delta holds it."""
        return ChannelValues(name, tuple(range(self.num_classes)), self.prototypes, None)

    @classmethod
    def from_record(cls, record: ChannelValues) -> "CosineHead":
        return cls(record.values)

    def layer(self, embeddings: keras.KerasTensor, name: str = NAME) -> keras.KerasTensor:
        """Its Keras layer, called on a symbolic tensor: the logits."""
        layer = PrototypeHead(self.num_classes, scale=SCALE, name=name)
        logits = layer(embeddings)
        layer.kernel.assign(self.prototypes.T)
        return logits


@dataclasses.dataclass(frozen=True, eq=False)
class SoftmaxHead:
    """logit_k = w_k z + b_k, trained with the network.

    Args:
        kernel: float32 (K, D), w.
        bias: float32 (K,).
    """

    kernel: np.ndarray
    bias: np.ndarray
    NAME = "classes"
    maps = None  # it reads the embedding alone
    SPECS = (tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.float32))

    @classmethod
    def from_prototypes(cls, prototypes: np.ndarray, embeddings: Any) -> "SoftmaxHead":
        """The head that training begins with: w_k = 10 c_k / (||c_k|| mean_n ||z_n||), b = 0.

        For an embedding of mean length that is the cosine logit 10 cos(z, c_k).

        Args:
            prototypes: (K, D), c.
            embeddings: (N, D) of the samples, z.
        """
        length = np.linalg.norm(embeddings, axis=1).mean() * np.linalg.norm(prototypes, axis=1, keepdims=True)
        kernel = SCALE * np.asarray(prototypes) / np.maximum(length, 1e-12)
        return cls(kernel.astype(np.float32), np.zeros(len(kernel), np.float32))

    @property
    def num_classes(self) -> int:
        return len(self.bias)

    def tensors(self) -> list[tf.Tensor]:
        """The trained tensors: [kernel (D, K), bias (K,)]."""
        return [tf.constant(self.kernel.T), tf.constant(self.bias)]

    def trained(self, tensors: list[tf.Tensor], embeddings: Any, labels: Any) -> "SoftmaxHead":
        """The head after training, from the tensors that it gave."""
        kernel, bias = map(np.asarray, tensors)
        return SoftmaxHead(np.ascontiguousarray(kernel.T), bias)

    def logits(self, embeddings: Any) -> tf.Tensor:
        """float32 (N, D) -> (N, K)."""
        return tf.matmul(embeddings, self.kernel, transpose_b=True) + self.bias

    def with_class(self, embeddings: Any) -> "SoftmaxHead":
        """One more class, of `embeddings` (n, D): w along their mean, of the mean length of the other classes' w; b their mean."""
        prototype = np.mean(embeddings, axis=0)
        length = np.linalg.norm(self.kernel, axis=1).mean()
        added = prototype * (length / max(np.linalg.norm(prototype), 1e-12))
        kernel, bias = np.concatenate([self.kernel, added[None]]), np.append(self.bias, self.bias.mean())
        return SoftmaxHead(kernel.astype(np.float32), bias.astype(np.float32))

    def record(self, name: str = NAME) -> ChannelValues:
        """As a delta holds it."""
        return ChannelValues(name, tuple(range(self.num_classes)), self.kernel, self.bias)

    @classmethod
    def from_record(cls, record: ChannelValues) -> "SoftmaxHead":
        if record.biases is None:
            raise ValueError(f"The delta's record '{record.name}' holds no biases, which a dense head has.")
        return cls(record.values, record.biases)

    def layer(self, embeddings: keras.KerasTensor, name: str = NAME) -> keras.KerasTensor:
        """Its Keras layer, called on a symbolic tensor: the logits."""
        layer = keras.layers.Dense(self.num_classes, name=name)
        logits = layer(embeddings)
        layer.set_weights([self.kernel.T, self.bias])
        return logits


Head: TypeAlias = CosineHead | SoftmaxHead | RidgeHead
HEADS: dict[str, type[Head]] = {"prototypes": CosineHead, "softmax": SoftmaxHead, "ridge": RidgeHead}
