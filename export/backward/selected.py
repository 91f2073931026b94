"""Trained channels as a convolution of their own, so that RAM does not hold the layer's frozen weights.

The forward pass reads each kernel in one piece. A layer that is trained in part becomes

    convolution (trained channels) + convolution (the others) + CONCATENATION + GATHER, which restores the order,

and only the weights of the first convolution move to RAM. Every value is computed as before, so that activations and all that
is learned are the same bit for bit. It costs copies of the layer's output in the models' arena. They may be free: the arena is
as large as the largest moment of either model. So the arena is computed, layer by layer.

A depthwise convolution is never split: its kernel is a few bytes a channel, and its input would have to be split with it.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from keras_tinytrain.export.backward.graph import TrainableGraph, TrainedLayer
from keras_tinytrain.export.backward.memory import layer_in_ram
from keras_tinytrain.export.backward.operators import NONE, Layer
from keras_tinytrain.export.tflite import flatbuffer as fb

_HasWeights = TypeVar("_HasWeights", Layer, TrainedLayer)


@dataclasses.dataclass(frozen=True)
class RamChoice:
    """What RAM holds of one trained layer, and what either way takes.

    Args:
        name: the layer.
        split: True where RAM holds the trained channels only.
        whole_bytes, selected_bytes: of weights in RAM: all of the layer's, or those of its trained channels.
        arena_growth: bytes by which splitting it makes the model arena grow, given the choices for layers that save more;
            None where that was not asked, because the layer cannot be split or the choice was given.
    """

    name: str
    split: bool
    whole_bytes: int
    selected_bytes: int
    arena_growth: int | None = None


def choose_split(
    trainable: bytes, graph: TrainableGraph, *, model_arena: Callable[[bytes], int], only: bool | None = None
) -> tuple[bytes, TrainableGraph, tuple[RamChoice, ...]]:
    """Split the layers for which that takes fewer bytes of SRAM in all; those that save most are tried first.

    Args:
        trainable, graph: as `read_trainable` returns them.
        model_arena: bytes of the arena which both models share, from the trainable one.
        only: True splits whatever can be split, False nothing, None what is cheaper.

    Returns:
        (trainable.tflite, its graph, one choice per trained layer in the order of `graph.trained`).
    """
    whole = {trained.name: RamChoice(trained.name, False, *_weights(graph, trained)) for trained in graph.trained}
    candidates = [name for name in whole if _can_be_split(graph, name)] if only is not False else []
    candidates.sort(key=lambda name: -_saving(whole[name]))

    def arena_with(names):
        return model_arena(split_layers(trainable, graph, names)[0])

    chosen, growth = candidates, dict[str, int]()
    if only is not True:
        chosen, growth = _cheapest(arena_with, {name: _saving(whole[name]) for name in candidates})
    choices = (
        dataclasses.replace(choice, split=name in chosen, arena_growth=growth.get(name)) for name, choice in whole.items()
    )
    return *split_layers(trainable, graph, chosen), tuple(choices)


def _cheapest(arena_with: Callable[[list[str]], int], savings: dict[str, int]) -> tuple[list[str], dict[str, int]]:
    """(names whose saving is more than the arena then grows, or all if that saves more, {name: growth}), all in bytes.

    Where splitting all is free, that one question is enough.
    """
    if not savings:
        return [], {}
    arena, arena_of_all = arena_with([]), arena_with(list(savings))
    if arena_of_all == arena:
        return list(savings), dict.fromkeys(savings, 0)
    chosen: list[str] = []
    growth: dict[str, int] = {}
    for name, saving in savings.items():
        with_it = arena_with([*chosen, name])
        growth[name] = with_it - arena
        if growth[name] < saving:
            chosen, arena = [*chosen, name], with_it
    if arena_of_all - sum(savings.values()) < arena - sum(savings[name] for name in chosen):
        chosen = list(savings)
    return chosen, growth


def split_layers(trainable: bytes, graph: TrainableGraph, names: list[str]) -> tuple[bytes, TrainableGraph]:
    """Split the trained layers `names`. The model's outputs and the graph's tensors do not change."""
    if not names:
        return trainable, graph
    model, layers, all_trained = fb.read_model(trainable), list(graph.layers), []
    for trained in graph.trained:
        if trained.name in names:
            layers[trained.layer], trained = _split(model, layers[trained.layer], trained)
        all_trained.append(trained)
    subgraph = model.subgraphs[0]
    ends = [[int(tensor) for tensor in tensors] for tensors in (subgraph.inputs, subgraph.outputs)]
    operators = list(range(len(subgraph.operators)))
    number = fb.part_tensors(model, operators, *ends)

    def renumbered(value: _HasWeights) -> _HasWeights:
        return dataclasses.replace(value, kernel_tensor=number[value.kernel_tensor], bias_tensor=number[value.bias_tensor])

    graph = dataclasses.replace(graph, layers=tuple(map(renumbered, layers)), trained=tuple(map(renumbered, all_trained)))
    return fb.part_of(model, operators, *ends), graph


def _weights(graph, trained):
    """Bytes of weights in RAM: of the whole layer, and of its trained channels alone."""
    whole, selected = (dataclasses.replace(trained, is_split=split) for split in (False, True))
    return layer_in_ram(graph, whole).num_bytes, layer_in_ram(graph, selected).num_bytes


def _can_be_split(graph, name):
    (trained,) = [trained for trained in graph.trained if trained.name == name]
    whole, selected = _weights(graph, trained)
    return graph.layers[trained.layer].op != "kDepthwiseConv2D" and selected < whole


def _saving(choice):
    return choice.whole_bytes - choice.selected_bytes


def _split(model, layer, trained):
    """Replace the layer's operator in `model`; returns the layer without its trained channels, and the trained layer."""
    graph = model.subgraphs[0]
    (index,) = [i for i, operator in enumerate(graph.operators) if layer.kernel_tensor in _inputs(operator)[1:2]]
    operator = graph.operators[index]
    chosen = np.array(trained.channels)
    others = np.setdiff1d(np.arange(len(layer.kernel_scales)), chosen)
    first, second = (_with_rows(model, operator, rows) for rows in (chosen, others))
    restored = _restore_order(model, operator, [(first, chosen), (second, others)])
    graph.operators[index : index + 1] = [first, second, *restored]
    frozen = dataclasses.replace(
        layer,
        kernel=layer.kernel[others],
        bias=None if layer.bias is None else layer.bias[others],
        kernel_tensor=_inputs(second)[1],
        bias_tensor=NONE if layer.bias is None else _inputs(second)[2],
    )
    bias_tensor = NONE if layer.bias is None else _inputs(first)[2]
    return frozen, dataclasses.replace(trained, kernel_tensor=_inputs(first)[1], bias_tensor=bias_tensor, is_split=True)


def _with_rows(model, operator, rows):
    """A copy of a convolution or dense operator that computes some of its output channels, into a tensor of its own."""
    part, tensors = copy.copy(operator), model.subgraphs[0].tensors
    part.inputs = [_inputs(operator)[0]]
    for tensor in _inputs(operator)[1:]:
        value = fb.constant(model, tensor)
        part.inputs.append(NONE if value is None else _new_tensor(model, tensors[tensor], value[rows], rows))
    output = tensors[operator.outputs[0]]
    part.outputs = [_new_tensor(model, output, None, None, shape=[*output.shape[:-1], len(rows)])]
    return part


def _restore_order(model, operator, parts):
    """CONCATENATION of the parts and, where their channels are mixed, GATHER, into the output of `operator`."""
    graph, output = model.subgraphs[0], int(operator.outputs[0])
    axis = len(graph.tensors[output].shape) - 1
    parts = sorted(parts, key=lambda part: part[1][0])  # already in order where one begins after the other's end
    order = np.concatenate([rows for _, rows in parts])
    options = fb.schema.ConcatenationOptionsT()
    options.axis = axis
    concatenation = _operator(model, "CONCATENATION", options, [part.outputs[0] for part, _ in parts], output)
    if np.array_equal(order, np.sort(order)):
        return [concatenation]
    concatenation.outputs = [_new_tensor(model, graph.tensors[output], None, None)]
    indices = fb.schema.TensorT()
    indices.type, indices.name, indices.hasRank = fb.schema.TensorType.INT32, b"", True
    options = fb.schema.GatherOptionsT()
    options.axis = axis
    place = _new_tensor(model, indices, np.argsort(order).astype(np.int32), None)
    return [concatenation, _operator(model, "GATHER", options, [concatenation.outputs[0], place], output)]


def _operator(model, name, options, inputs, output):
    operator = fb.schema.OperatorT()
    operator.opcodeIndex = _operator_code(model, getattr(fb.schema.BuiltinOperator, name))
    operator.builtinOptionsType = getattr(fb.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    operator.builtinOptions, operator.inputs, operator.outputs = options, inputs, [output]
    return operator


def _operator_code(model, builtin):
    code = fb.schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # of int8
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _new_tensor(model, like, value, rows, *, shape=None):
    """A tensor quantised as `like` (by channel: as the channels `rows` of it), constant where a value is given."""
    tensor = copy.copy(like)
    tensor.shape = list(value.shape) if shape is None and value is not None else list(like.shape if shape is None else shape)
    tensor.shapeSignature, tensor.name = None, b""
    tensor.buffer = 0
    if value is not None:
        buffer = copy.copy(model.buffers[0])
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        tensor.buffer = len(model.buffers)
        model.buffers.append(buffer)
    quantisation = tensor.quantization
    if rows is not None and quantisation is not None and quantisation.scale is not None and len(quantisation.scale) > 1:
        tensor.quantization = copy.copy(quantisation)
        tensor.quantization.scale = np.asarray(quantisation.scale)[rows]
        tensor.quantization.zeroPoint = np.asarray(quantisation.zeroPoint)[rows]
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def _inputs(operator):
    return [int(tensor) for tensor in operator.inputs]
