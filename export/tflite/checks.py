"""What cannot be an int8 model of TensorFlow Lite Micro is refused by the name of its layer, before or after the conversion."""

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.export.tflite._culprit import CONVERSIONS
from keras_tinytrain.export.tflite.arena import unknown_to_micro
from keras_tinytrain.export.tflite.flatbuffer import TENSOR_TYPES, operator_name, quantisation, read_model, schema
from keras_tinytrain.export.tflite.layer_names import layer_name, layers_in, needs_in_words

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # below it a float32 is denormal
_NO_RANGE = 1e-8  # TensorFlow gives activations that are all zero a range of 2e-6, that is a scale of 7.8e-9
_LOOPS = ("While", "StatelessWhile")


def check_no_loops(model: keras.Model) -> None:
    """Raise ValueError, naming the layer, where a layer computes in a loop.

    The converter does not refuse the loop of a recurrent layer: its calibration ends the process.

    Args:
        model: a built model with one input.
    """
    spec = tf.TensorSpec((1, *model.input_shape[1:]), model.inputs[0].dtype)
    graph = tf.function(model).get_concrete_function(spec).graph
    for operation in graph.get_operations():
        if operation.type in _LOOPS:
            names = layers_in(operation.name, [layer.name for layer in model.layers])
            raise ValueError(
                f"Layer '{(names or [operation.name])[0]}' computes in a loop, which cannot be quantised to int8. If it is recurrent, "
                "build it with unroll=True (for short sequences), or use Conv1D layers instead."
            )


def check_int8(model_bytes: bytes) -> None:
    """Raise ValueError, naming all layers that stand in the way, where the converter left an operator in float32.

    Args:
        model_bytes: a .tflite file whose tensors are named after their layers.
    """
    model = read_model(model_bytes)
    left = [
        (layer_name(model, int(operator.outputs[0])), operator_name(model, operator))
        for operator in model.subgraphs[0].operators
        if operator_name(model, operator) not in CONVERSIONS and _is_float(model, operator)
    ]
    if left:
        others = [need for need in unknown_to_micro(model_bytes) if need not in left]
        also = f"; l{needs_in_words(others)[1:]}, which TensorFlow Lite Micro cannot run" if others else ""
        raise ValueError(
            f"{needs_in_words(left)}, which TensorFlow's converter leaves in float32, so that the model would not be int8{also}. "
            "Replace a normalisation by BatchNormalization, an activation by ReLU, another layer by one that can be quantised."
        )


def _is_float(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    tensors = model.subgraphs[0].tensors
    ends = [int(tensor) for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0]
    return any(TENSOR_TYPES.get(tensors[tensor].type) is np.float32 for tensor in ends)


def check_scales(model_bytes: bytes) -> None:
    """Raise ValueError, naming the layer, where a scale is degenerate.

    The reference interpreter does not refuse such a model: it ends the process, or computes zeros.
    """
    model = read_model(model_bytes)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        output = operator.outputs[0]
        limits = {int(tensor): _SMALLEST_SCALE for tensor in operator.inputs if tensor >= 0} | {int(output): _NO_RANGE}
        for tensor, smallest in limits.items():
            scales, _ = quantisation(model, tensor)
            if np.all((scales >= smallest) & np.isfinite(scales)):
                continue
            raise ValueError(
                f"Layer '{layer_name(model, output)}' cannot be quantised: a scale is {scales.min():.3g}, so its "
                "weights or activations vanish or overflow on the calibration samples. Train the model, or calibrate "
                "its BatchNormalization statistics, and pass samples that reach every layer."
            )
