"""The models' arena over one training step of a bundle: bytes alive at each operator, forward and then backward."""

import re
from collections.abc import Sequence
from typing import Any

from keras_tinytrain.choose.arena import MicroGraph
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.read_tables import HEADER, ReadTables
from keras_tinytrain.export.tables_version import is_readable
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.tflm_runtime.headers import enum

_BESIDE = {  # parts of the scratch that lie beside a part's tensors all the time that it runs
    "frozen": ("features", "image"),
    "trainable": ("weight_gradients", "head"),
    "backward": ("weight_gradients", "head"),
}
Step = dict[str, Any]  # {"part": "frozen", "trainable" or "backward", "operator", "layer", "shape", "bytes"}


def arena_steps(bundle: Bundle) -> list[Step]:
    """Steps in the order in which they run. Tensors only: the library's bookkeeping takes the rest of the arena.

    While it trains, the gradients of weights are alive all the time; going back, also the values that the forward pass keeps, and
    the gradients of activations between their last reader and their producer. A bundle whose tables this release does
    not read has no steps of the backward pass.
    """
    frozen = bundle.frozen
    steps = _forward("frozen", frozen, bundle) if frozen else []
    steps += _forward("trainable", bundle.trainable, bundle) + _backward(bundle)
    beside = {part: sum(bundle.manifest["scratch"].get(name, 0) for name in names) for part, names in _BESIDE.items()}
    return [{**step, "bytes": step["bytes"] + beside[step["part"]]} for step in steps]


def _forward(part: str, model_bytes: bytes, bundle: Bundle) -> list[Step]:
    model, graph = fb.read_model(model_bytes), micro_graph(model_bytes)
    layers = _layers(model, bundle.manifest["layers"], bundle.manifest["trained"])
    return [
        {
            "part": part,
            "operator": operator.kind,
            "layer": layer,
            "shape": list(operator.output),
            "bytes": _alive(graph, moment),
        }
        for (moment, operator), layer in zip(graph.operators, layers, strict=True)
    ]


def _layers(model: fb.schema.ModelT, known: list[str], trained: dict[str, int]) -> list[str]:
    """The Keras layer of each operator: of several the one that is trained, else the last. Operators that stand for none, such as
    the two halves of a layer that is split, are parts of the next that does."""
    layer, layers = "", []
    for operator in reversed(model.subgraphs[0].operators):
        found = [name for name in fb.tensor_name(model, int(operator.outputs[0])).split(";") if name in known]
        if found:
            layer = next((name for name in found if name in trained), found[-1])
        layers.append(layer)
    return layers[::-1]


def _alive(graph: MicroGraph, moment: int) -> int:
    return sum(num_bytes for num_bytes, first, last in graph.activations if first <= moment <= last)


def _backward(bundle: Bundle) -> list[Step]:
    source = bundle.path / "tables.cpp"
    if not is_readable(source):
        return []
    read = ReadTables(source, bundle.trainable)
    tensors = read.array(read.tables.tensors, "Tensor", read.tables.num_tensors)
    layers = read.array(read.tables.layers, "Layer", read.tables.num_layers)
    trained = {
        each.layer: read.text(each.name) for each in read.array(read.tables.trained, "TrainedLayer", read.tables.num_trained)
    }
    graph = micro_graph(bundle.trainable)
    kept, spans = _alive(graph, len(graph.operators)), _gradient_spans(layers)
    steps = []
    for number in reversed(range(len(layers))):
        alive = [tensor for tensor, (first, last) in spans.items() if first <= number <= last]
        gradients = sum(_gradient_bytes(tensors[tensor]) for tensor in alive)
        after = tensors[layers[number].output]
        steps.append(
            {
                "part": "backward",
                "operator": _operator(layers[number].op),
                "layer": trained.get(number, ""),
                "shape": [after.height, after.width, after.channels],
                "bytes": kept + gradients,
            }
        )
    return steps


def _gradient_spans(layers: Sequence[Any]) -> dict[int, tuple[int, int]]:
    """{tensor: (first, last)}: its gradient lives from its last reader back to its producer, as numbers of layers."""
    spans: dict[int, tuple[int, int]] = {}
    for number, layer in enumerate(layers):
        for tensor in (layer.input, layer.input2, layer.output):
            if tensor >= 0:
                first, _ = spans.get(tensor, (number, number))
                spans[tensor] = first, number
    return spans


def _gradient_bytes(tensor: Any) -> int:
    """Of float32; 0 where no gradient flows. Of a bottleneck interior some planes exist at a time."""
    channels = tensor.num_planes or tensor.channels
    return 4 * tensor.height * tensor.width * channels if tensor.gradient_offset >= 0 else 0


def _operator(number: int) -> str:
    """The enumerator without its k, as forward operators are named: DENSE_ALONG."""
    name = next(name for name, value in enum(HEADER, "Operator").items() if value == number)
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name.removeprefix("k")).upper()
