"""Quantisation-aware models of tensorflow-model-optimization -> .tflite, with the ranges that their training found.

Such a model is one of tf_keras, whose layers are wrapped: "quant_<layer>" holds the layer and the ranges of its weights and
output. The converter folds BatchNorm and turns those ranges into scales; no calibration is needed. A plan speaks of the layers
inside the wrappers.
"""

import math
import typing

import numpy as np
import tensorflow as tf

from keras_tinytrain._quiet import quiet
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.convert import finished

TfKerasModel = typing.Any  # tf_keras.Model: the library has no types, and may not be installed
_PREFIX = "quant_"  # tfmot's QuantizeWrapper names itself so
_KERNELS = {
    "Conv2D": ("CONV_2D", "kernel"),
    "DepthwiseConv2D": ("DEPTHWISE_CONV_2D", "depthwise_kernel"),
    "Dense": ("FULLY_CONNECTED", "kernel"),
}


def is_tf_keras(model: typing.Any) -> bool:
    """Whether `model` was built with tf_keras, as every model of tensorflow-model-optimization is."""
    return type(model).__module__.split(".")[0] == "tf_keras"


def layer_names(model: TfKerasModel) -> list[str]:
    """Names of the layers in execution order, without their wrappers."""
    return [_inside(layer).name for layer in model.layers]


def convert_quantize_aware(model: TfKerasModel) -> bytes:
    """The int8 .tflite of a quantisation-aware model, as `convert.convert_int8` writes it.

    Raises:
        ValueError: it is a plain tf_keras model, TensorFlow cannot convert it, or a part of it is not quantised.
    """
    import tf_keras

    if not any(layer.name.startswith(_PREFIX) and hasattr(layer, "layer") for layer in model.layers):
        raise ValueError(
            f"Model '{model.name}' is a tf_keras model without quantizers. Pass what "
            "tensorflow_model_optimization.quantization.keras.quantize_model made of it, or build it with Keras 3."
        )
    image = tf_keras.Input(batch_shape=(1, *model.input_shape[1:]), dtype=model.inputs[0].dtype)
    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.Model(image, model(image)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # see convert.py
    with quiet() as output:
        try:
            model_bytes = converter.convert()
        except Exception as error:
            raise ValueError(f"TensorFlow could not convert model '{model.name}': {error}\n{output()[-2000:]}") from error
    _check_all_int8(model_bytes)
    names = layer_names(model)
    return finished(model_bytes, names, lambda whole, operator: _layers_of(whole, operator, names))


def layers_in(name: str, names: list[str]) -> list[str]:
    """The layers in the converter's name of a tensor, such as "model_1/model/quant_relu/Relu;model_1/model/quant_conv/Conv2D"."""
    scopes = [scope.removeprefix(_PREFIX) for part in name.split(";") for scope in part.split("/")]
    return list(dict.fromkeys(scope for scope in scopes if scope in names))


def _layers_of(whole: fb.schema.ModelT, operator: fb.schema.OperatorT, names: list[str]) -> list[str]:
    """By the names of the output and, where it has one, of the kernel."""
    kernel = [int(tensor) for tensor in operator.inputs[1:2] if fb.constant(whole, int(tensor)) is not None]
    text = ";".join(fb.tensor_name(whole, tensor) for tensor in (int(operator.outputs[0]), *kernel))
    return layers_in(text, names)


def operator_of(whole: fb.schema.ModelT, model: TfKerasModel, name: str) -> int:
    """Index of the operator that computes layer `name`, in an int8 model whose tensors are named after their layers.

    Raises:
        ValueError: there is no such layer, it holds no kernel, or the converter merged it with another.
    """
    layer = next((_inside(layer) for layer in model.layers if _inside(layer).name == name), None)
    if layer is None:
        raise ValueError(f"Model '{model.name}' has no layer '{name}'. Its layers: {layer_names(model)}")
    if type(layer).__name__ not in _KERNELS:
        raise ValueError(f"Layer '{name}' is a {type(layer).__name__}; layers that can be trained: {', '.join(_KERNELS)}.")
    kind, weight = _KERNELS[type(layer).__name__]
    size = math.prod(getattr(layer, weight).shape)
    found = [
        index
        for index, operator in enumerate(whole.subgraphs[0].operators)
        if fb.operator_name(whole, operator) == kind
        and name in fb.tensor_name(whole, operator.outputs[0]).split(";")
        and math.prod(fb.shape_of(whole, operator.inputs[1])) == size
    ]
    if len(found) != 1:
        raise ValueError(f"Layer '{name}' was not found in the converted model: {len(found)} operators bear its name.")
    return found[0]


def without_softmax(model_bytes: bytes) -> bytes:
    """An int8 model up to the logits: a softmax at its end is removed."""
    if not ends_in_softmax(model_bytes):
        return model_bytes
    model = fb.read_model(model_bytes)
    graph = model.subgraphs[0]
    logits = [int(graph.operators[-1].inputs[0])]
    return fb.part_of(model, list(range(len(graph.operators) - 1)), [int(tensor) for tensor in graph.inputs], logits)


def ends_in_softmax(model_bytes: bytes) -> bool:
    """Whether the last operator of a .tflite file is a softmax."""
    model = fb.read_model(model_bytes)
    return fb.operator_name(model, model.subgraphs[0].operators[-1]) == "SOFTMAX"


def _inside(layer: typing.Any) -> typing.Any:
    """The layer that a quantisation wrapper holds, or the layer itself."""
    return layer.layer if layer.name.startswith(_PREFIX) and hasattr(layer, "layer") else layer


def _check_all_int8(model_bytes: bytes) -> None:
    model = fb.read_model(model_bytes)
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        output = int(operator.outputs[0])
        if fb.TENSOR_TYPES.get(tensors[output].type) is not np.int8:
            raise ValueError(
                f"'{fb.tensor_name(model, output)[:200]}' has no range, so that the converter left it in float32: quantise the "
                "whole model with tensorflow_model_optimization.quantization.keras.quantize_model and train it for a few steps."
            )
