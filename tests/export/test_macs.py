"""Multiply-accumulates of a .tflite file: as counted by hand, and beyond 31 bits."""

import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.macs import forward_macs


def one_operator(name, input_shape, kernel_shape, output_shape):
    """A .tflite file of one operator. Its kernel has a shape and no values."""
    model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    operator.inputs, operator.outputs = [0, 1], [2]
    graph.tensors = [tensor(shape) for shape in (input_shape, kernel_shape, output_shape)]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    return fb.write_model(model)


def tensor(shape):
    made = schema.TensorT()
    made.shape, made.type, made.name = list(shape), schema.TensorType.INT8, b""
    return made


@pytest.mark.parametrize(
    ("name", "shapes", "macs"),
    [
        ("CONV_2D", ((1, 8, 8, 3), (16, 3, 3, 3), (1, 8, 8, 16)), 8 * 8 * 16 * 27),
        ("DEPTHWISE_CONV_2D", ((1, 8, 8, 16), (1, 5, 5, 16), (1, 4, 4, 16)), 4 * 4 * 16 * 25),
        ("FULLY_CONNECTED", ((1, 64), (10, 64), (1, 10)), 640),
        ("CONV_2D", ((1, 1024, 1024, 256), (256, 3, 3, 256), (1, 1024, 1024, 256)), 2**20 * 2**16 * 9),
        ("FULLY_CONNECTED", ((1, 2**17), (2**16, 2**17), (1, 2**16)), 2**33),
    ],
)
def test_macs_are_those_counted_by_hand(name, shapes, macs):
    counted = forward_macs(one_operator(name, *shapes))
    assert counted == macs > 0 and type(counted) is int


def test_shapes_are_python_integers():
    """NumPy 2 multiplies int32 by int32 to int32: a product of a large model's sizes would be negative."""
    model = fb.read_model(one_operator("FULLY_CONNECTED", (1, 2**17), (2**16, 2**17), (1, 2**16)))
    assert isinstance(model.subgraphs[0].tensors[1].shape[0], np.int32)
    assert [type(size) for size in fb.shape_of(model, 1)] == [int, int]


def test_no_model_takes_no_macs():
    assert forward_macs(None) == 0
