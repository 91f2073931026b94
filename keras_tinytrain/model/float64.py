"""Call a float32 layer in float64, without a copy of it."""

import keras
import tensorflow as tf

from keras_tinytrain.model.private_keras import autocast_to, holds_layers


def call_in_float64(layer, *args, **kwargs):
    """`layer(*args, **kwargs)` on float64 tensors, with its float32 weights cast up while it runs.

    `layer.call` runs in place of `layer`, which would cast the inputs down to the layer's own dtype. Layers that hold other
    layers, and those from outside Keras, may rely on that dtype: they run in it, and only their output is cast. So do the
    few Keras layers that cast by themselves, such as a BatchNormalization that could not be folded.

    Returns:
        The output of the layer, floating-point tensors as float64.
    """
    if _can_change_dtype(layer):
        with autocast_to("float64"):
            outputs = layer.call(*args, **kwargs)
    else:
        outputs = layer(*args, **kwargs)
    return tf.nest.map_structure(_as_float64, outputs)


def _can_change_dtype(layer):
    if not isinstance(layer, keras.layers.Layer):
        return True  # an operation such as keras.ops.add has no dtype of its own
    return type(layer).__module__.startswith("keras.") and not holds_layers(layer)


def _as_float64(tensor):
    return tf.cast(tensor, tf.float64) if tensor.dtype.is_floating else tensor
