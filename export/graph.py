"""The trainable part of an int8 model as plain values: what to keep, and how to go through it backwards.

Which activations become extra outputs is read off the int8 graph itself, so that it is exact: the inputs of trained layers, and
the outputs behind a ReLU that a gradient flows through.

The gradient of an inverted bottleneck's wide middle (1 x 1 convolution to many channels, depthwise, 1 x 1 back to few) is taken
by channel, so that it never exists whole: some planes take the place of a tensor.

Operators that no gradient flows through are not read: a model that is not cut may begin with anything.
"""

import dataclasses
import math

import numpy as np

from keras_tinytrain.plan import Plan

from . import flatbuffer as fb
from .convert import layer_name
from .gradients import NONE, middles, place_gradients

STORED_SAMPLE = -2
MAX_OUTPUTS = 64  # kMaxOutputs in tinytrain.h
_ACTIVATIONS = {0: "kLinear", 1: "kRelu", 3: "kRelu6"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One int8 activation, NHWC with batch 1: real value = scale * (q - zero_point)."""

    name: str
    height: int
    width: int
    channels: int
    scale: float
    zero_point: int
    kept: int = NONE  # index into the outputs of trainable.tflite, STORED_SAMPLE or NONE
    gradient_offset: int = NONE  # bytes into the gradient region; NONE: no gradient flows here
    num_planes: int = 0  # its gradient is so many planes [height][width], of the channels at hand; 0: it is whole

    @property
    def size(self) -> int:
        return self.height * self.width * self.channels


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One operator on the way back from the head to the earliest trained layer; fields as in tinytrain_tables.h."""

    name: str  # the Keras layer; with an activation fused into it, that activation's
    op: str  # "kConv2D", "kDepthwiseConv2D", "kDense", "kAdd", "kAveragePool2D", "kMaxPool2D", "kPad", "kActivation", "kReshape"
    input: int  # indices into TrainableGraph.tensors
    output: int
    input2: int = NONE
    activation: str = "kLinear"  # "kLinear", "kRelu", "kRelu6"
    kernel_size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)  # top, left
    kernel: np.ndarray | None = None  # int8: [out][kh][kw][in], [kh][kw][channels] or [out][in]; split: the others' only
    kernel_scales: np.ndarray | None = None  # float32 [output channels]
    bias: np.ndarray | None = None  # int32 [output channels]; split: the others' only
    kernel_tensor: int = NONE  # tensor indices in trainable.tflite
    bias_tensor: int = NONE
    accumulate_input: bool = False
    accumulate_input2: bool = False

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,) if self.input2 == NONE else (self.input, self.input2)

    @property
    def weights_per_channel(self) -> int:
        return math.prod(self.kernel.shape[:-1] if self.op == "kDepthwiseConv2D" else self.kernel.shape[1:])


@dataclasses.dataclass(frozen=True)
class TrainedLayer:
    """Output channels of one layer that are trained."""

    name: str
    layer: int  # index into TrainableGraph.layers
    channels: tuple[int, ...]
    kernel_tensor: int  # in trainable.tflite: what RAM takes the place of
    bias_tensor: int
    is_split: bool = False  # these channels are a convolution of their own, and RAM holds no more; see selected.py


@dataclasses.dataclass(frozen=True, eq=False)
class TrainableGraph:
    """What tinytrain_tables.h says of the trainable part. tensors[0] is its input, tensors[-1] the head's input."""

    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    trained: tuple[TrainedLayer, ...]
    num_outputs: int
    head_output: int
    gradient_bytes: int
    gradient_bytes_bound: int  # most bytes of gradients alive at once: no arrangement takes less
    gradient_bytes_whole: int  # what they would take if no middle of a block went by channel
    candidates: tuple[TrainedLayer, ...] = ()  # what the device may choose from; () where the plan is decided


def read_trainable(
    trainable: bytes, operators: dict[str, int], plan: Plan, *, adaptive: bool = False
) -> tuple[bytes, TrainableGraph]:
    """Read the trainable part and make the activations that the backward pass needs its outputs.

    Args:
        trainable, operators: as `cut_model` returns them.
        plan: the channels to train of each layer.
        adaptive: the plan's layers are candidates among which the device chooses; it scores them by their outputs.

    Returns:
        (trainable.tflite with its outputs, its graph).

    Raises:
        ValueError: the runtime cannot go backwards through an operator; it is named together with its Keras layer.
    """
    model = fb.read_model(trainable)
    features, head = int(model.subgraphs[0].inputs[0]), int(model.subgraphs[0].outputs[0])
    layers, trained = _read_layers(model, operators)
    with_gradient = _with_gradient(layers, trained.values())
    needed = _needed_backwards(layers, trained.values(), with_gradient)
    needed |= {layers[index].output for index in trained.values()} if adaptive else set()
    outputs = [head, *sorted(needed - {head, features})]
    if len(outputs) > MAX_OUTPUTS:
        raise ValueError(
            f"Training would keep {len(outputs)} activations, the runtime at most {MAX_OUTPUTS}. Plan fewer or later layers."
        )
    ends = [tensor for layer in layers for tensor in (*layer.inputs, layer.output)]
    order = [t for t in dict.fromkeys([features, *ends]) if t != head] + [head]
    index_of = {tensor: index for index, tensor in enumerate(order)} | {NONE: NONE}
    layers = _mark_accumulation([_renumber(layer, index_of) for layer in layers], {index_of[t] for t in with_gradient})
    with_gradient = {index_of[t] for t in with_gradient}
    shapes = [_shape(model, tensor) for tensor in order]
    planes = middles(layers, shapes, with_gradient)
    sizes = [math.prod((*shape[:-1], planes.get(index, shape[-1]))) for index, shape in enumerate(shapes)]
    offsets, gradient_bytes, bound = place_gradients(layers, sizes, with_gradient, planes)
    whole = place_gradients(layers, [int(np.prod(shape)) for shape in shapes], with_gradient, set())[1]
    output_of = {tensor: index for index, tensor in enumerate(outputs)} | {features: STORED_SAMPLE}
    tensors = [
        _read_tensor(
            model, tensor, kept=output_of.get(tensor, NONE), gradient_offset=offset, num_planes=planes.get(index, 0)
        )
        for index, (tensor, offset) in enumerate(zip(order, offsets))
    ]
    chosen = tuple(_trained_layer(layers, name, index, plan) for name, index in trained.items())
    graph = TrainableGraph(
        tensors=tuple(tensors),
        layers=tuple(layers),
        trained=() if adaptive else chosen,
        candidates=chosen if adaptive else (),
        num_outputs=len(outputs),
        head_output=0,
        gradient_bytes=gradient_bytes,
        gradient_bytes_bound=bound,
        gradient_bytes_whole=whole,
    )
    return fb.part_of(model, list(range(len(model.subgraphs[0].operators))), [features], outputs), graph


# Reading operators. Until `_renumber`, tensors are numbered as in the .tflite file.


def _read_layers(model, operators):
    """(operators that a gradient flows through as layers in execution order, {trained layer's name: its index among them})."""
    name_of = {index: name for name, index in operators.items()}
    flowing = _flowing(model, set(name_of))
    pads, layers, trained = {}, [], {}
    for index, operator in enumerate(model.subgraphs[0].operators):
        kind, output = fb.operator_name(model, operator), int(operator.outputs[0])
        name = name_of.get(index) or layer_name(model, output)
        if kind == "PAD" and _is_part_of_convolutions(model, operator):
            pads[output] = operator
            continue
        if index not in flowing:
            continue
        if kind not in _READERS:
            raise ValueError(_unsupported(kind, name, next(iter(operators))))
        if index in name_of:
            trained[name] = len(layers)
        layer = _READERS[kind](model, operator, name)
        layers.append(_with_pad(model, layer, pads[layer.input]) if layer.input in pads else layer)
    return layers, trained


def _flowing(model, trained):
    """Indices of the trained operators and of all that depend on them."""
    flowing, tensors = set(), set()
    for index, operator in enumerate(model.subgraphs[0].operators):
        if index in trained or tensors.intersection(int(tensor) for tensor in operator.inputs):
            flowing.add(index)
            tensors.update(int(tensor) for tensor in operator.outputs)
    return flowing


def _trained_layer(layers, name, index, plan):
    layer = layers[index]
    return TrainedLayer(name, index, plan[name].channels, layer.kernel_tensor, layer.bias_tensor)


def _with_gradient(layers, trained):
    """Tensors that a gradient flows into: all that depend on a trained layer."""
    tensors = set()
    for index, layer in enumerate(layers):
        if index in trained or tensors.intersection(layer.inputs):
            tensors.add(layer.output)
    return tensors


def _needed_backwards(layers, trained, with_gradient):
    """Tensors whose values the backward pass reads: inputs of trained layers and max pooling, outputs behind a ReLU."""
    inputs = {layers[index].input for index in trained}
    inputs |= {layer.input for layer in layers if layer.op == "kMaxPool2D" and layer.input in with_gradient}
    masks = {layer.output for layer in layers if layer.activation != "kLinear"}
    return inputs | (masks & with_gradient)


def _unsupported(kind, name, first):
    return (
        f"The runtime cannot go backwards through {kind} of layer '{name}', which depends on the trained layer "
        f"'{first}'. Train only layers behind '{name}', or replace it. Supported: Conv2D, DepthwiseConv2D (depth multiplier 1), "
        "Dense, Add of equal shapes, AveragePooling2D, MaxPooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, ReLU, ReLU6, "
        "Flatten, Reshape and ZeroPadding2D."
    )


def _read_convolution(model, operator, name):
    options = operator.builtinOptions
    kernel = fb.constant(model, operator.inputs[1])
    depthwise = fb.operator_name(model, operator) == "DEPTHWISE_CONV_2D"
    _, height, width, channels = _shape(model, operator.inputs[0])
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        raise ValueError(f"Layer '{name}' is dilated; the runtime goes backwards through dilation_rate=1 only.")
    if depthwise and options.depthMultiplier != 1 or kernel.shape[3] != channels:
        raise ValueError(
            f"Layer '{name}' has groups or a depth multiplier. The runtime goes backwards through groups=1 and depth_multiplier=1: "
            "rebuild it so, or train only layers behind it."
        )
    window = {"kernel_size": kernel.shape[1:3], "strides": (options.strideH, options.strideW)}
    return Layer(
        name=name,
        op="kDepthwiseConv2D" if depthwise else "kConv2D",
        activation=_activation(options, name),
        pads=_pads(options.padding, (height, width), **window),
        **window,
        **_weights(model, operator, kernel[0] if depthwise else kernel),
        **_ends(operator),
    )


def _read_dense(model, operator, name):
    kernel = fb.constant(model, operator.inputs[1])
    if kernel is None or int(np.prod(_shape(model, operator.inputs[0]))) != kernel.shape[1]:
        raise ValueError(f"Layer '{name}' is applied along an axis; flatten its input, or use Conv2D with kernel_size=1.")
    return Layer(
        name=name,
        op="kDense",
        activation=_activation(operator.builtinOptions, name),
        **_weights(model, operator, kernel),
        **_ends(operator),
    )


def _read_add(model, operator, name):
    first, second = (int(tensor) for tensor in operator.inputs)
    constants = [fb.constant(model, tensor) for tensor in (first, second)]
    if constants != [None, None] or _shape(model, first) != _shape(model, second):
        raise ValueError(f"Layer '{name}' adds a constant or tensors of unequal shapes; the runtime adds equal shapes only.")
    return Layer(name=name, op="kAdd", activation=_activation(operator.builtinOptions, name), input2=second, **_ends(operator))


def _read_pool(model, operator, name):
    options = operator.builtinOptions
    window = {"kernel_size": (options.filterHeight, options.filterWidth), "strides": (options.strideH, options.strideW)}
    pads = _pads(options.padding, _shape(model, operator.inputs[0])[1:3], **window)
    op = {"AVERAGE_POOL_2D": "kAveragePool2D", "MAX_POOL_2D": "kMaxPool2D"}[fb.operator_name(model, operator)]
    return Layer(name=name, op=op, activation=_activation(options, name), pads=pads, **window, **_ends(operator))


def _read_global_pool(model, operator, name):
    """A mean or maximum over height and width is pooling with one window."""
    op, what = {"MEAN": ("kAveragePool2D", "mean"), "REDUCE_MAX": ("kMaxPool2D", "maximum")}[fb.operator_name(model, operator)]
    shape = _shape(model, operator.inputs[0])
    axes = sorted(int(axis) % len(shape) for axis in fb.constant(model, operator.inputs[1]).flatten())
    if len(shape) != 4 or axes != [1, 2]:
        raise ValueError(
            f"Layer '{name}' takes a {what} over axes {axes}. The runtime goes backwards through one over height and width "
            "together: replace it, or train only layers behind it."
        )
    return Layer(name=name, op=op, kernel_size=shape[1:3], **_ends(operator))


def _read_pad(model, operator, name):
    paddings = fb.constant(model, operator.inputs[1])
    if len(paddings) != 4 or paddings[[0, 3]].any():
        raise ValueError(f"Layer '{name}' pads more than height and width, which is all that the runtime goes backwards through.")
    return Layer(name=name, op="kPad", pads=(int(paddings[1, 0]), int(paddings[2, 0])), **_ends(operator))


def _read_relu(model, operator, name):
    activation = {"RELU": "kRelu", "RELU6": "kRelu6"}[fb.operator_name(model, operator)]
    return Layer(name=name, op="kActivation", activation=activation, **_ends(operator))


def _read_reshape(model, operator, name):
    return Layer(name=name, op="kReshape", **_ends(operator))


_READERS = {
    "CONV_2D": _read_convolution,
    "DEPTHWISE_CONV_2D": _read_convolution,
    "FULLY_CONNECTED": _read_dense,
    "ADD": _read_add,
    "AVERAGE_POOL_2D": _read_pool,
    "MAX_POOL_2D": _read_pool,
    "MEAN": _read_global_pool,
    "REDUCE_MAX": _read_global_pool,
    "PAD": _read_pad,
    "RELU": _read_relu,
    "RELU6": _read_relu,
    "RESHAPE": _read_reshape,
}


def _with_pad(model, layer, pad):
    """A PAD and the convolution behind it, as one convolution that pads by itself."""
    paddings = fb.constant(model, pad.inputs[1])
    pads = (int(paddings[1, 0]), int(paddings[2, 0]))
    return dataclasses.replace(layer, input=int(pad.inputs[0]), pads=pads)


def _is_part_of_convolutions(model, pad):
    """Whether all that reads a PAD is convolutions with padding "valid" and kernels wider than the padding."""
    graph, paddings = model.subgraphs[0], fb.constant(model, pad.inputs[1])
    readers = [operator for operator in graph.operators if pad.outputs[0] in operator.inputs]
    if pad.outputs[0] in graph.outputs or len(paddings) != 4 or paddings[[0, 3]].any():
        return False
    return all(
        fb.operator_name(model, reader) in ("CONV_2D", "DEPTHWISE_CONV_2D")
        and reader.builtinOptions.padding == 1
        and np.all(paddings[1:3].max(axis=1) < _shape(model, reader.inputs[1])[1:3])
        for reader in readers
    )


def _ends(operator):
    return {"input": int(operator.inputs[0]), "output": int(operator.outputs[0])}


def _shape(model, tensor):
    return tuple(int(size) for size in model.subgraphs[0].tensors[tensor].shape)


def _activation(options, name):
    if options.fusedActivationFunction not in _ACTIVATIONS:
        raise ValueError(f"Layer '{name}' has an activation that the runtime cannot go backwards through; use ReLU or ReLU6.")
    return _ACTIVATIONS[options.fusedActivationFunction]


def _pads(padding, size, *, kernel_size, strides):
    """(top, left): "same" pads (ceil(n / s) - 1) * s + k - n in all, the smaller half first; "valid" pads nothing."""
    if padding == 1:
        return (0, 0)
    return tuple(max((-(-n // s) - 1) * s + k - n, 0) // 2 for n, k, s in zip(size, kernel_size, strides))


def _weights(model, operator, kernel):
    scales, _ = fb.quantisation(model, operator.inputs[1])
    bias_tensor = int(operator.inputs[2]) if len(operator.inputs) > 2 else NONE
    num_channels = _shape(model, operator.outputs[0])[-1]
    return {
        "kernel": kernel,
        "kernel_scales": np.broadcast_to(scales, num_channels).astype(np.float32),
        "bias": fb.constant(model, bias_tensor),
        "kernel_tensor": int(operator.inputs[1]),
        "bias_tensor": bias_tensor,
    }


def _read_tensor(model, tensor, **fields):
    (scale,), (zero_point,) = fb.quantisation(model, tensor)
    height, width, channels = (1, 1, *_shape(model, tensor)[1:])[-3:]
    name = fb.tensor_name(model, tensor)
    return Tensor(name, height, width, channels, scale=float(scale), zero_point=int(zero_point), **fields)


# Gradients. From here on, tensors are numbered as in TrainableGraph.tensors.


def _renumber(layer, index_of):
    ends = {field: index_of[getattr(layer, field)] for field in ("input", "input2", "output")}
    return dataclasses.replace(layer, **ends)


def _mark_accumulation(layers, with_gradient):
    """Walking backwards, the first layer that reaches a tensor overwrites its gradient, the others add to it."""
    written, marked = set(), []
    for layer in reversed(layers):
        if layer.output in with_gradient:
            layer = dataclasses.replace(
                layer,
                accumulate_input=layer.input in written,
                accumulate_input2=layer.input2 in written or layer.input2 == layer.input,
            )
            written.update(with_gradient.intersection(layer.inputs))
        marked.append(layer)
    return marked[::-1]
