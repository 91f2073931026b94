"""Multiply-accumulates of a .tflite file's forward pass."""

import math

from keras_tinytrain.export.tflite import flatbuffer as fb


def forward_macs(model_bytes: bytes | None) -> int:
    """Of one forward pass; 0 for None. Convolutions and dense layers count, additions and pooling do not.

    A convolution takes one MAC per output value and kernel weight of its channel (taps in the padding included).
    """
    if model_bytes is None:
        return 0
    model = fb.read_model(model_bytes)
    return sum(_operator_macs(model, operator) for operator in model.subgraphs[0].operators)


def _operator_macs(model: fb.schema.ModelT, operator: fb.schema.OperatorT) -> int:
    name, num_outputs = fb.operator_name(model, operator), math.prod(fb.shape_of(model, operator.outputs[0]))
    if name in ("CONV_2D", "FULLY_CONNECTED"):
        return num_outputs * math.prod(fb.shape_of(model, operator.inputs[1])[1:])
    if name == "DEPTHWISE_CONV_2D":
        return num_outputs * math.prod(fb.shape_of(model, operator.inputs[1])[1:3])
    return 0
