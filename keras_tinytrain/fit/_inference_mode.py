"""Layers that change their own state when a model is called for training, and how to call them so that they do not."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.model.keras_package import is_keras2
from keras_tinytrain.model.private_keras import all_layers, written_handles


def self_changing_layers(model: keras.Model, x: Any, *, forward: Callable[..., Any] | None = None) -> list[keras.layers.Layer]:
    """The layers of `model` that change a weight by being called with training=True, such as BatchNormalization.

    The model is traced in a graph that never runs. Seeds of random numbers and metrics are no weights and may change.

    Args:
        model: built.
        x: a batch of samples, of which only shapes and dtypes are used.
        forward: called as forward(x, training=True) instead of `model`.

    Raises:
        ValueError: a layer changes a weight even when it is called with training=False.
    """
    watch = _Watch(model)

    def call(x):
        with _answered([model, *all_layers(model)], watch):
            return (forward or model)(x, training=True)

    with tf.init_scope():
        tf.function(call, jit_compile=False).get_concrete_function(keras.tree.map_structure(_spec, x))
    for layer, names in watch.refused:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) changes its state {names} whenever it is called, so it cannot stay as "
            "it is while other layers are trained. Change it only where call(..., training=True), or leave that layer out."
        )
    return watch.found


def in_inference_mode(layers: Sequence[keras.layers.Layer]) -> contextlib.AbstractContextManager:
    """Inside it, each of `layers` is called with training=False, whatever its caller says."""
    return _answered(layers, lambda _, call, *args, **kwargs: _for_inference(call, *args, **kwargs))


@contextlib.contextmanager
def _answered(layers: Sequence[Any], answer: Callable) -> Iterator[None]:
    """Inside it, call(*args) of each layer is answered by answer(layer, call, *args)."""
    own = {id(layer): (layer, vars(layer).get("call")) for layer in layers}
    for layer, _ in own.values():
        vars(layer)["call"] = _bound(answer, layer, layer.call)  # past __setattr__, which would track it
    try:
        yield
    finally:
        for layer, call in own.values():
            vars(layer).pop("call")
            if call is not None:
                vars(layer)["call"] = call


def _bound(answer, layer, call):
    def answered(*args, **kwargs):
        return answer(layer, call, *args, **kwargs)

    vars(answered)["__signature__"] = inspect.signature(call)  # which Keras reads
    return answered


def _for_inference(call, *args, **kwargs):
    signature = inspect.signature(call)
    if "training" not in signature.parameters:
        return call(*args, **kwargs)
    bound = signature.bind(*args, **kwargs)
    bound.arguments["training"] = False
    return call(*bound.args, **bound.kwargs)


class _Watch:
    """Answers the calls of layers in a graph under construction, and finds those that write weights.

    Attributes:
        found: layers that write a weight in training, each once.
        refused: (layer, names of weights) of those that write them in inference mode too.
    """

    def __init__(self, model):
        self.found: list[keras.layers.Layer] = []
        self.refused: list[tuple[keras.layers.Layer, list[str]]] = []
        self._weights = {id(variable.handle): name for name, variable in _states(model)}
        self._written: set[int] = set()  # weights that the calls inside the present one have written

    def __call__(self, layer, call, *args, **kwargs):
        outputs, written = self._watched(call, *args, **kwargs)
        if not written:
            return outputs
        if not any(layer is other for other in self.found):
            self.found.append(layer)
        outputs, written = self._watched(_for_inference, call, *args, **kwargs)
        if written:
            self.refused.append((layer, sorted(self._weights[handle] for handle in written)))
        return outputs

    def _watched(self, call, *args, **kwargs):
        """(outputs, the weights that the call itself writes: not the layers that it calls)."""
        graph, outside, self._written = tf.compat.v1.get_default_graph(), self._written, set()
        start = len(graph.get_operations())
        outputs = call(*args, **kwargs)
        handles = {id(handle) for op in graph.get_operations()[start:] for handle in written_handles(op)}
        written = (handles & self._weights.keys()) - self._written
        self._written |= outside | written
        return outputs, written


def _states(model):
    """(name, variable) of all weights, and of variables that layers hold as plain attributes."""
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    for weight in model.weights:
        if is_keras2(model):
            if id(weight) not in metrics:
                yield weight.name, weight
        else:
            yield weight.path, weight.value
    for layer in [model, *all_layers(model)]:
        for name, value in vars(layer).items():
            if isinstance(value, tf.Variable) and id(value) not in metrics:
                yield f"{layer.name}/{name}", value


def _spec(tensor):
    return tf.TensorSpec.from_tensor(tf.convert_to_tensor(tensor))
