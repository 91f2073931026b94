"""The trainable part of an int8 model as plain values: what to keep, and how to go through it backwards.

Which activations become extra outputs is read off the int8 graph itself, so that it is exact: the inputs of trained layers, and
the outputs behind a ReLU that a gradient flows through.

The gradient of an inverted bottleneck's wide middle (1 x 1 convolution to many channels, depthwise, 1 x 1 back to few) is taken
by channel, so that it never exists whole: some planes take the place of a tensor.

Operators that no gradient flows through are not read: a model that is not cut may begin with anything.
"""

import dataclasses
import math

from keras_tinytrain.export.backward.gradients import NONE, middles, place_gradients
from keras_tinytrain.export.backward.operators import Layer, pads_convolutions_only, read_operator, shape_of, with_pad
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.convert import layer_name
from keras_tinytrain.plan import Plan

STORED_SAMPLE = -2
MAX_OUTPUTS = 64  # kMaxOutputs in tinytrain.h


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
    shapes = [shape_of(model, tensor) for tensor in order]
    planes = middles(layers, shapes, with_gradient)
    sizes = [math.prod((*shape[:-1], planes.get(index, shape[-1]))) for index, shape in enumerate(shapes)]
    offsets, gradient_bytes, bound = place_gradients(layers, sizes, with_gradient, planes)
    whole = place_gradients(layers, [math.prod(shape) for shape in shapes], with_gradient, set())[1]
    output_of = {tensor: index for index, tensor in enumerate(outputs)} | {features: STORED_SAMPLE}
    tensors = [
        _read_tensor(model, tensor, kept=output_of.get(tensor, NONE), gradient_offset=offset, num_planes=planes.get(index, 0))
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


# Until `_renumber`, tensors are numbered as in the .tflite file.


def _read_layers(model, operators):
    """(operators that a gradient flows through as layers in execution order, {trained layer's name: its index among them})."""
    name_of = {index: name for name, index in operators.items()}
    flowing = _flowing(model, set(name_of))
    pads, layers, trained = {}, [], {}
    for index, operator in enumerate(model.subgraphs[0].operators):
        kind, output = fb.operator_name(model, operator), int(operator.outputs[0])
        name = name_of.get(index) or layer_name(model, output)
        if kind == "PAD" and pads_convolutions_only(model, operator):
            pads[output] = operator
            continue
        if index not in flowing:
            continue
        if index in name_of:
            trained[name] = len(layers)
        layer = read_operator(model, operator, name, first_trained=next(iter(operators)))
        layers.append(with_pad(model, layer, pads[layer.input]) if layer.input in pads else layer)
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


def _read_tensor(model, tensor, **fields):
    (scale,), (zero_point,) = fb.quantisation(model, tensor)
    height, width, channels = (1, 1, *shape_of(model, tensor)[1:])[-3:]
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
