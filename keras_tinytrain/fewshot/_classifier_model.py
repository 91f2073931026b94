"""A few-shot classifier as one Keras model: the frozen part, then the adapted and the original trainable part."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_tinytrain.fewshot._heads import ORIGINAL, Head
from keras_tinytrain.fewshot._trainable_part import Source, split_at
from keras_tinytrain.fewshot.adapter import copy_model
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.graph import only, require_functional
from keras_tinytrain.model.private_keras import run_graph


@keras.saving.register_keras_serializable(package="keras_tinytrain")
class AverageLogits(keras.layers.Layer):
    """(1 - average) * adapted + average * original, of two tensors of logits (N, K).

    Args:
        average: weight of the second one, a fraction of 1.
    """

    def __init__(self, average: float, *, name: str = "average_logits", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.average = average

    def call(self, adapted, original):
        return (1 - self.average) * adapted + self.average * original

    def get_config(self):
        return {**super().get_config(), "average": self.average}


def classifier_model(
    backbone: keras.Model,
    weights: Sequence[tuple[Source, np.ndarray]],
    head: Head,
    original: Head | None,
    average: float,
) -> keras.Model:
    """Images -> logits (N, K), with weights of its own.

    Only the trainable part is there twice; the layers of the second one are called "original_<name>".

    Args:
        backbone: flat, images -> embeddings.
        weights: [(source, whole weight)] of the trained weights, see `trainable_part.Source`.
        head: of the adapted network.
        original: head of the original network; None for no averaging.
        average: weight of the original network's logits.
    """
    own = copy_model(backbone)
    logits = head.layer(own.output)
    if original is not None:
        frozen, trainable = split_at(own, [source.layer for source, _ in weights])
        features = own.input if frozen is None else frozen.output
        embedding = features if trainable is None else _second_copy(trainable, features)
        logits = AverageLogits(average)(logits, original.layer(embedding, ORIGINAL + original.NAME))
    for source, weight in weights:
        getattr(find_weights(own, source.layer), source.part).assign(weight)
    return keras.Model(own.input, logits, name=backbone.name)


def _second_copy(model, features):
    """`model` on the tensor `features`, by layers of their own."""
    copies = []

    def visit(layer):
        copy = layer.__class__.from_config({**layer.get_config(), "name": f"original_{layer.name}"})

        def call(*args, **kwargs):
            output = copy(*args, **kwargs)
            if isinstance(layer, keras.layers.Layer):
                copies.append((copy, layer))
            return output

        return call

    outputs = run_graph(require_functional(model), [features], visit)
    for copy, layer in copies:
        copy.set_weights(layer.get_weights())
    return only(outputs)
