"""Sparse training: chosen channels move as under hand-masked gradients, everything else stays bit-identical."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch, small_net

from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.sparse import ChannelSlice, channel_slices, sparse_train_step

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


def train(model, optimizer, plan=PLAN, steps=3):
    """Sparse steps in a graph, as `fit` runs them."""
    slices = channel_slices(model, plan)
    model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    optimizer.build([part.variable for part in slices])
    model.get_layer("norm").trainable = False
    step = tf.function(lambda data: sparse_train_step(model, slices, data))
    for _ in range(steps):
        step(batch())
    return slices


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


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=1),
        lambda: keras.optimizers.RMSprop(0.01, clipnorm=0.5),
    ],
    ids=["momentum", "adamw_decay_ema", "rmsprop_clipnorm"],
)
def test_only_chosen_channels_move(optimizer):
    model = small_net()
    before = {weight.path: np.array(weight) for weight in model.weights}
    train(model, optimizer())
    for path, mask in chosen_masks(model).items():
        after = np.array({weight.path: weight for weight in model.weights}[path])
        assert np.array_equal(after[~mask], before[path][~mask]), path
        assert not mask.any() or (after[mask] != before[path][mask]).mean() > 0.9, path


def test_chosen_channels_move_as_under_hand_masked_gradients():
    sparse, dense = small_net(), small_net()
    train(sparse, keras.optimizers.SGD(0.1), steps=2)
    masks, x, y = chosen_masks(dense), *batch()
    dense.get_layer("norm").trainable = False
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, dense(x, training=True))
        variables = dense.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables])):
            variable.assign_sub(0.1 * gradient * masks[variable.path])
    for ours, expected in zip(sparse.weights, dense.weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=ours.path)


def test_optimizer_state_exists_for_chosen_channels_only():
    optimizer = keras.optimizers.Adam(0.01)
    slices = train(small_net(), optimizer, steps=1)
    chosen = sum(int(np.prod(part.variable.shape)) for part in slices)
    assert chosen == 2 * (6 + 1) + 3 * (9 + 1) + 1 * (6 + 1)
    slots = [v for v in optimizer.variables if v.path.rsplit("/", 1)[-1] not in ("iteration", "learning_rate")]
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
