"""Train chosen channels only: optimizer state and updates exist for nothing else.

Each trained kernel (and bias) gets a small variable that holds its chosen channels. The gradient tape watches only the trained
layers' weights, so the backward pass ends at the earliest trained layer. TensorFlow computes the gradient of the whole weight;
its chosen channels go to the small variables, which are all that the optimizer knows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.fit._constraints import channel_constraint
from keras_tinytrain.fit._inference_mode import in_inference_mode, self_changing_layers
from keras_tinytrain.model.channels import find_weights
from keras_tinytrain.model.keras_package import is_keras2
from keras_tinytrain.model.layers import kernel_reason
from keras_tinytrain.model.private_keras import tracked_loss, use_weight_decay_of
from keras_tinytrain.plan import Plan


class ChannelSlice:
    """The chosen channels of one weight of a layer, in a variable of their own.

    Args:
        source: the layer's variable (kernel or bias); of tf_keras a `tf.Variable`.
        channels: indices along `axis`.
        axis: the channel axis of `source`, negative.
    """

    def __init__(self, source: keras.Variable | tf.Variable, channels: Sequence[int], axis: int):
        self.source = source
        self.axis = axis
        self._channels = tf.Variable(np.zeros(len(channels), np.int32), trainable=False)
        self._positions = tf.Variable(np.zeros(source.shape[axis], np.int32), trainable=False)
        self.move(channels)
        options = {"name": source.name.split("/")[-1].split(":")[0], "dtype": source.dtype, "trainable": True}
        constraint = channel_constraint(source, np.asarray(channels), axis)
        if isinstance(source, tf.Variable):
            self.variable = tf.Variable(self.gathered(), constraint=constraint, **options)
        else:
            self.variable = keras.Variable(self.gathered(), **options)
            self.variable.constraint = constraint

    def move(self, channels: Sequence[int]) -> None:
        """Choose as many other channels, without building a new graph."""
        indices, extent = np.asarray(channels, np.int32), self.source.shape[self.axis]
        if indices.max() >= extent:
            name = getattr(self.source, "path", self.source.name)
            raise ValueError(f"'{name}' has {extent} channels. Received channel {indices.max()}.")
        # Where each channel is found in concat([source, variable], axis): in the source, or in the variable, which follows it.
        positions = np.arange(extent, dtype=np.int32)
        positions[indices] = extent + np.arange(len(indices), dtype=np.int32)
        self._channels.assign(indices)
        self._positions.assign(positions)

    @property
    def watched(self) -> tf.Variable:
        """The source, as a variable that a gradient tape can watch."""
        return _tf_variable(self.source)

    def chosen(self, values: tf.Tensor) -> tf.Tensor:
        """The chosen channels of a tensor of the source's shape, such as its gradient."""
        return tf.gather(values, self._channels, axis=self.axis)

    def gathered(self) -> tf.Tensor:
        """The chosen channels of the source."""
        return self.chosen(tf.convert_to_tensor(self.source))

    def merged(self) -> tf.Tensor:
        """The source with the chosen channels replaced by the variable's values."""
        both = [tf.convert_to_tensor(self.source), tf.convert_to_tensor(self.variable)]
        return tf.gather(tf.concat(both, axis=self.axis), self._positions, axis=self.axis)

    def load(self) -> None:
        self.variable.assign(self.gathered())

    def store(self) -> None:
        self.source.assign(self.merged())


def _tf_variable(variable):
    return variable if isinstance(variable, tf.Variable) else variable.value


def channel_slices(model: keras.Model, plan: Plan) -> list[ChannelSlice]:
    """Slices of all weights that `plan` trains, layer by layer: the kernel, then the bias.

    Raises:
        ValueError: a layer is missing, of a kind that has no channels, or has fewer channels than the plan names.
    """
    return [ChannelSlice(source, layer.channels, axis) for layer in plan.layers for source, axis in _sources(model, layer)]


def move_slices(slices: list[ChannelSlice], model: keras.Model, plan: Plan) -> None:
    """Make slices that `channel_slices` built train the channels of `plan`, which has the same layers and as many channels."""
    channels = [layer.channels for layer in plan.layers for _ in _sources(model, layer)]
    for part, chosen in zip(slices, channels, strict=True):
        part.move(chosen)


def _sources(model, layer_plan):
    """(variable, channel axis) of the weights of one layer that are trained."""
    weights = find_weights(model, layer_plan.name)
    if reason := kernel_reason(weights.layer):
        raise ValueError(f"The plan trains layer '{layer_plan.name}', which cannot be trained here: {reason}.")
    if not (layer_plan.kernel or weights.has_bias):
        raise ValueError(f"The plan trains biases of layer '{layer_plan.name}', which has none.")
    return [(weights.kernel, weights.axis)] * layer_plan.kernel + ([(weights.bias, -1)] if weights.has_bias else [])


def channel_optimizer(optimizer: keras.optimizers.Optimizer, slices: list[ChannelSlice]) -> keras.optimizers.Optimizer:
    """A fresh optimizer of the same kind and settings, with state for the chosen channels only."""
    fresh = type(optimizer).from_config(optimizer.get_config())
    variables = [part.variable for part in slices]
    source_of = {id(_tf_variable(part.variable)): part.watched for part in slices}
    # The configuration does not say which weights are excluded from weight decay: ask the user's optimizer about the layer's own.
    use_weight_decay_of(fresh, optimizer, lambda variable: source_of[id(_tf_variable(variable))])
    if not hasattr(fresh, "build"):  # a legacy optimizer of tf_keras, which builds itself at its first step
        return fresh
    fresh.build(variables)

    def finalize_variable_values(_):  # Keras passes the model's trainable weights; exponential averages end here
        type(fresh).finalize_variable_values(fresh, variables)
        for part in slices:
            part.store()

    fresh.finalize_variable_values = finalize_variable_values
    return fresh


def sparse_train_step(
    model: keras.Model,
    slices: list[ChannelSlice],
    data: Any,
    *,
    forward: Callable[..., tf.Tensor] | None = None,
    optimizer: keras.optimizers.Optimizer | None = None,
    inference: Sequence[keras.layers.Layer] | None = None,
) -> dict:
    """One training step of `model` that updates the channels in `slices` and nothing else.

    Layers that would change their own state, such as BatchNorm, run in inference mode.

    It is for training without `TinyTrainCallback`: call it in a `train_step` of your own, or instead of one.

    Args:
        model: compiled with the optimizer that `channel_optimizer` made.
        slices: `channel_slices` of the plan.
        data: a batch (x, y) or (x, y, sample_weight).
        forward: called as forward(x, training=True) instead of `model`, such as its trainable part, whose input x then is.
        optimizer: what `channel_optimizer` made; None: the model's own optimizer is that.
        inference: the layers to run in inference mode; None: those that would change their own state. They are looked for by
            tracing the model, which takes as long as building a step: once in a graph, at every step of eager training.

    Returns:
        {metric: value}, as `keras.Model.train_step`.

    Raises:
        ValueError: a layer changes its own state in inference mode too.

    Example:
        >>> class Distilled(keras.Model):
        ...     def train_step(self, data):
        ...         x, y = data
        ...         return sparse_train_step(self, self.slices, (x, teacher(x)))
        >>> model = Distilled(backbone.input, backbone.output)
        >>> model.slices = channel_slices(model, plan)
        >>> model.compile(channel_optimizer(keras.optimizers.Adam(3e-3), model.slices), "mse", jit_compile=False)
        >>> model.fit(x, y)
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    optimizer = optimizer or model.optimizer
    if inference is None:
        inference = self_changing_layers(model, x, forward=forward)
    watched = [part.watched for part in slices]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        with in_inference_mode(inference):
            y_pred = (forward or model)(x, training=True)
        loss = _tracked_loss(model, optimizer, x, y, y_pred, sample_weight)
    gradients = tape.gradient(loss, watched)
    if _scales_by_hand(optimizer):
        gradients = optimizer.get_unscaled_gradients(gradients)
    for part in slices:
        part.load()
    optimizer.apply_gradients(
        [(None if gradient is None else part.chosen(gradient), part.variable) for part, gradient in zip(slices, gradients)]
    )
    for part in slices:
        part.store()
    if is_keras2(model):
        return model.compute_metrics(x, y, y_pred, sample_weight)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _tracked_loss(model, optimizer, x, y, y_pred, sample_weight):
    """The loss to differentiate; its mean is noted for the logs. As in the model's own train_step."""
    if not is_keras2(model):
        return optimizer.scale_loss(tracked_loss(model, x, y, y_pred, sample_weight))
    loss = model.compute_loss(x, y, y_pred, sample_weight)  # it notes the mean itself
    return optimizer.get_scaled_loss(loss) if _scales_by_hand(optimizer) else loss


def _scales_by_hand(optimizer):
    """Whether it is a LossScaleOptimizer of tf_keras, which leaves scaling to the train step."""
    return hasattr(optimizer, "get_scaled_loss")
