"""Train chosen channels only: gradients, optimizer state and updates exist for nothing else.

Each trained kernel (and bias) gets a small variable that holds its chosen channels. The forward pass sees the layer's own
weights with those channels put in; the gradient tape watches the small variables alone, so the backward pass ends at the
earliest trained layer; the optimizer knows the small variables alone.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_tinytrain.graph import find_layer
from keras_tinytrain.layers import CHANNEL_AXIS
from keras_tinytrain.plan import Plan


class ChannelSlice:
    """The chosen channels of one weight of a layer, as a variable of their own.

    Args:
        source: the layer's variable (kernel or bias).
        channels: indices along `axis`.
        axis: the channel axis of `source`, negative.
    """

    def __init__(self, source: keras.Variable, channels, axis: int):
        self.source = source
        self.axis = axis
        self._channels = tf.Variable(np.zeros(len(channels), np.int32), trainable=False)
        self._positions = tf.Variable(np.zeros(source.shape[axis], np.int32), trainable=False)
        self.move(channels)
        self.variable = keras.Variable(self.gathered(), name=source.name, dtype=source.dtype, trainable=True)

    def move(self, channels) -> None:
        """Choose as many other channels, without building a new graph."""
        channels, extent = np.asarray(channels, np.int32), self.source.shape[self.axis]
        if channels.max() >= extent:
            raise ValueError(f"'{self.source.path}' has {extent} channels. Received channel {channels.max()}.")
        # Where each channel is found in concat([source, variable], axis): itself, or its chosen copy behind the source.
        positions = np.arange(extent, dtype=np.int32)
        positions[channels] = extent + np.arange(len(channels), dtype=np.int32)
        self._channels.assign(channels)
        self._positions.assign(positions)

    def gathered(self) -> tf.Tensor:
        """The chosen channels of the source."""
        return tf.gather(tf.convert_to_tensor(self.source), self._channels, axis=self.axis)

    def merged(self) -> tf.Tensor:
        """The source with the chosen channels replaced by the variable's values; differentiable in these alone."""
        source, channels, positions = map(tf.convert_to_tensor, (self.source, self._channels, self._positions))

        @tf.custom_gradient
        def merge(chosen):
            def gradient(upstream):
                return tf.gather(upstream, channels, axis=self.axis)

            return tf.gather(tf.concat([source, chosen], axis=self.axis), positions, axis=self.axis), gradient

        return merge(tf.convert_to_tensor(self.variable))

    def load(self) -> None:
        self.variable.assign(self.gathered())

    def store(self) -> None:
        self.source.assign(self.merged())


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
    layer = find_layer(model, layer_plan.name)
    axis = kernel_channel_axis(layer)
    if not (layer_plan.kernel or layer.use_bias):
        raise ValueError(f"The plan trains biases of layer '{layer.name}', which has none.")
    return [(layer.kernel, axis)] * layer_plan.kernel + ([(layer.bias, -1)] if layer.use_bias else [])


def kernel_channel_axis(layer: keras.layers.Layer) -> int:
    """Axis of the output channels in the layer's kernel. Raises ValueError for layers without channels."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return CHANNEL_AXIS["depthwise"]
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)) or getattr(layer, "learned_state", False):
        return CHANNEL_AXIS["dense"]
    raise ValueError(
        f"Layer '{layer.name}' is a {type(layer).__name__}; channels are trained in Conv2D, DepthwiseConv2D and Dense layers."
    )


def sparse_train_step(model: keras.Model, slices: list[ChannelSlice], data) -> dict:
    """One training step of `model` that moves the channels in `slices` and nothing else.

    `model.optimizer` must be built for the slices' variables. Stands in for `keras.Model.train_step`.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    for part in slices:
        part.load()
    variables = [part.variable for part in slices]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([variable.value for variable in variables])
        with keras.StatelessScope(state_mapping=[(part.source, part.merged()) for part in slices]) as scope:
            y_pred = model(x, training=True)
        _keep_state_updates(model, scope, {id(part.source) for part in slices})
        loss = model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
        model._loss_tracker.update_state(loss, sample_weight=tf.shape(keras.tree.flatten(x)[0])[0])
        loss = model.optimizer.scale_loss(loss)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    model.optimizer.apply_gradients(zip(gradients, variables))
    for part in slices:
        part.store()
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _keep_state_updates(model, scope, replaced):
    """Carry out what the forward pass assigned to other state, such as the seeds of dropout layers."""
    for variable in model.non_trainable_variables:
        value = scope.get_current_value(variable)
        if value is not None and id(variable) not in replaced:
            variable.assign(value)
