"""Walk and rebuild the graph of a Keras model: nested models flattened, one node per layer call."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_tinytrain.model.private_keras import all_layers, functional_of, graph_nodes, is_functional, run_graph


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
            "subclassed model whose layers cannot be seen. Rebuild it with keras.Model(inputs, outputs)."
        )
    return model


def walk(model: keras.Model) -> tuple[Node, ...]:
    """Nodes of a flat functional model in execution order.

    Args:
        model: a built Functional or Sequential model with one input and without nested models (see `flatten`).

    Raises:
        ValueError: the model has several inputs, a nested model, or a layer that is called twice.
    """
    functional = require_functional(model)
    if len(functional.inputs) != 1:
        names = [tensor.name for tensor in functional.inputs]
        raise ValueError(f"Model '{model.name}' has {len(names)} inputs {names}; models with one input are supported.")
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

    Nested models are entered, so the result is flat. `call` returns the symbolic output that stands for the layer's.

    Raises:
        ValueError: a layer is called twice, or two layers have the same name once nested models are dissolved.
    """
    functional = require_functional(model)
    called: list[keras.layers.Layer] = []

    def visit(operation):
        if isinstance(operation, keras.Model):
            inner = require_functional(operation)
            return lambda *args, **kwargs: only(run_graph(inner, list(args), visit))
        _check_new(operation, called, model)
        called.append(operation)
        return lambda *args, **kwargs: call(operation, *args, **kwargs)

    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name) for tensor in functional.inputs]
    outputs = run_graph(functional, inputs, visit)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=model.name)


def flatten(model: keras.Model) -> keras.Model:
    """`model` with its nested models dissolved; layers (and so weights) are shared with the original."""
    if not any(isinstance(layer, keras.Model) for layer in model.layers):
        return require_functional(model)
    return rebuild(model, lambda layer, *args, **kwargs: layer(*args, **kwargs))


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """The layer called `name`, at any depth of nesting. Raises ValueError where there is none."""
    for layer in all_layers(model):
        if layer.name == name and not isinstance(layer, keras.Model):
            return layer
    raise ValueError(f"Model '{model.name}' has no layer '{name}'.")


def only(outputs: Any) -> Any:
    """The single output of a model that returns it in a list; other outputs as they are."""
    return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs


def _check_new(operation, called, model):
    for other in called:
        if operation is other:
            raise ValueError(_shared(operation, model))
        if operation.name == other.name:
            raise ValueError(
                f"Two layers of model '{model.name}' are called '{other.name}' once nested models are dissolved: rename one."
            )


def _shared(layer, model):
    return (
        f"Layer '{layer.name}' is called more than once in model '{model.name}'. Shared layers are not supported: give each "
        "call a layer of its own."
    )
