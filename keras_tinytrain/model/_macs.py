"""Multiply-accumulates of any layer's call, counted in the TensorFlow graph that the call makes."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.model.private_keras import function_graph

_LOOPS = ("While", "StatelessWhile")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
FuncGraph = Any  # TensorFlow has no public name for the graph of a tf.function


def traced_macs(inputs: Iterable[keras.KerasTensor], output: keras.KerasTensor) -> int:
    """Multiply-accumulates from the tensors `inputs` of a functional model to its tensor `output`, for one sample.

    Matrix products and convolutions count; additions, activations and pooling do not. The body of a loop counts as often as
    the loop runs.
    """
    inputs = list({id(tensor): tensor for tensor in inputs}.values())  # a layer may read one tensor twice, as x * x does
    part = keras.Model(inputs, output)
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    return _graph_macs(tf.function(lambda *tensors: part(list(tensors))).get_concrete_function(*specs).graph)


def _graph_macs(graph: FuncGraph) -> int:
    return sum(_operation_macs(operation, graph) for operation in _needed(graph))


def _needed(graph: FuncGraph) -> list[tf.Operation]:
    """The operations that the graph's outputs depend on: a recurrent layer also calls its cell only to see a shape."""
    found, pending = dict[str, tf.Operation](), [output.op for output in graph.outputs]
    while pending:
        operation = pending.pop()
        if operation.name not in found:
            found[operation.name] = operation
            pending += [tensor.op for tensor in operation.inputs]
    return list(found.values())


def _operation_macs(operation: tf.Operation, graph: FuncGraph) -> int:
    if operation.type in _LOOPS:
        return _num_rounds(operation, graph) * _graph_macs(function_graph(graph, operation.get_attr("body").name))
    if operation.type in _CALLS:
        return _graph_macs(function_graph(graph, operation.get_attr("f").name))
    return _COUNTS[operation.type](operation) if operation.type in _COUNTS else 0


def _num_rounds(loop: tf.Operation, graph: FuncGraph) -> int:
    """The most rounds that a loop may go, its second input; 1 where it depends on values that are not known or has no limit."""
    with tf.compat.v1.Session(graph=graph) as session:
        try:
            return max(1, int(session.run(loop.inputs[1])))
        except tf.errors.InvalidArgumentError:  # it depends on the layer's input
            return 1


def _size(shape: Iterable[int]) -> int:
    return math.prod(int(size) for size in shape)


def _convolution(operation: tf.Operation) -> int:
    """Each value of the output is a sum over one channel's kernel [..., in, out]."""
    return _size(operation.outputs[0].shape) * _size(operation.inputs[1].shape[:-1])


def _transposed(operation: tf.Operation) -> int:
    """A convolution's gradient of its input; inputs[2] is that of its output, which is the layer's input."""
    return _size(operation.inputs[2].shape) * _size(operation.inputs[1].shape[:-1])


def _depthwise(operation: tf.Operation) -> int:
    return _size(operation.outputs[0].shape) * _size(operation.inputs[1].shape[:2])


def _matrix_product(operation: tf.Operation) -> int:
    """[..., rows, inner] times [..., inner, columns], the first of which may be transposed."""
    flag = "transpose_a" if operation.type == "MatMul" else "adj_x"
    inner = operation.inputs[0].shape[-2 if operation.get_attr(flag) else -1]
    return _size(operation.outputs[0].shape) * int(inner)


def _einsum(operation: tf.Operation) -> int:
    """Values of the output, times the sizes of all letters of the equation that the output does not have."""
    terms, result = operation.get_attr("equation").decode().split("->")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), operation.inputs, strict=True):
        before, _, after = term.partition("...")
        shape = tuple(tensor.shape)
        sizes.update(zip((*before, *after), (*shape[: len(before)], *shape[len(shape) - len(after) :]), strict=True))
    return _size(operation.outputs[0].shape) * math.prod(size for letter, size in sizes.items() if letter not in result)


_COUNTS: dict[str, Callable[[tf.Operation], int]] = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "DepthwiseConv2dNative": _depthwise,
    "MatMul": _matrix_product,
    "BatchMatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "Einsum": _einsum,
}
