"""The only module that uses the private API of Keras, tf_keras and TensorFlow. Each function says why no public API serves."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.functional import Functional
from tensorflow.python.framework import auto_control_deps_utils

# The path of Functional as Keras 3 writes it into a model's configuration; Keras 2 writes none.
FUNCTIONAL_MODULE = "keras.src.models.functional"


def is_functional(model: keras.Model) -> bool:
    """Whether the model's graph is known. Keras has no public name for the class that `keras.Model(inputs, outputs)` makes."""
    return isinstance(model, Functional)


def functional_of(model: keras.Sequential) -> keras.Model | None:
    """The functional model that a Sequential runs, None before it is built. A copy by public means would not share the layers."""
    return model._functional if model.built else None


def operations_of(model: Any) -> list:
    """Layers and operations of a model of Keras or tf_keras, nested ones as they are. `model.layers` lacks operations.

    Of a Sequential model of Keras 3 that is not built, and of tf_keras, they are the layers.
    """
    functional = functional_of(model) if isinstance(model, keras.Sequential) else model
    return functional.operations if isinstance(functional, Functional) else model.layers


def graph_nodes(functional: keras.Model) -> list:
    """The nodes of a functional model in execution order. `model.layers` has neither this order nor the edges."""
    by_depth = functional._nodes_by_depth
    return list(itertools.chain.from_iterable(by_depth[depth] for depth in sorted(by_depth, reverse=True)))


def run_graph(functional: keras.Model, inputs: list, visit: Callable[[Any], Callable]) -> Any:
    """The model's outputs for `inputs`, each layer call answered by `visit(layer)(*args, **kwargs)`.

    `keras.models.clone_model` does this publicly, but only on symbolic tensors and for layers of the same names.
    """
    return functional._run_through_graph(inputs, operation_fn=visit)


def name_operation(tensor: keras.KerasTensor, name: str) -> None:
    """Name the operation that makes `tensor`. `keras.ops` takes no names, and those it gives may be those of layers."""
    tensor._keras_history.operation.name = name


def renamed(layer: Any, name: str, dtype: str | None = None) -> Any:
    """A layer, or operation, that shares everything with `layer`, weights too, except its name and its place in graphs.

    Two layers of a Keras model cannot have one name, and nothing public makes a second layer over the same weights.
    """
    other = object.__new__(type(layer))
    other.__dict__.update(layer.__dict__, name=name, _inbound_nodes=[], _outbound_nodes=[])
    if dtype is not None:
        other.__dict__.update(_dtype_policy=keras.DTypePolicy(dtype))
    return other


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Every layer in a model of Keras or tf_keras, at any depth. `model.layers` does not enter wrappers and custom layers."""
    return model._flatten_layers(include_self=False)


def holds_layers(layer: keras.layers.Layer) -> bool:
    """Whether a layer holds other layers. There is no public list of them."""
    return bool(layer._layers)


def forget_losses(model: keras.Model) -> None:
    """Drop what `add_loss` and activity regularizers left at the last call of `model`. Only a further call does so publicly."""
    model._clear_losses()


def own_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """A layer's weights without those of the layers it holds, which `layer.weights` has too."""
    return layer._trainable_variables + layer._non_trainable_variables


def autocast_to(dtype: str) -> contextlib.AbstractContextManager:
    """Inside it every weight is read in `dtype`. The public way is a dtype policy, which a layer has from the start."""
    return AutocastScope(dtype)


def function_graph(graph: Any, name: str) -> Any:
    """The graph of a function that an operation of a tf.function's graph calls. Publicly only its definition is known, without shapes."""
    return graph._get_function(name).graph


def use_weight_decay_of(
    fresh: keras.optimizers.Optimizer, optimizer: keras.optimizers.Optimizer, source_of: Callable[[Any], Any]
) -> None:
    """Let `fresh` decay a variable where `optimizer` decays source_of(variable).

    `optimizer.exclude_from_weight_decay` can be called, but nothing public tells what was excluded.
    """
    if hasattr(optimizer, "inner_optimizer"):  # a LossScaleOptimizer
        fresh, optimizer = fresh.inner_optimizer, optimizer.inner_optimizer
    if hasattr(optimizer, "_use_weight_decay"):  # all but the legacy ones of tf_keras
        fresh._use_weight_decay = lambda variable: optimizer._use_weight_decay(source_of(variable))


def step_counter(optimizer: keras.optimizers.Optimizer) -> Any:
    """The variable that counts an optimizer's steps. `iterations` is computed from it where gradients are accumulated."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return inner.iterations if inner._iterations is None else inner._iterations  # a legacy optimizer makes it when asked


def tracked_loss(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """The loss of a batch, its mean noted for the logs, as `Model.train_step` does it.

    A `compute_loss` that the user has written may lack the argument `training`, and `Model.loss_tracker` does not exist.
    """
    loss = model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
    model._loss_tracker.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
    return loss


def keras2_steps_per_execution(model: keras.Model) -> int:
    """Batches per call of a tf_keras model's train function. It has no public attribute, unlike a model of Keras 3."""
    return 1 if model._steps_per_execution is None else int(model._steps_per_execution.numpy())


def count_keras2_step(model: keras.Model) -> None:
    """Count a training step of a tf_keras model, as its own train function does; nothing public counts it."""
    model._train_counter.assign_add(1)


def written_handles(operation: tf.Operation) -> list[tf.Tensor]:
    """Handles of the variables outside all graphs that an operation writes, or a function that it calls.

    TensorFlow orders operations by this knowledge, and has no public name for it.
    """
    if not any(tensor.dtype == tf.resource for tensor in operation.inputs):
        return []
    _, writes = auto_control_deps_utils.get_read_write_resource_inputs(operation)
    return [_outside(handle) for handle in writes]


def _outside(tensor):
    """The tensor that a function graph has captured, through all graphs around it."""
    while isinstance(getattr(tensor, "graph", None), tf.__internal__.FuncGraph):
        captured = [outer for outer, inner in tensor.graph.captures if inner is tensor]
        if not captured:
            return tensor
        (tensor,) = captured
    return tensor


class NoBatchHooks:
    """A callback that does nothing at single batches. tf_keras asks each callback by these methods, which Keras 3 does not have."""

    def _no_hooks(self) -> bool:
        return False

    _implements_train_batch_hooks = _implements_test_batch_hooks = _implements_predict_batch_hooks = _no_hooks
