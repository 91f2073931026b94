"""Is a .tflite file safe to run? TensorFlow Lite Micro trusts its models: it checks few indices and no shapes.

Indices, sizes, types and the shapes of the operators that read memory by their sizes are checked. Then the file is written anew
from what was read, so that TFLM never follows an offset of the file itself.
"""

import collections.abc
import math
import typing

import numpy as np

from keras_tinytrain.export.tflite.flatbuffer import operator_name, read_model, schema, write_model

Shape = tuple[int, ...]
_TYPES, _PADDING = schema.TensorType, schema.Padding
_ITEM_BYTES = {
    _TYPES.INT8: 1,
    _TYPES.UINT8: 1,
    _TYPES.BOOL: 1,
    _TYPES.INT16: 2,
    _TYPES.INT32: 4,
    _TYPES.FLOAT32: 4,
    _TYPES.INT64: 8,
}
_MOST_BYTES = 2**30  # of a tensor
_POSITIVE = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "filterHeight", "filterWidth", "depthMultiplier")
_ELEMENTWISE = {
    "ADD",
    "SUB",
    "MUL",
    "MAXIMUM",
    "MINIMUM",
    "RELU",
    "RELU6",
    "LEAKY_RELU",
    "LOGISTIC",
    "TANH",
    "HARD_SWISH",
    "SOFTMAX",
}
_SAME_SIZE = {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"}


def verified(model_bytes: bytes) -> bytes:
    """The same model, written anew.

    Raises:
        ValueError: an index leads outside, a constant is not as long as its shape says, or shapes of an operator do not fit.
    """
    model = read_model(model_bytes)
    try:
        _check_model(model)
    except (AttributeError, LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"The .tflite file is damaged: {str(error)[:200]}") from error
    return write_model(model)


def _check_model(model: schema.ModelT) -> None:
    _expect(len(model.subgraphs) == 1, "it has several graphs, or none")
    graph = model.subgraphs[0]
    for index in range(len(graph.tensors)):
        _check_tensor(model, index)
    known = {index for index, tensor in enumerate(graph.tensors) if _is_constant(model, tensor)}
    _expect(not known.intersection(map(int, graph.inputs)), "an input of it is a constant")
    known |= {-1, *map(int, graph.inputs)}
    for operator in graph.operators:
        outputs = {int(output) for output in operator.outputs}
        _expect(known.issuperset(map(int, operator.inputs)), "an operator reads what none before it writes")
        _expect(outputs and min(outputs) >= 0 and not outputs & known, "an operator writes over another tensor")
        _check_operator(model, operator)
        known |= outputs
    _expect(known.issuperset(map(int, graph.outputs)) and -1 not in graph.outputs, "an output of it is computed by no operator")
    _expect(max(known) < len(graph.tensors), "it has no such tensor")


def _is_constant(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _check_tensor(model: schema.ModelT, index: int) -> None:
    tensor, quantisation = model.subgraphs[0].tensors[index], model.subgraphs[0].tensors[index].quantization
    shape = _shape(tensor)
    _expect(
        tensor.type in _ITEM_BYTES and tensor.sparsity is None and not tensor.isVariable, f"tensor {index} is of another kind"
    )
    num_bytes = math.prod(shape) * _ITEM_BYTES[tensor.type]
    _expect(min(shape, default=1) > 0 and len(shape) <= 5 and num_bytes <= _MOST_BYTES, f"tensor {index} has shape {shape}")
    _expect(0 <= tensor.buffer < len(model.buffers), f"tensor {index} has no buffer")
    if _is_constant(model, tensor):
        _expect(len(model.buffers[tensor.buffer].data) == num_bytes, f"tensor {index} is not as long as its shape {shape}")
    if quantisation is not None and quantisation.scale is not None:
        _check_quantisation(quantisation, shape, index)


def _check_quantisation(quantisation: schema.QuantizationParametersT, shape: Shape, index: int) -> None:
    scales, count = np.asarray(quantisation.scale, np.float32), len(quantisation.scale)
    _expect(
        count == len(quantisation.zeroPoint) and np.isfinite(scales).all() and (scales >= 0).all(), f"scales of tensor {index}"
    )
    _expect(count in (0, 1) or count == shape[quantisation.quantizedDimension], f"tensor {index} has {count} scales")


def _check_operator(model: schema.ModelT, operator: schema.OperatorT) -> None:
    name, options = operator_name(model, operator), operator.builtinOptions
    tensors = model.subgraphs[0].tensors
    inputs = [None if index < 0 else tensors[index] for index in operator.inputs]
    for field in _POSITIVE:
        _expect(1 <= getattr(options, field, 1) < 2**15, f"{name} has {field} {getattr(options, field, 1)}")
    if name in _RULES:
        found, expected = _shape(tensors[operator.outputs[0]]), _RULES[name](inputs, options)
        _expect(found == expected, f"{name} has an output of shape {found}, and {expected} is computed")
    elif name in _ELEMENTWISE:
        expected = np.broadcast_shapes(*(_shape(each) for each in inputs if each is not None))
        _expect(_shape(tensors[operator.outputs[0]]) == expected, f"{name} has inputs and an output of other shapes")
    elif name in _SAME_SIZE:
        sizes = {math.prod(_shape(each)) for each in (inputs[0], tensors[operator.outputs[0]])}
        _expect(len(sizes) == 1, f"{name} has an output of another size")


def _convolution(inputs: list[schema.TensorT | None], options: typing.Any, *, depthwise: bool = False) -> Shape:
    image, kernel, bias = (*inputs, None)[:3]
    batch, height, width, channels = _shape(image)
    first, *window, last = _shape(kernel)
    outputs = last if depthwise else first
    if depthwise:
        _expect(first == 1 and outputs == channels * options.depthMultiplier, "a depthwise kernel does not fit its input")
    else:
        _expect(channels % last == 0 and outputs % (channels // last) == 0, "a kernel does not fit its input")
    _check_weights(image, kernel, bias, outputs)
    dilated = [(k - 1) * d + 1 for k, d in zip(window, (options.dilationHFactor, options.dilationWFactor), strict=True)]
    return (batch, *_windows((height, width), dilated, options), outputs)


def _dense(inputs: list[schema.TensorT | None], options: typing.Any) -> Shape:
    image, kernel, bias = (*inputs, None)[:3]
    outputs, size = _shape(kernel)
    shape = _shape(image)
    _expect(math.prod(shape) % size == 0, "a dense kernel does not fit its input")
    _check_weights(image, kernel, bias, outputs)
    return (*shape[:-1], outputs) if options.keepNumDims else (math.prod(shape) // size, outputs)


def _pool(inputs: list[schema.TensorT | None], options: typing.Any) -> Shape:
    batch, height, width, channels = _shape(inputs[0])
    return (batch, *_windows((height, width), [options.filterHeight, options.filterWidth], options), channels)


def _windows(sizes: Shape, window: list[int], options: typing.Any) -> Shape:
    """Rows and columns of windows over an image."""
    _expect(options.padding in (_PADDING.SAME, _PADDING.VALID), "an operator has another padding")
    spans = sizes if options.padding == _PADDING.SAME else tuple(size - k + 1 for size, k in zip(sizes, window, strict=True))
    return tuple(-(-span // stride) for span, stride in zip(spans, (options.strideH, options.strideW), strict=True))


def _check_weights(image: typing.Any, kernel: typing.Any, bias: typing.Any, outputs: int) -> None:
    """Types as TFLM's kernels take them, and a bias and scales for every output."""
    of_bias = {_TYPES.INT8: _TYPES.INT32, _TYPES.FLOAT32: _TYPES.FLOAT32}
    _expect(image.type == kernel.type and image.type in of_bias, "a kernel and its input are of other types")
    if bias is not None:
        _expect(bias.type == of_bias[image.type] and _shape(bias) == (outputs,), "a bias does not fit its kernel")
    if image.type == _TYPES.INT8:
        _expect(len(kernel.quantization.scale) in (1, outputs), "a kernel has scales for other outputs")


_RULES: dict[str, collections.abc.Callable[[list[schema.TensorT | None], typing.Any], Shape]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": lambda inputs, options: _convolution(inputs, options, depthwise=True),
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
}


def _shape(tensor: schema.TensorT) -> Shape:
    return tuple(int(size) for size in (() if tensor.shape is None else tensor.shape))


def _expect(condition: typing.Any, otherwise: str) -> None:
    if not condition:
        raise ValueError(f"The .tflite file is damaged: {otherwise}.")
