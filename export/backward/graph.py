"""The trainable part of an int8 model as plain values: which activations to keep, and how to go through it backwards.

Activations that the backward pass reads become extra outputs. They are read off the int8 graph itself, so that they are exact:
inputs of trained layers and of max pooling, and outputs of a ReLU that a gradient flows through.

The gradient of an inverted bottleneck's interior (1 x 1 convolution to many channels, depthwise, 1 x 1 back to few) is taken by
channel, so that it never exists whole: some planes take the place of a tensor.

Operators that no gradient flows through are not read: a model that is not cut may begin with anything.
"""

import dataclasses
from collections.abc import Collection, Sequence

from keras_tinytrain.choose.backward_pass import Step, interiors, place_gradients, values_read, with_gradient
from keras_tinytrain.export.backward.operators import NONE, OPERATORS, Layer, pads_convolutions_only, read_operator, with_pad
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.layer_names import layer_name, output_of
from keras_tinytrain.plan import Plan
from keras_tinytrain.tflm_runtime.headers import constant

STORED_SAMPLE = constant("tinytrain_tables.h", "kStoredSample")
MAX_OUTPUTS = constant("tinytrain/trainer/check.h", "kMaxOutputs")


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
    gradient_bytes_whole: int  # what they would take if no bottleneck's interior went by channel
    candidates: tuple[TrainedLayer, ...] = ()  # what the device may choose from; () where the plan is decided
    maps: tuple[int, ...] = ()  # indices of the tensors that a closed-form head reads beside the embedding

    def is_stored_map(self, tensor: int) -> bool:
        """Whether a tensor is a map that the frozen part computes, which follows the trainable part's input in a stored sample."""
        return tensor > 0 and self.tensors[tensor].kept == STORED_SAMPLE

    @property
    def stored_maps(self) -> tuple[int, ...]:
        """Indices of those maps."""
        return tuple(filter(self.is_stored_map, range(len(self.tensors))))

    @property
    def num_stored(self) -> int:
        """int8 values of a stored sample."""
        return self.tensors[0].size + sum(self.tensors[tensor].size for tensor in self.stored_maps)


def read_trainable(
    trainable: bytes,
    operators: dict[str, int],
    plan: Plan,
    *,
    adaptive: bool = False,
    maps: Sequence[str] = (),
    without_bias: Collection[str] = (),
    frozen: bytes | None = None,
) -> tuple[bytes, TrainableGraph]:
    """Read the trainable part and make the activations that the backward pass needs its outputs.

    Args:
        trainable, operators: as `cut_model` returns them.
        plan: the channels to train of each layer.
        adaptive: the plan's layers are candidates among which the device chooses; it scores them by their outputs.
        maps: names of the layers whose outputs a closed-form head reads: further outputs.
        without_bias: names of the layers whose kernels alone are trained.
        frozen: as `cut_model` returns it, with further outputs where it computes some of the maps.

    Returns:
        (trainable.tflite with its outputs, its graph).

    Raises:
        ValueError: the runtime cannot go backwards through an operator; it is named together with its Keras layer.
    """
    model = fb.read_model(trainable)
    features, head = int(model.subgraphs[0].inputs[0]), int(model.subgraphs[0].outputs[0])
    layers, trained = _read_layers(model, operators)
    for index in (trained[name] for name in trained if name in without_bias):
        layers[index] = dataclasses.replace(layers[index], bias=None, bias_tensor=NONE)
    ends = [tensor for layer in layers for tensor in (*layer.inputs, layer.output)]
    stored = _stored_maps(frozen, maps)
    map_tensors = [output_of(model, name) for name in maps if name not in stored]
    order = [t for t in dict.fromkeys([features, *ends, *map_tensors]) if t != head] + [
        head
    ]  # tensors of the file, as the graph numbers them
    layers = [_renumber(layer, {tensor: index for index, tensor in enumerate(order)} | {NONE: NONE}) for layer in layers]
    steps, shapes = _steps(model, layers, set(trained.values()), order)
    read = values_read(steps) | ({layers[index].output for index in trained.values()} if adaptive else set())
    outputs = [head, *sorted({order[index] for index in read}.union(map_tensors) - {head, features})]
    if len(outputs) > MAX_OUTPUTS:
        raise ValueError(
            f"Training would keep too many activations: {len(outputs)}, the runtime keeps {MAX_OUTPUTS}. Plan fewer or later layers."
        )
    planes = interiors(steps, shapes)
    gradients = place_gradients(steps, shapes, planes)
    kept = {tensor: index for index, tensor in enumerate(outputs)} | {features: STORED_SAMPLE}
    tensors = [
        _read_tensor(
            model,
            tensor,
            kept=kept.get(tensor, NONE),
            gradient_offset=gradients.offsets.get(index, NONE),
            num_planes=planes.get(index, 0),
        )
        for index, tensor in enumerate(order)
    ]
    chosen = tuple(_trained_layer(layers, name, index, plan) for name, index in trained.items())
    graph = TrainableGraph(
        tensors=tuple(tensors),
        layers=tuple(_mark_accumulation(layers, with_gradient(steps))),
        trained=() if adaptive else chosen,
        candidates=chosen if adaptive else (),
        num_outputs=len(outputs),
        head_output=0,
        gradient_bytes=gradients.num_bytes,
        gradient_bytes_bound=gradients.bound,
        gradient_bytes_whole=place_gradients(steps, shapes, {}).num_bytes,
        maps=tuple(map(order.index, map_tensors)),
    )
    graph = _with_stored(graph, [stored[name] for name in maps if name in stored], [name in stored for name in maps])
    fb.unshare_constants(model, [t for each in chosen for t in (each.kernel_tensor, each.bias_tensor) if t != NONE])
    return fb.part_of(model, list(range(len(model.subgraphs[0].operators))), [features], outputs), graph


def _stored_maps(frozen: bytes | None, maps: Sequence[str]) -> dict[str, Tensor]:
    """{name of a map: its tensor} of those that the frozen part computes."""
    if frozen is None:
        return {}
    model = fb.read_model(frozen)
    outputs = [int(tensor) for tensor in model.subgraphs[0].outputs[1:]]
    names = {layer: tensor for tensor in outputs for layer in fb.tensor_name(model, tensor).split(";")}
    return {name: _read_tensor(model, names[name], kept=STORED_SAMPLE) for name in maps if name in names}


def _with_stored(graph: TrainableGraph, stored: Sequence[Tensor], is_stored: Sequence[bool]) -> TrainableGraph:
    """The graph with the maps of the stored sample before its last tensor. `is_stored` says of each map whether it is one of them."""
    last = len(graph.tensors) - 1
    moved = {NONE: NONE, **{index: index for index in range(last)}, last: last + len(stored)}
    own, others = iter(range(last, last + len(stored))), iter(moved[index] for index in graph.maps)
    return dataclasses.replace(
        graph,
        tensors=(*graph.tensors[:-1], *stored, graph.tensors[-1]),
        layers=tuple(_renumber(layer, moved) for layer in graph.layers),
        maps=tuple(next(own if each else others) for each in is_stored),
    )


# Until `_renumber`, tensors are numbered as in the .tflite file.


def _read_layers(model, operators):
    """(operators that a gradient flows through as layers in execution order, {trained layer's name: its index among them})."""
    name_of = {index: name for name, index in operators.items()}
    flowing = _flowing(model, set(name_of))
    pads, layers, trained = {}, list[Layer](), {}
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
    flowing, tensors = set[int](), set[int]()
    for index, operator in enumerate(model.subgraphs[0].operators):
        if index in trained or tensors.intersection(int(tensor) for tensor in operator.inputs):
            flowing.add(index)
            tensors.update(int(tensor) for tensor in operator.outputs)
    return flowing


def _trained_layer(layers, name, index, plan):
    layer = layers[index]
    return TrainedLayer(name, index, plan[name].channels, layer.kernel_tensor, layer.bias_tensor)


def _read_tensor(model, tensor, **fields):
    (scale,), (zero_point,) = fb.quantisation(model, tensor)
    height, width, channels = (1, 1, *fb.activation_shape(model, tensor))[-3:]
    name = fb.tensor_name(model, tensor)
    return Tensor(name, height, width, channels, scale=float(scale), zero_point=int(zero_point), **fields)


# From here on, tensors are numbered as in TrainableGraph.tensors.


def _renumber(layer, index_of):
    ends = {field: index_of[getattr(layer, field)] for field in ("input", "input2", "output")}
    return dataclasses.replace(layer, **ends)


def _steps(model, layers, trained, order):
    """The layers as steps of the backward pass, and the shapes of the tensors `order` without the batch axis."""
    shapes = {index: fb.activation_shape(model, tensor) for index, tensor in enumerate(order)}
    steps = [
        Step(
            inputs=layer.inputs,
            output=layer.output,
            trained=index in trained,
            reads_input=OPERATORS[layer.op].reads_input,
            reads_output=layer.reads_output,
            reads_other=OPERATORS[layer.op].reads_other,
            elementwise=OPERATORS[layer.op].in_place,
            depthwise=layer.op == "kDepthwiseConv2D",
            pointwise=_is_pointwise(layer, shapes),
        )
        for index, layer in enumerate(layers)
    ]
    return steps, shapes


def _is_pointwise(layer, shapes):
    same_size = shapes[layer.input][:-1] == shapes[layer.output][:-1]
    return layer.op == "kConv2D" and (layer.kernel_size, layer.strides) == ((1, 1), (1, 1)) and same_size


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
