"""Sparse training: chosen channels move as under hand-masked gradients, everything else stays bit-identical."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch, small_net

from keras_tinytrain import Budget
from keras_tinytrain.fit import TinyTrainCallback
from keras_tinytrain.fit.sparse import ChannelSlice, channel_optimizer, channel_slices, sparse_train_step
from keras_tinytrain.model.channels import kernel_channel_axis
from keras_tinytrain.plan import LayerPlan, Plan

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


def train(model, optimizer, plan=PLAN, steps=3):
    """Sparse steps in a graph, as `fit` runs them."""
    slices = channel_slices(model, plan)
    optimizer = channel_optimizer(optimizer, slices)
    model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    step = tf.function(lambda data: sparse_train_step(model, slices, data))
    for _ in range(steps):
        step(batch())
    optimizer.finalize_variable_values(model.trainable_variables)
    return slices


def train_masked(model, optimizer, plan=PLAN, steps=3):
    """The same by hand: gradients of everything, zero except in the chosen channels; BatchNorm in inference mode."""
    model.get_layer("norm").trainable = False
    masks, variables, (x, y) = chosen_masks(model, plan), model.trainable_variables, batch()
    before = [variable.numpy() for variable in variables]
    optimizer.build(variables)

    @tf.function  # as a graph, like what it is compared with: Adam magnifies the rounding of small gradients
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, model(x, training=True)) + sum(model.losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply_gradients([(gradient * masks[v.path], v) for gradient, v in zip(gradients, variables)])
        for variable, value in zip(variables, before):  # weight decay pulls at everything
            variable.assign(tf.where(masks[variable.path], variable.value, value))

    for _ in range(steps):
        step(x, y)
    optimizer.finalize_variable_values(variables)


def chosen_masks(model, plan=PLAN):
    """{variable path: boolean array, True where `plan` trains}."""
    masks = {weight.path: np.zeros(weight.shape, bool) for weight in model.weights}
    for layer_plan in plan.layers:
        layer, channels = model.get_layer(layer_plan.name), list(layer_plan.channels)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            masks[layer.kernel.path][:, :, channels] = True
        else:
            masks[layer.kernel.path][..., channels] = True
        masks[layer.bias.path][channels] = True
    return masks


def decaying_kernels_only():
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    # Adam divides by the root of squared gradients: an epsilon well above their rounding makes the comparison to 1e-6 fair.
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-3),
    "adamw_decay_ema": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=1),
    "ema_at_the_end": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
    "decaying_kernels_only": decaying_kernels_only,
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.01),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.02),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_chosen_channels_alone_move_and_as_under_hand_masked_gradients(optimizer):
    sparse, masked = small_net(), small_net()
    before = {weight.path: weight.numpy() for weight in sparse.weights}
    train(sparse, optimizer())
    train_masked(masked, optimizer())
    masks = chosen_masks(sparse)
    for ours, expected in zip(sparse.weights, masked.weights, strict=True):
        mask, values = masks[ours.path], ours.numpy()
        assert np.array_equal(values[~mask], before[ours.path][~mask]), ours.path
        assert not mask.any() or (values[mask] != before[ours.path][mask]).mean() > 0.9, ours.path
        np.testing.assert_allclose(values[mask], expected.numpy()[mask], rtol=0, atol=1e-6, err_msg=ours.path)


@pytest.mark.parametrize("layer", [keras.layers.Conv1D(5, 3, name="trained"), keras.layers.DepthwiseConv1D(3, name="trained")])
def test_channels_of_a_sequence_layer_alone_move(layer):
    model = keras.Sequential([keras.Input((9, 4)), layer, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.numpy() for weight in model.weights]
    plan = Plan((LayerPlan("trained", (0, 2)),))
    x = np.random.default_rng(0).normal(size=(6, 9, 4)).astype(np.float32)
    model.fit(x, np.arange(6) % 3, verbose=0, callbacks=[TinyTrainCallback(Budget("1MB", 1.0), plan=plan, verbose=0)])
    kernel, bias = (after.numpy() != old for after, old in zip(model.weights[:2], before))
    channels = np.moveaxis(kernel, kernel_channel_axis(layer), -1).reshape(-1, bias.size).any(axis=0)
    assert channels.tolist() == bias.tolist() == [index in (0, 2) for index in range(bias.size)]
    assert all(np.array_equal(after, old) for after, old in zip(model.weights[2:], before[2:]))


def test_parts_of_a_separable_convolution_are_trained_and_reverted():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.SeparableConv2D(6, 3, activation="relu", name="sep")])
    model.add(keras.layers.GlobalAveragePooling2D())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    callback = TinyTrainCallback(
        Budget("1MB", 1.0), plan=Plan((LayerPlan("sep.depthwise", (1,)), LayerPlan("sep.pointwise", (0, 4)))), verbose=0
    )
    model.fit(*batch(), epochs=2, verbose=0, callbacks=[callback])
    depthwise, pointwise, bias = (new != old for new, old in zip(model.get_weights(), before))
    assert depthwise.any(axis=(0, 1))[:, 0].tolist() == [False, True, False]
    assert pointwise.any(axis=(0, 1, 2)).tolist() == bias.tolist() == [True, False, False, False, True, False]
    callback.delta.revert(model)
    assert all(map(np.array_equal, model.get_weights(), before))


def test_frozen_separable_convolution_stays():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.SeparableConv2D(6, 3, name="sep", trainable=False)])
    model.add(keras.layers.Conv2D(4, 1, name="conv"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = TinyTrainCallback(Budget("1MB", 1.0), verbose=0)
    model.fit(*batch(), verbose=0, callbacks=[callback])
    assert [layer.name for layer in callback.plan.layers] == ["conv"]


def test_regularizers_pull_at_the_chosen_channels():
    def regularized():
        model = small_net()
        model.get_layer("project").kernel.regularizer = keras.regularizers.L2(0.5)
        return model

    sparse, masked = regularized(), regularized()
    train(sparse, keras.optimizers.SGD(0.1))
    train_masked(masked, keras.optimizers.SGD(0.1))
    kernels = [model.get_layer("project").kernel.numpy()[..., PLAN["project"].channels] for model in (sparse, masked)]
    np.testing.assert_allclose(*kernels, rtol=0, atol=1e-6)
    plain = small_net()
    train(plain, keras.optimizers.SGD(0.1))
    assert not np.allclose(kernels[0], plain.get_layer("project").kernel.numpy()[..., PLAN["project"].channels], atol=1e-3)


def test_subclass_trains_sparsely_in_its_own_step():
    teacher, student = small_net(seed=1), small_net()

    class Distilled(keras.Model):
        def train_step(self, data):
            x, _ = data
            return sparse_train_step(self, self.slices, (x, teacher(x)))

    model = Distilled(student.input, student.output)
    model.slices = channel_slices(model, PLAN)
    model.compile(channel_optimizer(keras.optimizers.Adam(0.01), model.slices), "mse", jit_compile=False)
    losses = model.fit(*batch(), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight, first in zip(student.weights, small_net().weights, strict=True):
        frozen = ~chosen_masks(student)[weight.path]
        assert np.array_equal(weight.numpy()[frozen], first.numpy()[frozen]), weight.path


def test_optimizer_state_exists_for_chosen_channels_only():
    model = small_net()
    slices = train(model, keras.optimizers.Adam(0.01), steps=1)
    chosen = sum(int(np.prod(part.variable.shape)) for part in slices)
    assert chosen == 2 * (6 + 1) + 3 * (9 + 1) + 1 * (6 + 1)
    slots = [v for v in model.optimizer.variables if v.path.rsplit("/", 1)[-1] not in ("iteration", "learning_rate")]
    assert sum(int(np.prod(v.shape)) for v in slots) == 2 * chosen


def test_backward_graph_ends_at_the_earliest_trained_layer():
    model = small_net()
    slices = channel_slices(model, Plan((LayerPlan("depthwise", (1,)),)))
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build([part.variable for part in slices])
    step = tf.function(lambda data: sparse_train_step(model, slices, data))
    kinds = executed_kinds(step.get_concrete_function(batch()).graph)
    assert "DepthwiseConv2dNativeBackpropFilter" in kinds
    assert not kinds & {"Conv2DBackpropInput", "Conv2DBackpropFilter", "DepthwiseConv2dNativeBackpropInput"}


def executed_kinds(graph):
    """Types of the operations that the outputs and side effects of a function graph depend on; the rest is pruned."""
    pending, seen = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs), set()
    while pending:
        operation = pending.pop()
        if operation not in seen:
            seen.add(operation)
            pending += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return {operation.type for operation in seen}


def test_dropout_draws_anew_each_step():
    keras.utils.set_random_seed(0)
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.Dropout(0.5, seed=3)(image)))
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    slices = channel_slices(model, Plan((LayerPlan("logits", (0, 1)),)))
    model.optimizer.build([part.variable for part in slices])
    losses = []
    for _ in range(4):
        model.reset_metrics()
        losses.append(float(sparse_train_step(model, slices, (tf.ones((8, 4)), tf.zeros((8, 2))))["loss"]))
    assert len(set(losses)) > 1


def test_merging_is_the_inverse_of_gathering():
    source = keras.Variable(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    part = ChannelSlice(source, (0, 2), axis=-2)
    assert np.array_equal(part.merged(), source)
    part.variable.assign(part.variable + 100)
    part.store()
    expected = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected[:, [0, 2]] += 100
    assert np.array_equal(source, expected)


@pytest.mark.parametrize(
    ("layer_plan", "message"),
    [
        (LayerPlan("missing", (0,)), "no layer 'missing'"),
        (LayerPlan("norm", (0,)), "'norm' is a BatchNormalization"),
        (LayerPlan("project", (6,)), "has 6 channels. Received channel 6"),
    ],
)
def test_plans_that_do_not_fit_are_refused(layer_plan, message):
    with pytest.raises(ValueError, match=message):
        channel_slices(small_net(), Plan((layer_plan,)))
