"""`TinyTrainCallback` in `fit`: what it chooses, what it moves, and that the model is the user's again afterwards."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch, small_net

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback

BUDGET = Budget(memory="64KB", compute=0.3)


def compiled(optimizer=None, **options):
    model = small_net()
    model.compile(
        optimizer=optimizer or keras.optimizers.Adam(0.05),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model


def callback(**options):
    return TinyTrainCallback(BUDGET, **{"verbose": 0, **options})


def moved_channels(model, reference):
    """{layer name: output channels of its kernel that differ from `reference`}."""
    moved = {}
    for layer, other in zip(model.layers, reference.layers, strict=True):
        if not hasattr(layer, "kernel"):
            for a, b in zip(layer.get_weights(), other.get_weights()):
                assert np.array_equal(a, b), layer.name
            continue
        axis = -2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
        difference = np.moveaxis(np.array(layer.kernel) != np.array(other.kernel), axis, 0)
        channels = np.flatnonzero(difference.reshape(len(difference), -1).any(axis=1))
        if len(channels):
            moved[layer.name] = tuple(channels.tolist())
    return moved


def test_fit_moves_exactly_what_the_plan_names():
    model, tiny = compiled(), callback()
    x, y = batch(count=32)
    history = model.fit(x, y, epochs=8, batch_size=16, callbacks=[tiny], verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert moved_channels(model, small_net()) == {layer.name: layer.channels for layer in tiny.plan.layers}


def test_the_model_is_given_back():
    model = compiled()
    optimizer, step = model.optimizer, model.train_step.__func__
    model.fit(*batch(), epochs=1, callbacks=[callback()], verbose=0)
    assert model.optimizer is optimizer and model.train_step.__func__ is step
    assert model.get_layer("norm").trainable
    frozen = np.array(model.get_layer("stem").kernel)
    model.fit(*batch(), epochs=1, verbose=0)
    assert not np.array_equal(frozen, model.get_layer("stem").kernel)


def test_the_model_is_given_back_after_an_error():
    model = compiled()
    step = model.train_step.__func__
    with pytest.raises(ValueError, match="no layer 'nowhere'"):
        model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("nowhere", (0,)),)))], verbose=0)
    assert model.train_step.__func__ is step
    model.fit(*batch(), verbose=0)


def test_the_model_is_given_back_when_the_data_break_off():
    def batches():
        yield batch(count=8)
        raise RuntimeError("the camera is gone")

    model = compiled()
    optimizer, step = model.optimizer, model.train_step.__func__
    kinds = tf.TensorSpec((None, 8, 8, 3), tf.float32), tf.TensorSpec((None,), tf.int64)
    with pytest.raises(tf.errors.OpError, match="the camera is gone"):
        model.fit(tf.data.Dataset.from_generator(batches, output_signature=kinds), callbacks=[callback()], verbose=0)
    assert model.optimizer is optimizer and model.train_step.__func__ is step and model.get_layer("norm").trainable


def test_the_delta_leads_from_the_old_model_to_the_new(tmp_path):
    model, tiny = compiled(), callback()
    model.fit(*batch(), epochs=2, callbacks=[tiny], verbose=0)
    tiny.delta.save(tmp_path / "task.delta")
    fresh = small_net()
    Delta.load(tmp_path / "task.delta").apply(fresh)
    assert np.array_equal(fresh(batch()[0]), model(batch()[0]))


@pytest.mark.parametrize("ours_first", [True, False])
def test_early_stopping_restores_the_best_weights(ours_first):
    model, tiny = compiled(keras.optimizers.SGD(0.5)), callback()
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True)
    x, y = batch(count=32)
    history = model.fit(
        x, y, epochs=30, validation_data=batch(seed=5), callbacks=[tiny, stop] if ours_first else [stop, tiny], verbose=0
    )
    best = min(history.history["val_loss"])
    assert model.evaluate(*batch(seed=5), verbose=0, return_dict=True)["loss"] == pytest.approx(best, rel=1e-5)


def test_learning_rate_callbacks_reach_the_optimizer_in_use():
    model, rates = compiled(), []
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: rates.append(float(model.optimizer.learning_rate)))
    model.fit(*batch(), epochs=3, callbacks=[callback(), schedule, watch], verbose=0)
    assert rates == pytest.approx([0.01, 0.005, 0.01 / 3])


def test_every_batch_is_trained_on_once():
    def losses(**options):
        model, tiny = compiled(keras.optimizers.SGD(0.1), **options), callback(plan=PLANNED)
        x, y = batch(count=48)
        return model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[tiny], verbose=0).history["loss"]

    def losses_scored():
        model, tiny = compiled(keras.optimizers.SGD(0.1), steps_per_execution=4), callback()
        model.fit(*batch(count=48), batch_size=8, epochs=2, shuffle=False, callbacks=[tiny], verbose=0)
        again = compiled(keras.optimizers.SGD(0.1))
        history = again.fit(*batch(count=48), batch_size=8, epochs=2, shuffle=False, callbacks=[callback(plan=tiny.plan)], verbose=0)
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(model.get_weights(), again.get_weights()))
        return history

    PLANNED = Plan((LayerPlan("project", (1, 3)),))
    assert losses() == pytest.approx(losses(steps_per_execution=3), rel=1e-5)
    losses_scored()


def test_a_support_set_decides_instead_of_the_first_batch():
    x, y = batch(count=32)
    first, second = callback(support=(x, y)), callback(support=(x, y))
    for tiny, order in ((first, slice(None)), (second, slice(None, None, -1))):
        compiled().fit(x[order], y[order], batch_size=4, shuffle=False, callbacks=[tiny], verbose=0)
    assert first.plan == second.plan


def test_a_second_fit_with_another_plan_moves_only_that():
    model = compiled()
    model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("project", (0,)),)))], verbose=0)
    between = keras.models.clone_model(model)
    between.set_weights(model.get_weights())
    model.fit(*batch(), callbacks=[callback(plan=Plan((LayerPlan("logits", (1,)),)))], verbose=0)
    assert moved_channels(model, between) == {"logits": (1,)}


def test_a_budget_too_small_names_the_smallest_that_would_do():
    model = compiled()
    with pytest.raises(ValueError, match=r"The smallest that would do is Budget\(memory=\"(\d+)B\", compute=(\d+)\)") as raised:
        model.fit(*batch(), callbacks=[TinyTrainCallback(Budget(memory=100, compute=0.3))], verbose=0)
    memory, compute = re.search(r'memory="(\d+)B", compute=(\d+)', str(raised.value)).groups()
    tiny = TinyTrainCallback(Budget(f"{memory}B", int(compute)), verbose=0)
    model.fit(*batch(), callbacks=[tiny], verbose=0)
    assert tiny.plan.num_channels >= 1


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


def test_only_biases_move_where_the_plan_says_so():
    model, tiny = compiled(), callback(plan=Plan((LayerPlan("project", (0, 2), kernel=False),)))
    model.fit(*batch(), epochs=2, callbacks=[tiny], verbose=0)
    assert moved_channels(model, small_net()) == {}
    changed = np.array(model.get_layer("project").bias) != np.array(small_net().get_layer("project").bias)
    assert np.flatnonzero(changed).tolist() == [0, 2]


def test_a_strategy_that_trains_nothing_is_named():
    with pytest.raises(ValueError, match="strategy 'none'.* trains nothing"):
        compiled().fit(*batch(), callbacks=[callback(strategy="none")], verbose=0)
