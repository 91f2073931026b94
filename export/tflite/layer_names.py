"""The Keras layers that the converter's names of tensors stand for."""

import re

from keras_tinytrain.export.tflite.flatbuffer import schema, tensor_name

Needs = list[tuple[str, str]]  # (layer, an operator that it needs)


def layer_name(model: schema.ModelT, tensor: int) -> str:
    """The Keras layer whose output a tensor is, in a model that `convert_int8` wrote."""
    return tensor_name(model, tensor).split(";")[0]


def operator_of(model: schema.ModelT, layer: str) -> int:
    """The last operator that computes a Keras layer, in a model that `convert_int8` wrote. Raises ValueError where none does."""
    for index, operator in reversed(list(enumerate(model.subgraphs[0].operators))):
        if layer in tensor_name(model, int(operator.outputs[0])).split(";"):
            return index
    raise ValueError(
        f"Layer '{layer}' is no operator of the converted model, so that a closed-form head cannot read its output."
    )


def output_of(model: schema.ModelT, layer: str) -> int:
    """The tensor that `operator_of` writes."""
    return int(model.subgraphs[0].operators[operator_of(model, layer)].outputs[0])


def layers_in(name: str, layer_names: list[str]) -> list[str]:
    """The Keras layers in the converter's name of a tensor, such as "model_1/relu_1/Relu;model_1/conv_1/convolution".

    TensorFlow appends "_1" to each scope: "conv_1" stands for a layer "conv", "conv_1_1" for a layer "conv_1".
    """
    found: list[str] = []
    for scope in (scope for part in name.split(";") for scope in part.split("/")[::-1]):
        candidates = (re.sub(r"_\d+$", "", scope), scope)
        found += [candidate for candidate in candidates if candidate in layer_names][:1]
    return list(dict.fromkeys(found))


def needs_in_words(needs: Needs) -> str:
    """ "Layers 'a', 'b' need NEG, ERF" for an error."""
    layers, kinds = (list(dict.fromkeys(each)) for each in zip(*needs, strict=True))
    several = len(layers) > 1
    return f"Layer{'s' * several} {', '.join(map(repr, layers))} need{'s' * (not several)} {', '.join(kinds)}"
