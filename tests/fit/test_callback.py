"""`TinyTrainCallback` in `fit`: what it chooses, what it moves, and that the model is the user's again afterwards."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from callbacks import callback, compiled, moved_channels
from models import batch, small_net

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.choose.paper_cost import PaperAccounting

PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


def test_fit_moves_exactly_what_the_plan_names():
    model, tiny = compiled(), callback()
    x, y = batch(count=32)
    history = model.fit(x, y, epochs=8, batch_size=16, callbacks=[tiny], verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert moved_channels(model, small_net()) == {layer.name: layer.channels for layer in tiny.plan.layers}


def test_model_is_given_back_after_training():
    model = compiled()
    optimizer, step = model.optimizer, model.train_step.__func__
    model.fit(*batch(), epochs=1, callbacks=[callback()], verbose=0)
    assert model.optimizer is optimizer and model.train_step.__func__ is step
    assert model.get_layer("norm").trainable
    frozen = model.get_layer("stem").kernel.numpy()
    model.fit(*batch(), epochs=1, verbose=0)
    assert not np.array_equal(frozen, model.get_layer("stem").kernel)


def test_model_is_given_back_after_an_error():
    model = compiled()
    step = model.train_step.__func__
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("nowhere", (0,)),)))], verbose=0)
    assert model.train_step.__func__ is step
    model.fit(*batch(), verbose=0)


def test_model_is_given_back_when_the_data_break_off():
    def batches():
        yield batch(count=8)
        raise RuntimeError("the camera is gone")

    model = compiled()
    optimizer, step = model.optimizer, model.train_step.__func__
    kinds = tf.TensorSpec((None, 8, 8, 3), tf.float32), tf.TensorSpec((None,), tf.int64)
    with pytest.raises(tf.errors.OpError, match="the camera is gone"):
        model.fit(tf.data.Dataset.from_generator(batches, output_signature=kinds), callbacks=[callback()], verbose=0)
    assert model.optimizer is optimizer and model.train_step.__func__ is step and model.get_layer("norm").trainable


def test_delta_leads_from_the_old_model_to_the_new(tmp_path):
    model, tiny = compiled(), callback()
    model.fit(*batch(), epochs=2, callbacks=[tiny], verbose=0)
    tiny.delta.save(tmp_path / "task.delta")
    fresh = small_net()
    Delta.load(tmp_path / "task.delta").apply(fresh)
    assert np.array_equal(fresh(batch()[0]), model(batch()[0]))


def test_every_batch_is_trained_on_once():
    def losses(**options):
        model, tiny = compiled(keras.optimizers.SGD(0.1), **options), callback(plan=PLANNED)
        x, y = batch(count=48)
        return model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[tiny], verbose=0).history["loss"]

    def losses_scored():
        model, tiny = compiled(keras.optimizers.SGD(0.1), steps_per_execution=4), callback(head=None)
        model.fit(*batch(count=48), batch_size=8, epochs=2, shuffle=False, callbacks=[tiny], verbose=0)
        again = compiled(keras.optimizers.SGD(0.1))
        history = again.fit(
            *batch(count=48), batch_size=8, epochs=2, shuffle=False, callbacks=[callback(plan=tiny.plan)], verbose=0
        )
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(model.get_weights(), again.get_weights()))
        return history

    PLANNED = Plan((LayerPlan("project", (1, 3)),))
    assert losses() == pytest.approx(losses(steps_per_execution=3), rel=1e-5)
    losses_scored()


def test_support_set_decides_instead_of_the_first_batch():
    x, y = batch(count=32)
    first, second = callback(support=(x, y)), callback(support=(list(x), y.tolist()))
    for tiny, order in ((first, slice(None)), (second, slice(None, None, -1))):
        compiled().fit(x[order], y[order], batch_size=4, shuffle=False, callbacks=[tiny], verbose=0)
    assert first.plan == second.plan


def test_second_fit_with_another_plan_moves_only_that():
    model = compiled()
    model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("project", (0,)),)))], verbose=0)
    between = keras.models.clone_model(model)
    between.set_weights(model.get_weights())
    model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("logits", (1,)),)))], verbose=0)
    assert moved_channels(model, between) == {"logits": (1,)}


def test_trained_weights_are_printed(capsys):
    model = compiled()
    model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("project", (0, 1)),)), verbose=1)], verbose=0)
    printed = capsys.readouterr().out
    assert "project (2 channels)" in printed and "trained weights: 12 of 270 (4.44 %)" in printed


def test_redrawn_channels_change_every_epoch_within_the_same_layers(tmp_path):
    model, tiny, plans = compiled(), TinyTrainCallback(Budget("64KB", 0.1), strategy="redrawn", verbose=0), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: plans.append(tiny.plan))
    model.fit(*batch(count=32), epochs=4, callbacks=[tiny, watch], verbose=0)
    assert len({plan.layers for plan in plans}) > 1
    assert len({tuple((layer.name, len(layer.channels)) for layer in plan.layers) for plan in plans}) == 1
    drawn = {layer.name: set() for layer in plans[0].layers}
    for layer in (layer for plan in plans for layer in plan.layers):
        drawn[layer.name] |= set(layer.channels)
    moved = moved_channels(model, small_net())
    assert {name: set(channels) for name, channels in moved.items()} == drawn
    tiny.delta.save(tmp_path / "task.delta")
    fresh = small_net()
    Delta.load(tmp_path / "task.delta").apply(fresh)
    assert np.array_equal(fresh(batch()[0]), model(batch()[0]))


def plans_of_fit(**options):
    """The plan of each of two epochs."""
    tiny, plans = TinyTrainCallback(Budget("64KB", 0.1), verbose=0, **options), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: plans.append(tiny.plan.layers))
    compiled().fit(*batch(), epochs=2, callbacks=[tiny, watch], verbose=0)
    return plans


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "redrawn"])
def test_drawn_channels_follow_the_seed(strategy):
    unsaid, first, other = (plans_of_fit(strategy=strategy, **options) for options in ({}, {"seed": 0}, {"seed": 1}))
    assert unsaid == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_biases_alone_move_where_the_plan_says_so():
    model, tiny = compiled(), callback(plan=Plan((LayerPlan("project", (0, 2), kernel=False),)))
    model.fit(*batch(), epochs=2, callbacks=[tiny], verbose=0)
    assert moved_channels(model, small_net()) == {}
    changed = model.get_layer("project").bias.numpy() != small_net().get_layer("project").bias.numpy()
    assert np.flatnonzero(changed).tolist() == [0, 2]


def masked_fit(data, fit_options, compile_options):
    """The weights after `fit` of a model whose own train_step zeroes the gradients of what PLAN does not train."""
    plain = small_net()

    class Masked(keras.Model):
        def train_step(self, data):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True), sample_weight)
            variables = [(self.get_layer(part.name), part.channels) for part in PLAN.layers]
            pairs = []
            for layer, channels in variables:
                axis = -2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
                pairs += [(layer.kernel, axis, channels), (layer.bias, -1, channels)]
            gradients = tape.gradient(loss, [variable.value for variable, _, _ in pairs])
            masks = [
                np.isin(np.arange(variable.shape[axis]), channels).reshape((-1,) + (1,) * (-axis - 1)).astype(np.float32)
                for variable, axis, channels in pairs
            ]
            self.optimizer.apply_gradients([(g * mask, v) for g, mask, (v, _, _) in zip(gradients, masks, pairs)])
            return {"loss": loss}

    model = Masked(plain.input, plain.output)
    model.get_layer("norm").trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5), loss, **compile_options)
    model.fit(*data, verbose=0, **fit_options)
    return model.weights


@pytest.mark.parametrize("case", ["weighted classes", "weighted samples, eager", "tf.data, late epochs"])
def test_fit_equals_hand_masked_gradients(case):
    x, y = batch(count=20)
    data, compile_options = (x, y), {"steps_per_execution": 2}
    fit_options = {"batch_size": 8, "epochs": 2, "shuffle": False, "class_weight": {0: 2.0, 1: 0.5, 2: 1.0}}
    if case == "weighted samples, eager":
        fit_options = {"batch_size": 8, "epochs": 1, "shuffle": False, "sample_weight": np.linspace(0, 2, 20)}
        compile_options = {"run_eagerly": True}
    if case == "tf.data, late epochs":
        data, fit_options = (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),), {"initial_epoch": 3, "epochs": 5}
    model = compiled(keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.5), **compile_options)
    model.fit(*data, callbacks=[callback(plan=PLAN)], verbose=0, **fit_options)
    for ours, expected in zip(model.weights, masked_fit(data, fit_options, compile_options), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=ours.path)


def test_two_fits_move_only_their_plans_with_state_of_their_own():
    model = compiled(keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, global_clipnorm=1.0))
    model.fit(*batch(), epochs=2, callbacks=[callback(plan=PLAN)], verbose=0)
    between = keras.models.clone_model(model)
    between.set_weights(model.get_weights())
    second = Plan((LayerPlan("stem", (2,)), LayerPlan("project", (0,))))
    model.fit(*batch(), epochs=2, callbacks=[callback(plan=second)], verbose=0)
    assert moved_channels(model, between) == {"stem": (2,), "project": (0,)}


def test_callback_is_rebuilt_from_its_config():
    accounting = PaperAccounting(copies=3)
    tiny = callback(layers=["project"], strategy="l2", plan=PLAN, accounting=accounting, seed=3, cache_frozen="1MB")
    config = json.loads(json.dumps(tiny.get_config()))
    again = TinyTrainCallback.from_config(config)
    assert (again.budget, again.plan, again.accounting) == (tiny.budget, PLAN, accounting)
    assert again.get_config() == tiny.get_config()
    assert TinyTrainCallback.from_config(TinyTrainCallback().get_config()).get_config() == TinyTrainCallback().get_config()


def test_weights_that_cannot_be_trained_are_among_all(capsys):
    model = keras.Sequential([keras.Input((4, 3)), keras.layers.GRU(2, unroll=True), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    learner = TinyTrainCallback(Budget(compute=1.0), verbose=0)
    model.fit(np.ones((4, 4, 3), np.float32), np.array([0, 1, 0, 1]), callbacks=[learner], verbose=0)
    learner.print_trainable_parameters()
    kernels = 3 * 6 + 2 * 6 + 2 * 2  # of the GRU's input, of its state, of the head
    assert f"trained weights: 4 of {kernels}" in capsys.readouterr().out
