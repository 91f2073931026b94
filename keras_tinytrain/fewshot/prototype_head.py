"""The classifier after a backbone: cosine to class prototypes, which are computed from samples, not trained."""

from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits


@keras.saving.register_keras_serializable(package="keras_tinytrain")
class PrototypeHead(keras.layers.Layer):
    """logit_k = scale * cos(z, prototype_k).

    The prototypes are the columns of `kernel`, float32 (embedding, num_classes). They are learned and no part of the base
    model, so a `Delta` carries them.

    Args:
        num_classes: number of prototypes.
        scale: inverse temperature.
    """

    learned_state = True

    def __init__(self, num_classes: int, *, scale: float = 10.0, name: str = "prototypes", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.scale = scale
        self.use_bias = False

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], self.num_classes), initializer="zeros", trainable=False, name="kernel"
        )

    def call(self, embeddings):
        return cosine_logits(embeddings, keras.ops.transpose(self.kernel), self.scale)

    def set_prototypes(self, embeddings: Any, labels: Any) -> None:
        """Replace the prototypes by the class means of `embeddings` (N, embedding) with `labels` (N,)."""
        self.kernel.assign(keras.ops.transpose(class_prototypes(embeddings, labels, self.num_classes)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "scale": self.scale}


class UpdatePrototypes(keras.callbacks.Callback):
    """Recomputes a model's prototypes from the un-augmented support set before every epoch, and once more at the end.

    The gradient does not flow through them. Put it before `TinyTrainCallback`.

    Args:
        backbone: the model whose output is the embedding.
        head: its `PrototypeHead`.
        support_x, support_y: the labelled samples.
    """

    def __init__(self, backbone: keras.Model, head: PrototypeHead, support_x: Any, support_y: Any):
        super().__init__()
        support_x = tf.convert_to_tensor(support_x)
        self._embed = tf.function(lambda: backbone(support_x, training=False), jit_compile=False)
        self._head = head
        self._labels = support_y

    def on_epoch_begin(self, epoch, logs=None):
        self._head.set_prototypes(self._embed(), self._labels)

    def on_train_end(self, logs=None):
        self._head.set_prototypes(self._embed(), self._labels)
