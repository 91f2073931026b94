"""Walk and rebuild the graph of a Keras model: nested models flattened, one node per layer call."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_tinytrain.model._keras2_layers import keras3_name
from keras_tinytrain.model.private_keras import (
    functional_of,
    graph_nodes,
    is_functional,
    operations_of,
    renamed,
    run_graph,
)


@dataclasses.dataclass(frozen=True)
class Node:
    """One layer call of a flat functional model.

    Args:
        layer: the Keras layer (or operation) that is called.
        inputs: indices of the nodes whose outputs it reads.
        output: its symbolic output tensor.
    """

    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    output: keras.KerasTensor


def require_functional(model: keras.Model) -> keras.Model:
    """The functional model that `model` runs. Raises ValueError where there is none yet."""
    if isinstance(model, keras.Sequential):
        functional = functional_of(model)
        if functional is None:
            raise ValueError(
                f"Sequential model '{model.name}' is not built, so its shapes are unknown. "
                "Begin it with keras.Input(shape=...) or call model.build(input_shape)."
            )
        return functional
    if not is_functional(model):
        raise ValueError(
            f"Expected a Functional or Sequential keras.Model. Received: {type(model).__name__} '{model.name}', a "
            "subclassed model whose layers cannot be seen. Rebuild it of its layers: x = keras.Input(shape); keras.Model(x, "
            "model.call(x)), where call needs nothing but layers and operations of Keras."
        )
    return model


def check_ends(model: keras.Model) -> None:
    """Raise ValueError where a built Functional or Sequential model has several inputs or outputs."""
    functional = require_functional(model)
    for side, names in (("input", [tensor.name for tensor in functional.inputs]), ("output", list(functional.output_names))):
        if len(names) != 1:
            raise ValueError(
                f"Model '{model.name}' has {len(names)} {side}s {names}; models with one {side} are supported. Take a part of it "
                "with keras.Model(inputs, outputs)."
            )


def walk(model: keras.Model) -> tuple[Node, ...]:
    """Nodes of a flat functional model in execution order.

    Args:
        model: a built Functional or Sequential model with one input and without nested models (see `flatten`).

    Raises:
        ValueError: the model has several inputs or outputs, a nested model, or a layer that is called twice.
    """
    functional = require_functional(model)
    check_ends(functional)
    nodes: list[Node] = []
    index_of: dict[int, int] = {}  # {id of a tensor: the node that makes it}
    for node in graph_nodes(functional):
        layer = node.operation
        if any(layer is other.layer for other in nodes):
            raise ValueError(_shared(layer, model))
        if isinstance(layer, keras.Model):
            raise ValueError(f"Model '{model.name}' contains the model '{layer.name}': flatten it first.")
        inputs = tuple(index_of[id(tensor)] for tensor in node.input_tensors)
        for tensor in node.output_tensors:
            index_of[id(tensor)] = len(nodes)
        nodes.append(Node(layer=layer, inputs=inputs, output=node.output_tensors[0]))
    return tuple(nodes)


def rebuild(model: keras.Model, call: Callable[..., Any]) -> keras.Model:
    """A new model over the same graph, in which each layer call is answered by `call(layer, *args, **kwargs)`.

    Nested models are entered, so the result is flat; a single output in a list comes without it. `call` returns the symbolic
    output that stands for the layer's. The layer that it receives carries its name of `named_operations`, and where one without
    weights is called at several places, a name of its own at each.

    Raises:
        ValueError: a layer with weights is called twice.
    """
    functional = require_functional(model)
    names = {id(operation): name for name, operation in named_operations(model).items()}
    times_called: dict[int, int] = {}

    def visit(operation):
        if isinstance(operation, keras.Model):
            inner = require_functional(operation)
            return lambda *args, **options: only(run_graph(inner, list(args), visit))
        count = times_called[id(operation)] = times_called.get(id(operation), 0) + 1
        if count > 1 and getattr(operation, "weights", []):
            raise ValueError(_shared(operation, model))
        name = names[id(operation)] + (f".{count}" if count > 1 else "")
        layer = operation if name == operation.name else renamed(operation, name)
        return lambda *args, **options: call(layer, *args, **options)

    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name) for tensor in functional.inputs]
    outputs = only(run_graph(functional, inputs, visit))
    return _functional(inputs, outputs, model.name)


def _functional(inputs, outputs, name):
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=name)


def flatten(model: keras.Model) -> keras.Model:
    """`model` with its nested models dissolved, as `rebuild` does, under its name; weights are shared with the original, and
    layers too except those that need another name."""
    functional = require_functional(model)
    operations = [node.operation for node in graph_nodes(functional)]
    is_flat = not any(isinstance(operation, keras.Model) for operation in operations)
    if is_flat and len({*map(id, operations)}) == len(operations) and isinstance(functional.output, keras.KerasTensor):
        return functional if functional is model else _functional(functional.inputs, functional.output, model.name)
    return rebuild(model, lambda layer, *args, **kwargs: layer(*args, **kwargs))


def named_operations(model: Any) -> dict[str, Any]:
    """{name in the flat model: layer or operation} of a model of Keras or tf_keras, at any depth of nesting.

    A layer keeps its name; where several models hold a layer of one name, those of a nested model are called by their path,
    "outer.inner.layer".
    """
    paths = {id(operation): (path, operation) for path, operation in reversed([*_paths(model)])}
    counts = collections.Counter(path[-1] for path, _ in paths.values())
    named = [(path if counts[path[-1]] > 1 else path[-1:], operation) for path, operation in reversed(paths.values())]
    return {".".join(path): operation for path, operation in named}


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer with this name of `named_operations`. Raises ValueError where there is none."""
    layers = named_operations(model)
    if name in layers:
        return layers[name]
    raise ValueError(f"Model '{model.name}' has no layer '{name}'.")


def only(outputs: Any) -> Any:
    """The single output of a model that returns it in a list; other outputs as they are."""
    return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs


def _paths(model, path=()):
    """(names from the outermost model to the operation, operation); a nested model's own inputs are not in the flat model."""
    for operation in operations_of(model):
        here = (*path, keras3_name(operation.name))
        if hasattr(operation, "layers") and hasattr(operation, "fit"):
            yield from _paths(operation, here)
        elif not path or type(operation).__name__ != "InputLayer":
            yield here, operation


def _shared(layer, model):
    return (
        f"Layer '{layer.name}' is called more than once in model '{model.name}'. Shared layers with weights are not supported: "
        "give each call a layer of its own."
    )
