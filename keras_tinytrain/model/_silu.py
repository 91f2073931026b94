"""SiLU as TensorFlow Lite computes it: a product of its input and a sigmoid."""

import keras

from keras_tinytrain.model.graph import rebuild


def is_silu(layer: keras.layers.Layer) -> bool:
    """Whether a layer is the activation SiLU, which is also called swish."""
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.silu


def separate_silu(model: keras.Model) -> keras.Model:
    """`model` with SiLU layers as "<layer>.sigmoid" and a Multiply of the layer's name; the others are shared with `model`.

    Args:
        model: a flat functional model.
    """
    if not any(map(is_silu, model.layers)):
        return model

    def call(layer, *args, **kwargs):
        if not is_silu(layer):
            return layer(*args, **kwargs)
        gate = keras.layers.Activation("sigmoid", name=f"{layer.name}.sigmoid")(*args)
        return keras.layers.Multiply(name=layer.name)([*args, gate])

    return rebuild(model, call)
