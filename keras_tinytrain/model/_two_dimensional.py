"""Layers over sequences as layers over images of height 1, which is how TensorFlow Lite runs them."""

from typing import Any

import keras

from keras_tinytrain.model.graph import only, rebuild

_SAME_IN_BOTH = (  # layers that take images of height 1 as they take sequences
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Add,
    keras.layers.Multiply,
)


_TWINS: dict[type[keras.layers.Layer], type[keras.layers.Layer]] = {  # of the same configuration, one axis more
    keras.layers.Conv1D: keras.layers.Conv2D,
    keras.layers.DepthwiseConv1D: keras.layers.DepthwiseConv2D,
    keras.layers.MaxPooling1D: keras.layers.MaxPooling2D,
    keras.layers.AveragePooling1D: keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling1D: keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D: keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding1D: keras.layers.ZeroPadding2D,
    keras.layers.SpatialDropout1D: keras.layers.SpatialDropout2D,
}
_WINDOWS = ("kernel_size", "strides", "dilation_rate", "pool_size")


def two_dimensional(model: keras.Model) -> keras.Model:
    """`model` where convolutions and pooling over sequences (steps, channels) are those over images (1, steps, channels).

    Names are kept; a kernel (steps, in, out) becomes (1, steps, in, out), its values in the same order. The other layers are
    shared with `model`. Between the two forms stands a Reshape, "<layer>.image" or "<layer>.sequence".

    Args:
        model: a flat functional model.

    Returns:
        `model` itself where it has no such layer.
    """
    if not any(map(_has_twin, model.layers)):
        return model
    images: dict[int, Any] = {}  # tensors of images of height 1, by their id

    def call(layer, *args, **kwargs):
        tensors = keras.tree.flatten(args)
        are_images = [id(tensor) in images for tensor in tensors]
        twin = _has_twin(layer) or (all(are_images) and _takes_image(layer))
        change = _to_image if twin else _to_sequence
        moved = [
            tensor if image == twin else change(tensor, layer.name) for tensor, image in zip(tensors, are_images, strict=True)
        ]
        args = keras.tree.pack_sequence_as(args, moved)
        output = _call_twin(layer, *args) if twin else layer(*args, **kwargs)
        if twin and len(output.shape) == 4:
            images[id(output)] = output
        return output

    flat = rebuild(model, call)
    outputs = [_to_sequence(tensor, "output") if id(tensor) in images else tensor for tensor in flat.outputs]
    return keras.Model(flat.inputs[0] if len(flat.inputs) == 1 else flat.inputs, only(outputs), name=model.name)


def _has_twin(layer: keras.layers.Layer) -> bool:
    return type(layer) in _TWINS and getattr(layer, "data_format", "channels_last") == "channels_last"


def _takes_image(layer: keras.layers.Layer) -> bool:
    return type(layer) in _SAME_IN_BOTH or (_on_channels(layer) and layer.axis in (-1, 2))


def _on_channels(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Concatenate))


def _call_twin(layer: keras.layers.Layer, image: Any) -> Any:
    """The output of the layer that computes over images of height 1 as `layer` over sequences."""
    if type(layer) in _SAME_IN_BOTH:
        return layer(image)
    config = layer.get_config()
    if _on_channels(layer):
        config |= {"axis": -1}
    config |= {name: (1, *config[name]) for name in _WINDOWS if name in config}
    if isinstance(layer, keras.layers.DepthwiseConv1D):  # TensorFlow wants one stride, and the height of 1 stays
        config |= {"strides": layer.strides * 2}
    if isinstance(layer, keras.layers.ZeroPadding1D):
        config |= {"padding": ((0, 0), layer.padding)}
    if config.get("padding") == "causal":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        image = keras.layers.ZeroPadding2D(((0, 0), (before, 0)), name=f"{layer.name}.padding")(image)
        config |= {"padding": "valid"}
    twin = _TWINS.get(type(layer), type(layer)).from_config(config)
    output = twin(image)
    twin.set_weights([value.reshape(weight.shape) for value, weight in zip(layer.get_weights(), twin.weights, strict=True)])
    return output


def _to_image(tensor: Any, name: str) -> Any:
    return keras.layers.Reshape((1, *tensor.shape[1:]), name=f"{name}.image")(tensor)


def _to_sequence(tensor: Any, name: str) -> Any:
    return keras.layers.Reshape(tensor.shape[2:], name=f"{name}.sequence")(tensor)
