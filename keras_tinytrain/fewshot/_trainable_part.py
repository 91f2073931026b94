"""The trainable part of a network as functions of the trained channels' values: compiled once, for every task.

The network's own weights are never written. A task learns a list of tensors, which goes in and comes out.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.fewshot.training import Step, adam_step
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.graph import walk
from keras_tinytrain.model.split import split_model
from keras_tinytrain.plan import Plan


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A weight that has trained channels.

    Args:
        layer: the layer's name.
        part: "kernel" or "bias".
        variable: the network's own.
        axis: its channel axis, negative.
    """

    layer: str
    part: str
    variable: keras.Variable
    axis: int

    def gather(self, channels: tf.Tensor) -> tf.Tensor:
        """The channels' values in the network."""
        return tf.gather(tf.convert_to_tensor(self.variable), channels, axis=self.axis)

    def merge(self, channels: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """The network's weight with `values` for its `channels`; differentiable in `values` only."""
        weight, extent = tf.convert_to_tensor(self.variable), self.variable.shape[self.axis]
        # Where each channel is found in concat([weight, values], axis): in the weight, or in the values, which follow it.
        places = tf.tensor_scatter_nd_update(tf.range(extent), channels[:, None], extent + tf.range(tf.size(channels)))

        @tf.custom_gradient
        def merged(values):
            def gradient(upstream):
                return tf.gather(upstream, channels, axis=self.axis)

            return tf.gather(tf.concat([weight, values], axis=self.axis), places, axis=self.axis), gradient

        return merged(values)

    @property
    def spec(self) -> tf.TensorSpec:
        """Of any number of its channels."""
        shape = list(self.variable.shape)
        shape[self.axis] = None
        return tf.TensorSpec(shape, self.variable.dtype)


class TrainablePart:
    """The layers from the earliest trained one to the network's end.

    Args:
        model: flat, images -> embeddings.
        layers: (name, whether its kernel is trained) of each trained layer; () makes an empty trainable part.

    Attributes:
        frozen: images -> features, the frozen part; None where it is empty.
        trainable: features -> embeddings; None where it is empty.
        sources: the weights that have trained channels.
    """

    def __init__(self, model: keras.Model, layers: tuple[tuple[str, bool], ...]):
        self.sources = [source for name, kernel in layers for source in _sources(model, name, kernel)]
        self.frozen, self.trainable = split_at(model, [name for name, _ in layers])
        features = tf.TensorSpec(self.frozen.output_shape if self.trainable is None else self.trainable.input_shape, tf.float32)
        channels, values = [tf.TensorSpec([None], tf.int32)] * len(self.sources), [source.spec for source in self.sources]
        self._specs = features, channels, values
        self._steps: dict[tuple[Callable, bool, bool], Step] = {}  # {(objective, augmented, late): the compiled step}
        self._embed = tf.function(self._run, input_signature=self._specs, jit_compile=False, autograph=False)

    def channels(self, plan: Plan) -> list[tf.Tensor]:
        """The channels of `plan`, source by source. Raises ValueError where a layer has no such channel."""
        for source in self.sources:
            extent, last = source.variable.shape[source.axis], plan[source.layer].channels[-1]
            if last >= extent:
                raise ValueError(f"Layer '{source.layer}' has {extent} channels. The plan names channel {last}.")
        return [tf.constant(plan[source.layer].channels, tf.int32) for source in self.sources]

    def originals(self, channels: list[tf.Tensor]) -> list[tf.Tensor]:
        """The network's own values of these channels."""
        return [source.gather(part) for source, part in zip(self.sources, channels, strict=True)]

    def embed(self, features: Any, channels: list[tf.Tensor], values: list[tf.Tensor]) -> tf.Tensor:
        """Embeddings (N, D) of features (N, ...) with `values` for the network's `channels`."""
        return self._embed(features, channels, values)

    def step(
        self, objective: Callable, head_specs: Sequence[tf.TensorSpec] = (), *, augmented: bool = True, late: bool = False
    ) -> Step:
        """The compiled training step of an objective, see `training.train`.

        Args:
            objective: of `training`.
            head_specs: of the tensors of the head that are trained too.
            augmented: False where the queries are the samples themselves, which are then embedded once, not twice.
            late: the step takes the samples' embeddings (N, D), of an earlier step.
        """
        key = objective, augmented, late
        if key not in self._steps:
            self._steps[key] = self._compile(objective, list(head_specs), augmented, late)
        return self._steps[key]

    def _compile(self, objective, head_specs, augmented, late):
        features, channels, values = self._specs
        membership = tf.TensorSpec([None, None], tf.float32)
        iteration, scalar, state = tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.float32), [values + head_specs] * 3
        samples = tf.TensorSpec([None, None], tf.float32) if late else features
        count, signature = len(self.sources), [samples, features, membership, channels, state, iteration, scalar, scalar]

        @tf.function(input_signature=signature, jit_compile=False, autograph=False)
        def step(samples, queries, membership, channels, state, iteration, learning_rate, skip_loss):
            values, first, second = state
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(values)
                outputs = self._run(queries, channels, values[:count])
                with tape.stop_recording():
                    embeddings = samples if late else self._run(samples, channels, values[:count]) if augmented else outputs
                losses = objective(outputs, tf.stop_gradient(embeddings), membership, *values[count:])
                learned = tf.reduce_mean(tf.where(losses < skip_loss, 0.0, losses))
            state = adam_step(values, first, second, tape.gradient(learned, values), iteration, learning_rate)
            return tf.reduce_mean(losses), outputs, state

        return step

    def _run(self, features, channels, values):
        if self.trainable is None:
            return features
        merged = [source.merge(*pair) for source, *pair in zip(self.sources, channels, values, strict=True)]
        mapping = [(source.variable, value) for source, value in zip(self.sources, merged, strict=True)]
        with keras.StatelessScope(state_mapping=mapping):
            return self.trainable(features, training=False)


def split_at(model, names):
    """(frozen part, trainable part) of `model` where the layers `names` are trained; None for one that is empty."""
    if not names:
        return model, None
    order = [node.layer.name for node in walk(model)]
    return split_model(model, min((find_weights(model, name).layer_name for name in names), key=order.index))


def _sources(model, name, with_kernel):
    weights = find_weights(model, name)
    if not (with_kernel or weights.has_bias):
        raise ValueError(f"The plan trains biases of layer '{name}', which has none. Give it kernel=True.")
    kernel = [Source(name, "kernel", weights.kernel, weights.axis)] if with_kernel else []
    return kernel + ([Source(name, "bias", weights.bias, -1)] if weights.has_bias else [])
