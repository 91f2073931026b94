"""Multiply-accumulates of a .tflite file's forward pass."""

import math

from keras_tinytrain.export.tflite import flatbuffer as fb


def forward_macs(model_bytes: bytes | None) -> int:
    """Of one forward pass; 0 for None. Convolutions and dense layers count, what adds or averages does not.

    A convolution takes one MAC per output value and kernel weight of its channel (taps in the padding included).
    """
    if model_bytes is None:
        return 0
    model = fb.read_model(model_bytes)
    return sum(_operator_macs(model, operator) for operator in model.subgraphs[0].operators)


def _operator_macs(model, operator):
    tensors = model.subgraphs[0].tensors
    name, num_outputs = fb.operator_name(model, operator), math.prod(tensors[operator.outputs[0]].shape)
    if name in ("CONV_2D", "FULLY_CONNECTED"):
        return num_outputs * math.prod(tensors[operator.inputs[1]].shape[1:])
    if name == "DEPTHWISE_CONV_2D":
        return num_outputs * math.prod(tensors[operator.inputs[1]].shape[1:3])
    return 0
