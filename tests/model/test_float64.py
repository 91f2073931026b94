"""call_in_float64: float32 layers on float64 tensors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.model.float64 import call_in_float64

X = np.random.default_rng(0).normal(size=(2, 6, 6, 3))


class Foreign(keras.layers.Layer):
    """A layer from outside Keras that counts on float32."""

    def call(self, inputs):
        return inputs * tf.constant([0.1], tf.float32)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(4, 3, bias_initializer="normal"),
        keras.layers.DepthwiseConv2D(3, padding="same"),
        keras.layers.BatchNormalization(gamma_initializer="normal"),
        keras.layers.ReLU(6.0, negative_slope=0.3),
        keras.layers.Rescaling(1 / 3, offset=0.1),
    ],
    ids=lambda layer: layer.name,
)
def test_call_in_float64_equals_a_float64_copy(layer):
    layer(X.astype(np.float32))
    copy = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    copy.build(X.shape)
    copy.set_weights([np.asarray(weight, np.float64) for weight in layer.get_weights()])
    output = call_in_float64(layer, tf.constant(X))
    assert output.dtype == tf.float64
    casts = isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Rescaling))  # down to its own dtype, itself
    tolerance = 1e-7 if casts else 1e-14
    np.testing.assert_allclose(output, copy(X), rtol=tolerance, atol=tolerance)
    assert all(weight.dtype == "float32" for weight in layer.weights)
    assert layer(X.astype(np.float32)).dtype == tf.float32


@pytest.mark.parametrize(
    "layer", [Foreign(), keras.layers.TimeDistributed(keras.layers.Dense(2))], ids=lambda layer: layer.name
)
def test_layers_that_count_on_their_dtype_keep_it(layer):
    output = call_in_float64(layer, tf.constant(X))
    assert output.dtype == tf.float64
    np.testing.assert_array_equal(output, np.asarray(layer(X.astype(np.float32)), np.float64))
