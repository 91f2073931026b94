"""Fisher information word by word as the formula has it, for comparison."""

import keras
import numpy as np
import tensorflow as tf


def float64_copy(model):
    """The same network computed in float64."""
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    )
    copy.set_weights([np.asarray(weight, np.float64) for weight in model.get_weights()])
    return copy


def by_the_formula(model, x, loss, names):
    """Delta_o = 1/(2N) sum_n (sum_d a_nd g_nd)^2, sample by sample, position by position."""
    probe = keras.Model(model.input, [model.get_layer(name).output for name in names] + [model.output])
    deltas = dict.fromkeys(names, 0.0)
    for index in range(len(x)):
        sample = tf.convert_to_tensor(x[index : index + 1])
        with tf.GradientTape() as tape:
            tape.watch(sample)
            *activations, outputs = probe(sample)
            value = loss(outputs, np.array([index]))
        for name, a, g in zip(names, activations, tape.gradient(value, activations), strict=True):
            a, g = (np.asarray(tensor, np.float64).reshape(-1, tensor.shape[-1]) for tensor in (a, g))
            deltas[name] += sum(a[d] * g[d] for d in range(len(a))) ** 2 / (2 * len(x))
    return deltas
