"""Operators of a .tflite file by their shapes, beyond 31 bits too."""

import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema

from keras_tinytrain.choose.forward_work import operator_work
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.micro_graph import micro_graph


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
    "name, shapes, macs",
    [
        ("FULLY_CONNECTED", ((1, 64), (10, 64), (1, 10)), 640),
        ("FULLY_CONNECTED", ((1, 2**17), (2**16, 2**17), (1, 2**16)), 2**33),
    ],
)
def test_work_grows_with_products_beyond_31_bits(name, shapes, macs):
    ((_, operator),) = micro_graph(one_operator(name, *shapes)).operators
    work = operator_work(operator, "cmsis-nn")
    assert 1.8 * macs < work.instructions < 3.5 * macs and work.cycles > work.instructions


def test_shapes_are_python_integers():
    """NumPy 2 multiplies int32 by int32 to int32: a product of a large model's sizes would be negative."""
    model = fb.read_model(one_operator("FULLY_CONNECTED", (1, 2**17), (2**16, 2**17), (1, 2**16)))
    assert isinstance(model.subgraphs[0].tensors[1].shape[0], np.int32)
    assert [type(size) for size in fb.shape_of(model, 1)] == [int, int]
