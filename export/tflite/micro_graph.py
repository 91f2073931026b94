"""A .tflite file as TensorFlow Lite Micro counts its memory."""

import math

import numpy as np

from keras_tinytrain.choose.arena import MicroGraph
from keras_tinytrain.choose.kernels import Operator
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.tflm_runtime.rounding import align

_CONVOLUTIONS, _POOLING = ("CONV_2D", "DEPTHWISE_CONV_2D"), ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def micro_graph(model_bytes: bytes) -> MicroGraph:
    """The graph of a model of one subgraph."""
    model = fb.read_model(model_bytes)
    graph = model.subgraphs[0]
    computed = [index for index, tensor in enumerate(graph.tensors) if fb.constant(model, index) is None]
    spans = _spans(graph)
    return MicroGraph(
        activations=tuple((_num_bytes(model, index), *spans[index]) for index in computed if index in spans),
        operators=tuple((moment, _operator(model, operator)) for moment, operator in enumerate(graph.operators, 1)),
        num_tensors=len(graph.tensors),
        num_inputs=len(graph.inputs),
        num_outputs=len(graph.outputs),
    )


def _spans(graph):
    """{tensor: (first, last)}: an input is there before the first operator, an output to the end (micro_allocation_info.cc)."""
    spans = {int(tensor): (0, 0) for tensor in graph.inputs}
    for moment, operator in enumerate(graph.operators, 1):
        for tensor in map(int, (*operator.outputs, *operator.inputs)):
            spans[tensor] = (spans.get(tensor, (moment,))[0], moment)
    end = len(graph.operators)
    return spans | {int(tensor): (spans[int(tensor)][0], end) for tensor in graph.outputs}


def _num_bytes(model, index):
    kind = fb.TENSOR_TYPES.get(model.subgraphs[0].tensors[index].type, np.int32)
    return align(math.prod(fb.shape_of(model, index)) * np.dtype(kind).itemsize)


def _operator(model, operator):
    kind, options = fb.operator_name(model, operator), operator.builtinOptions
    inputs = [int(tensor) for tensor in operator.inputs]
    before, after = (fb.shape_of(model, tensor)[1:] for tensor in (inputs[0], int(operator.outputs[0])))
    if kind not in (*_CONVOLUTIONS, *_POOLING):
        return Operator(kind, before, after, channels=_channels(model, inputs))
    window = _window(model, inputs, options)
    strides = int(options.strideH), int(options.strideW)
    pads = _pads(before, after, window, strides, options.padding)
    return Operator(kind, before, after, window, strides, pads, after[-1] if kind in _CONVOLUTIONS else 0)


def _channels(model, inputs):
    """Multipliers that a dense layer keeps: one of each output where its kernel has a scale for each."""
    scales = fb.quantisation(model, inputs[1])[0] if len(inputs) > 1 else ()
    return len(scales) if len(scales) > 1 else 0


def _window(model, inputs, options):
    if hasattr(options, "filterHeight"):
        return int(options.filterHeight), int(options.filterWidth)
    return fb.shape_of(model, inputs[1])[1:3]


def _pads(before, after, window, strides, padding):
    """Rows above and columns to the left that padding "same" (0) adds; "valid" adds none."""
    if padding != 0:
        return 0, 0
    down, right = ((n - 1) * stride + size - old for old, n, size, stride in list(zip(before, after, window, strides))[:2])
    return max(down, 0) // 2, max(right, 0) // 2
