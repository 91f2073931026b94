"""The operators of the backward pass, one row each, and the reader of each from an int8 TensorFlow Lite model.

To add an operator: a row of OPERATORS with a reader, and what tinytrain/backward/operators.h says for C++.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Sequence

import numpy as np

from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.flatbuffer import shape_of
from keras_tinytrain.tflm_runtime.headers import constant

NONE = constant("tinytrain_tables.h", "kNone")
_ACTIVATIONS = {0: "kLinear", 1: "kRelu", 3: "kRelu6"}


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One operator of the backward pass, from the head to the earliest trained layer; fields as in tinytrain_tables.h."""

    name: str  # of the Keras layer or, with a fused activation, of the activation's layer
    op: str  # a key of OPERATORS
    input: int  # indices into TrainableGraph.tensors
    output: int
    input2: int = NONE
    activation: str = "kLinear"  # "kLinear", "kRelu", "kRelu6"
    kernel_size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)  # top, left
    slope: float = 0.0  # of LeakyReLU's negative half; the factor of kScale
    kernel: np.ndarray | None = None  # int8: [out][kh][kw][in], [kh][kw][channels] or [out][in]; split: the others' only
    kernel_scales: np.ndarray | None = None  # float32 [output channels]; slopes of PReLU
    bias: np.ndarray | None = None  # int32 [output channels]; split: the others' only
    kernel_tensor: int = NONE  # tensor indices in trainable.tflite
    bias_tensor: int = NONE
    accumulate_input: bool = False
    accumulate_input2: bool = False

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,) if self.input2 == NONE else (self.input, self.input2)

    @property
    def numbers(self) -> tuple[int | float, ...]:
        """The fields of the C++ struct from kernel_height to before the pointers, in its order."""
        return (*self.kernel_size, *self.strides, *self.pads, self.slope)

    @property
    def reads_output(self) -> bool:
        """Whether the backward pass reads the values of the output: for the operator or for its activation."""
        return OPERATORS[self.op].reads_output or self.activation != "kLinear"

    @property
    def weights_per_channel(self) -> int:
        """Elements of one output channel's kernel; 0 where the operator has none."""
        if self.kernel is None:
            return 0
        return math.prod(self.kernel.shape[:-1] if self.op == "kDepthwiseConv2D" else self.kernel.shape[1:])


def read_operator(model: fb.schema.ModelT, operator: fb.schema.OperatorT, name: str, *, first_trained: str) -> Layer:
    """One operator as a layer whose tensors are numbered as in the .tflite file.

    Args:
        model, operator: as flatbuffers' schema classes hold them.
        name: of its Keras layer.
        first_trained: the earliest trained layer, for the message.

    Raises:
        ValueError: the runtime cannot go backwards through it.
    """
    kind = fb.operator_name(model, operator)
    for op, row in OPERATORS.items():
        if kind in row.readers:
            return row.readers[kind](model, operator, name, op)
    raise ValueError(_unsupported(kind, name, first_trained))


def with_pad(model: fb.schema.ModelT, layer: Layer, pad: fb.schema.OperatorT) -> Layer:
    """A PAD and the convolution that reads it, as one convolution that pads by itself."""
    paddings = _constant(model, pad.inputs[1], layer.name)
    pads = (int(paddings[1, 0]), int(paddings[2, 0]))
    return dataclasses.replace(layer, input=int(pad.inputs[0]), pads=pads)


def pads_convolutions_only(model: fb.schema.ModelT, pad: fb.schema.OperatorT) -> bool:
    """Whether a PAD is read by convolutions only, with padding "valid" and kernels wider than the padding."""
    graph, paddings = model.subgraphs[0], _constant(model, pad.inputs[1], "padding")
    readers = [operator for operator in graph.operators if pad.outputs[0] in operator.inputs]
    if pad.outputs[0] in graph.outputs or len(paddings) != 4 or paddings[[0, 3]].any():
        return False
    return all(
        fb.operator_name(model, reader) in ("CONV_2D", "DEPTHWISE_CONV_2D")
        and reader.builtinOptions.padding == 1
        and np.all(paddings[1:3].max(axis=1) < shape_of(model, reader.inputs[1])[1:3])
        for reader in readers
    )


def _unsupported(kind, name, first):
    supported = ", ".join(row.keras for row in OPERATORS.values())
    return (
        f"The runtime cannot go backwards through {kind} of layer '{name}', which depends on the trained layer "
        f"'{first}'. Train only layers after '{name}', or replace it. Supported: {supported}."
    )


def _read_convolution(model, operator, name, op):
    options = operator.builtinOptions
    kernel = _constant(model, operator.inputs[1], name)
    depthwise = op == "kDepthwiseConv2D"
    _, height, width, channels = shape_of(model, operator.inputs[0])
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        raise ValueError(f"Layer '{name}' is dilated; the runtime goes backwards through dilation_rate=1 only.")
    if (depthwise and options.depthMultiplier != 1) or kernel.shape[3] != channels:
        raise ValueError(
            f"Layer '{name}' has groups or a depth multiplier. The runtime goes backwards through groups=1 and depth_multiplier=1: "
            "rebuild it so, or train only layers after it."
        )
    kernel_size, strides = (kernel.shape[1], kernel.shape[2]), (options.strideH, options.strideW)
    return Layer(
        name=name,
        op=op,
        activation=_activation(options, name),
        kernel_size=kernel_size,
        strides=strides,
        pads=_pads(options.padding, (height, width), kernel_size=kernel_size, strides=strides),
        **_weights(model, operator, kernel[0] if depthwise else kernel),
        **_ends(operator),
    )


def _read_dense(model, operator, name, op):
    kernel = _constant(model, operator.inputs[1], name)
    if math.prod(shape_of(model, operator.inputs[0])) != kernel.shape[1]:
        op = "kDenseAlong"
    return Layer(
        name=name,
        op=op,
        activation=_activation(operator.builtinOptions, name),
        **_weights(model, operator, kernel),
        **_ends(operator),
    )


def _read_add(model, operator, name, op):
    first, second = (int(tensor) for tensor in operator.inputs)
    constants = [fb.constant(model, tensor) for tensor in (first, second)]
    if constants != [None, None] or shape_of(model, first) != shape_of(model, second):
        raise ValueError(f"Layer '{name}' adds a constant or tensors of unequal shapes; the runtime adds equal shapes only.")
    return Layer(name=name, op=op, activation=_activation(operator.builtinOptions, name), input2=second, **_ends(operator))


def _read_pool(model, operator, name, op):
    options = operator.builtinOptions
    kernel_size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
    return Layer(
        name=name,
        op=op,
        activation=_activation(options, name),
        kernel_size=kernel_size,
        strides=strides,
        pads=_pads(options.padding, shape_of(model, operator.inputs[0])[1:3], kernel_size=kernel_size, strides=strides),
        **_ends(operator),
    )


def _read_global_pool(model, operator, name, op):
    """A mean or maximum over height and width is pooling with one window."""
    shape = shape_of(model, operator.inputs[0])
    axes = sorted(int(axis) % len(shape) for axis in _constant(model, operator.inputs[1], name).flatten())
    if len(shape) != 4 or axes != [1, 2]:
        raise ValueError(
            f"Layer '{name}' takes a {fb.operator_name(model, operator)} over axes {axes}. The runtime goes "
            "backwards through one over height and width together: replace it, or train only layers after it."
        )
    return Layer(name=name, op=op, kernel_size=shape[1:3], **_ends(operator))


def _read_pad(model, operator, name, op):
    paddings = _constant(model, operator.inputs[1], name)
    if len(paddings) != 4 or paddings[[0, 3]].any():
        raise ValueError(
            f"Layer '{name}' pads more than height and width, which is all that the runtime goes backwards through."
        )
    return Layer(name=name, op=op, pads=(int(paddings[1, 0]), int(paddings[2, 0])), **_ends(operator))


def _read_relu(model, operator, name, op):
    activation = {"RELU": "kRelu", "RELU6": "kRelu6"}[fb.operator_name(model, operator)]
    return Layer(name=name, op=op, activation=activation, **_ends(operator))


def _read_leaky_relu(model, operator, name, op):
    slope = float(operator.builtinOptions.alpha)
    if slope < 0:
        raise ValueError(
            f"Layer '{name}' has a negative_slope below 0, {slope:g}; the runtime goes backwards through 0 and above."
        )
    return Layer(name=name, op=op, slope=slope, **_ends(operator))


def _read_prelu(model, operator, name, op):
    slopes = fb.constant(model, operator.inputs[1])
    num_channels = shape_of(model, operator.outputs[0])[-1]
    if slopes is None or slopes.size not in (1, num_channels):
        raise ValueError(
            f"Layer '{name}' has a slope of its own at every position; the runtime goes backwards through one a channel: "
            "rebuild it with shared_axes=[1, 2]."
        )
    real = _real(model, operator.inputs[1], slopes)
    if real.min() < 0:
        raise ValueError(f"Layer '{name}' has slopes below 0, {real.min():g}; the runtime goes backwards through 0 and above.")
    return Layer(
        name=name, op=op, kernel_scales=np.broadcast_to(real.ravel(), num_channels).astype(np.float32), **_ends(operator)
    )


def _read_multiply(model, operator, name, op):
    first, second = (int(tensor) for tensor in operator.inputs)
    constants = [fb.constant(model, tensor) for tensor in (first, second)]
    activation = _activation(operator.builtinOptions, name)
    if all(value is None for value in constants) and _is_product(*(shape_of(model, tensor) for tensor in (first, second))):
        return Layer(name=name, op=op, activation=activation, input2=second, **_ends(operator))
    found = [(tensor, value) for tensor, value in zip((first, second), constants) if value is not None and value.size == 1]
    if len(found) != 1:
        raise ValueError(
            f"Layer '{name}' multiplies shapes that the runtime does not go backwards through: equal shapes, a map and one "
            "value a channel, or a tensor and a constant."
        )
    (constant_tensor, value), ends = found[0], _ends(operator)
    ends["input"] = second if constant_tensor == first else first
    return Layer(name=name, op="kScale", activation=activation, slope=_real(model, constant_tensor, value).item(), **ends)


def _is_product(first, second):
    """Whether shapes are equal, or one has one position and as many channels."""
    return first == second or (first[-1] == second[-1] and (math.prod(first[:-1]) == 1 or math.prod(second[:-1]) == 1))


def _read_concatenation(model, operator, name, op):
    rank = len(shape_of(model, operator.outputs[0]))
    if len(operator.inputs) != 2 or operator.builtinOptions.axis % rank != rank - 1:
        raise ValueError(
            f"Layer '{name}' concatenates {len(operator.inputs)} tensors on axis {operator.builtinOptions.axis}. The runtime goes "
            "backwards through two at a time, on the channels' axis (layers of more are exported so): rebuild it so, or train only "
            "layers after it."
        )
    return Layer(
        name=name,
        op=op,
        activation=_activation(operator.builtinOptions, name),
        input2=int(operator.inputs[1]),
        **_ends(operator),
    )


def _read_elementwise(model, operator, name, op):
    return Layer(name=name, op=op, **_ends(operator))


def _real(model: fb.schema.ModelT, tensor: int, value: np.ndarray) -> np.ndarray:
    """Real values of a constant int8 tensor, float64."""
    (scale,), (zero_point,) = fb.quantisation(model, tensor)
    return np.float64(scale) * (value.astype(np.int64) - zero_point)


def _read_reshape(model, operator, name, op):
    return Layer(name=name, op=op, **_ends(operator))


def _constant(model: fb.schema.ModelT, tensor: int, name: str) -> np.ndarray:
    """The value of a constant tensor that layer `name` reads."""
    value = fb.constant(model, tensor)
    if value is None:
        raise ValueError(f"Layer '{name}' reads computed values where the runtime needs constants: replace it.")
    return value


def _ends(operator: fb.schema.OperatorT) -> dict[str, typing.Any]:
    return {"input": int(operator.inputs[0]), "output": int(operator.outputs[0])}


def _activation(options, name):
    if options.fusedActivationFunction not in _ACTIVATIONS:
        raise ValueError(f"Layer '{name}' has an activation that the runtime cannot go backwards through; use ReLU or ReLU6.")
    return _ACTIVATIONS[options.fusedActivationFunction]


def _pads(padding: int, size: Sequence[int], *, kernel_size: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """(top, left): "same" pads (ceil(n / s) - 1) * s + k - n in all, the smaller half first; "valid" pads nothing."""
    if padding == 1:
        return (0, 0)
    top, left = (max((-(-n // s) - 1) * s + k - n, 0) // 2 for n, k, s in zip(size, kernel_size, strides))
    return top, left


def _weights(model: fb.schema.ModelT, operator: fb.schema.OperatorT, kernel: np.ndarray) -> dict[str, typing.Any]:
    scales, _ = fb.quantisation(model, operator.inputs[1])
    bias_tensor = int(operator.inputs[2]) if len(operator.inputs) > 2 else NONE
    num_channels = shape_of(model, operator.outputs[0])[-1]
    return {
        "kernel": kernel,
        "kernel_scales": np.broadcast_to(scales, num_channels).astype(np.float32),
        "bias": fb.constant(model, bias_tensor),
        "kernel_tensor": int(operator.inputs[1]),
        "bias_tensor": bias_tensor,
    }


@dataclasses.dataclass(frozen=True)
class Operator:
    """One enumerator of the C++ enum `Operator`: the TensorFlow Lite operators that become it, and how the backward pass works.

    Args:
        keras: the Keras layers that become it, for messages.
        readers: {TensorFlow Lite's name: function that reads such an operator as a `Layer`}.
        in_place: the gradient of its input may lie where that of its output lies.
        reads_input, reads_output: the gradient of its input depends on the values of its input, or of its output. They are
            kept. (An activation that is fused into an operator reads its output in any case.)
        reads_other: the gradient of each of its two inputs depends on the values of the other.
    """

    keras: str
    readers: dict[str, Callable[..., Layer]]
    in_place: bool = False
    reads_input: bool = False
    reads_output: bool = False
    reads_other: bool = False


OPERATORS: dict[str, Operator] = {
    "kConv2D": Operator("Conv2D", {"CONV_2D": _read_convolution}),
    "kDepthwiseConv2D": Operator("DepthwiseConv2D (depth multiplier 1)", {"DEPTHWISE_CONV_2D": _read_convolution}),
    "kDense": Operator("Dense", {"FULLY_CONNECTED": _read_dense}),
    "kAdd": Operator("Add of equal shapes", {"ADD": _read_add}, in_place=True),
    "kAveragePool2D": Operator(
        "AveragePooling2D, GlobalAveragePooling2D", {"AVERAGE_POOL_2D": _read_pool, "MEAN": _read_global_pool}
    ),
    "kActivation": Operator(
        "ReLU, ReLU6", {"RELU": _read_relu, "RELU6": _read_relu, "QUANTIZE": _read_elementwise}, in_place=True
    ),
    "kReshape": Operator("Flatten, Reshape", {"RESHAPE": _read_reshape}, in_place=True),
    "kMaxPool2D": Operator(
        "MaxPooling2D, GlobalMaxPooling2D", {"MAX_POOL_2D": _read_pool, "REDUCE_MAX": _read_global_pool}, reads_input=True
    ),
    "kPad": Operator("ZeroPadding2D", {"PAD": _read_pad}),
    "kLeakyRelu": Operator("LeakyReLU", {"LEAKY_RELU": _read_leaky_relu}, in_place=True, reads_output=True),
    "kMultiply": Operator("Multiply", {"MUL": _read_multiply}, reads_other=True),
    "kScale": Operator("hard sigmoid", {}, in_place=True),
    "kLogistic": Operator("sigmoid, SiLU", {"LOGISTIC": _read_elementwise}, in_place=True, reads_output=True),
    "kHardSwish": Operator("hard swish", {"HARD_SWISH": _read_elementwise}, in_place=True, reads_input=True),
    "kConcatenate": Operator("Concatenate of two tensors' channels", {"CONCATENATION": _read_concatenation}),
    "kTanh": Operator("tanh", {"TANH": _read_elementwise}, in_place=True, reads_output=True),
    "kElu": Operator("ELU", {"ELU": _read_elementwise}, in_place=True, reads_output=True),
    "kDenseAlong": Operator("Dense along the last axis", {}),
    "kPrelu": Operator("PReLU (one slope a channel)", {"PRELU": _read_prelu}, in_place=True, reads_output=True),
}
