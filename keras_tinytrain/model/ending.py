"""The end of a model: the shape of its output, the softmax or sigmoid there, and the backbone in front of its head."""

import math
from collections.abc import Sequence

import keras

from keras_tinytrain.model.graph import Node, flatten, only, rebuild, walk
from keras_tinytrain.model.head import classifier_head

_SHAPE_ONLY = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Dropout, keras.layers.Identity)
_POOLINGS = {2: "GlobalAveragePooling1D", 3: "GlobalAveragePooling2D", 4: "GlobalAveragePooling3D"}  # by axes of a sample


def num_outputs(model: keras.Model) -> int:
    """Values of the model's output for one sample. Raises ValueError where it is not one vector."""
    outputs = keras.tree.flatten(model.outputs)
    if len(outputs) != 1:
        names = [output.name for output in outputs]
        raise ValueError(
            f"Model '{model.name}' has {len(outputs)} outputs {names}; pass keras.Model(model.input, one of them)."
        )
    shape = tuple(outputs[0].shape[1:])
    if len(shape) != 1:
        if len(shape) > 1 and shape == tuple(model.inputs[0].shape[1:]) and (code := _narrowest(model)) is not None:
            tensor = _as_vector(f"model.get_layer('{code.layer.name}').output", tuple(code.output.shape[1:]))
            raise ValueError(
                f"Model '{model.name}' gives back the shape of its input, {shape}, as an autoencoder does; expected one vector for each "
                f"sample. Pass its encoder: keras.Model(model.input, {tensor})."
            )
        what = "a sequence" if len(shape) == 2 else "a map" if len(shape) > 2 else "a number"
        raise ValueError(
            f"The output of model '{model.name}' is {what} of shape {shape}; expected one vector for each sample: build the network "
            f"with pooling='avg', or add a layer: keras.Model(model.input, {_as_vector('model.output', shape)})."
        )
    return shape[0]


def _narrowest(model: keras.Model) -> Node | None:
    """The first layer with the fewest values, more than one channel among them: one number a sample is no embedding."""
    wide = [node for node in walk(flatten(model)) if node.inputs and (node.output.shape[-1] or 0) > 1]
    return min(wide, key=lambda node: math.prod(size or 1 for size in node.output.shape[1:]), default=None)


def ending(model: keras.Model) -> str:
    """ "softmax" or "sigmoid" where `model` ends in one, whatever only changes its shape after that; else ""."""
    name = _function(_ending_node(model).layer)
    return name if name in ("softmax", "sigmoid") else ""


def without_ending(model: keras.Model) -> keras.Model:
    """`model` up to its logits: a softmax or sigmoid at its end is removed; layers are shared.

    Args:
        model: in canonical form, where activations are layers of their own.
    """
    return _without_last(model) if ending(model) else model


def without_normalisation(model: keras.Model) -> keras.Model:
    """`model` without a scaling of its output vector to length 1 at the end, which a cosine does not see; layers are shared."""
    last = _ending_node(model)
    scales = _function(last.layer) in ("unitnormalization", "normalize") and getattr(last.layer, "order", 2) == 2
    return _without_last(model) if scales and len(last.output.shape) == 2 else model


def _without_last(model):
    last = _ending_node(model).layer
    return rebuild(model, lambda layer, *args, **kwargs: args[0] if layer is last else layer(*args, **kwargs))


def backbone_of(model: keras.Model) -> keras.Model:
    """A classifier `model` up to the input of its head, as a vector; layers are shared.

    Raises:
        ValueError: it has no head, and does not end in a softmax or sigmoid.
    """
    if classifier_head(model) is None and not ending(model):
        raise ValueError(
            f"Model '{model.name}' ends in no classifier's head: expected a Dense layer or a convolution that makes a value for each "
            "class, or a softmax. It is a backbone as it is."
        )
    flat = flatten(model)
    source = _before_head(model, walk(flat))
    pooling = _vector_layer(tuple(source.output.shape[1:]))
    return keras.Model(
        flat.inputs, getattr(keras.layers, pooling)()(source.output) if pooling else source.output, name=model.name
    )


def backbone_text(model: keras.Model) -> str:
    """Python that makes what `backbone_of` makes, as errors quote it."""
    source = _before_head(model, walk(flatten(model)))
    known = any(layer.name == source.layer.name for layer in model.layers)
    first, flat = ("", "model") if known else ("flat = keras_tinytrain.fold_batch_norm(model); ", "flat")  # of nested models
    tensor = f"{flat}.get_layer('{source.layer.name}').output"
    return f"{first}keras.Model({flat}.inputs, {_as_vector(tensor, tuple(source.output.shape[1:]))})"


def _before_head(model: keras.Model, nodes: Sequence[Node]) -> Node:
    """Of `nodes` of the flat model, the input of its head or of its softmax."""
    head = classifier_head(model)
    last = next((node for node in nodes if node.layer.name == head), _ending_node(model))
    return nodes[last.inputs[0]] if last.inputs else last


def _vector_layer(shape: tuple[int, ...]) -> str:
    """The class of the layer that makes a vector of `shape`; "" where it is one."""
    single = shape and math.prod(size or 0 for size in shape) == shape[-1]
    return "" if len(shape) == 1 else "Flatten" if single else _POOLINGS.get(len(shape), "Flatten")


def _as_vector(tensor: str, shape: tuple[int, ...]) -> str:
    layer = _vector_layer(shape)
    return f"keras.layers.{layer}()({tensor})" if layer else tensor


def _ending_node(model: keras.Model) -> Node:
    """The last node that does more than change the shape."""
    flat = flatten(model)
    nodes, output = walk(flat), only(flat.outputs)
    node = next((node for node in nodes if node.output is output), nodes[-1])
    while node.inputs and isinstance(node.layer, _SHAPE_ONLY):
        node = nodes[node.inputs[0]]
    return node


def _function(layer: keras.layers.Layer) -> str:
    """The name of the function that a layer applies last; a softmax that is an operation is of a class `Softmax`, too."""
    function = getattr(layer, "activation", None)
    return getattr(function, "__name__", type(layer).__name__.lower())
