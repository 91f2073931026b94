"""Give a network whose BatchNorm was folded its BatchNorm back."""

import keras
import numpy as np

from keras_tinytrain.model.graph import flatten, rebuild
from keras_tinytrain.model.layers import layer_table


def with_batch_norm(network: keras.Model, x: np.ndarray) -> keras.Model:
    """A copy of `network` with a BatchNormalization "<layer>.bn" after each convolution; in inference it answers as before.

    The layer's moving statistics are those of the convolution's outputs y over `x`, and gamma = sqrt(var + epsilon), beta = mean,
    so that gamma (y - mean) / sqrt(var + epsilon) + beta = y.

    Args:
        network: a Functional model with activations as layers of their own.
        x: float32 (N, ...) samples.
    """
    convolutions = [row.name for row in layer_table(network).weighted if row.kind != "dense"]
    copies: dict[str, keras.layers.Layer] = {}

    def call(layer, *args, **kwargs):
        copy = copies[layer.name] = type(layer).from_config(layer.get_config())
        output = copy(*args, **kwargs)
        return keras.layers.BatchNormalization(name=f"{layer.name}.bn")(output) if layer.name in convolutions else output

    flat = flatten(network)
    normalised = rebuild(flat, call)
    for name, copy in copies.items():
        copy.set_weights(flat.get_layer(name).get_weights())
    for name in convolutions:
        values = keras.Model(flat.inputs, flat.get_layer(name).output).predict(x, verbose=0)
        mean, variance = (reduce(values, axis=(0, 1, 2), dtype=np.float64) for reduce in (np.mean, np.var))
        norm = normalised.get_layer(f"{name}.bn")
        norm.set_weights([np.sqrt(variance + norm.epsilon), mean, mean, variance])
    return normalised
