"""`TinyTrainCallback` in `fit`: what it chooses, what it moves, and that the model is the user's again afterwards."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import batch, small_net

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.cost import PaperAccounting

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
    first, second = callback(support=(x, y)), callback(support=(list(x), y.tolist()))
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


def plans_of_fit(**options):
    """The plan of each of two epochs."""
    tiny, plans = TinyTrainCallback(Budget("64KB", 0.1), verbose=0, **options), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: plans.append(tiny.plan.layers))
    compiled().fit(*batch(), epochs=2, callbacks=[tiny, watch], verbose=0)
    return plans


@pytest.mark.parametrize("strategy", ["random", "redrawn"])
def test_what_is_drawn_follows_the_seed(strategy):
    first, again, other = (plans_of_fit(strategy=strategy, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert plans_of_fit(strategy=strategy) == plans_of_fit(strategy=strategy, seed=0)


def test_only_biases_move_where_the_plan_says_so():
    model, tiny = compiled(), callback(plan=Plan((LayerPlan("project", (0, 2), kernel=False),)))
    model.fit(*batch(), epochs=2, callbacks=[tiny], verbose=0)
    assert moved_channels(model, small_net()) == {}
    changed = np.array(model.get_layer("project").bias) != np.array(small_net().get_layer("project").bias)
    assert np.flatnonzero(changed).tolist() == [0, 2]


def test_a_strategy_that_trains_nothing_is_named():
    with pytest.raises(ValueError, match="strategy 'none'.* trains nothing"):
        compiled().fit(*batch(), callbacks=[callback(strategy="none")], verbose=0)


PLAN = Plan((LayerPlan("project", (1, 4)), LayerPlan("depthwise", (0, 2, 5)), LayerPlan("logits", (2,))))


def tensorboard_values(log_dir):
    """{tag: value} of the event files of the callback in TensorBoard's run `train`."""
    (path,) = (log_dir / "train").glob("*.tinytrain")
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    return {value.tag: tf.make_ndarray(value.tensor) for event in events for value in event.summary.value}


def test_callbacks_beside_it_work_in_any_order(tmp_path):
    """An order and its reverse hold every pair of callbacks in both orders."""
    weights = []
    for name in ("forward", "backward"):
        folder, model, tiny = tmp_path / name, compiled(keras.optimizers.SGD(0.5, momentum=0.9)), callback()
        beside = [
            tiny,
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(folder / "last.keras"),
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1)),
            keras.callbacks.BackupAndRestore(folder / "backup"),
            keras.callbacks.TensorBoard(folder / "logs"),
        ]
        order = beside if name == "forward" else beside[::-1]
        x, y = batch(count=32)
        model.fit(x, y, batch_size=16, epochs=6, shuffle=False, validation_data=batch(seed=5), callbacks=order, verbose=0)
        assert moved_channels(model, small_net()) == {layer.name: layer.channels for layer in tiny.plan.layers}
        weights.append(model.get_weights())
        saved = keras.models.load_model(folder / "last.keras")
        assert saved.get_layer("norm").trainable
        assert moved_channels(saved, small_net()) == moved_channels(model, small_net())
        assert not (folder / "backup").exists()
        logged, ranking = tensorboard_values(folder / "logs"), tiny.plan.explanation.ranking
        assert logged["tinytrain/plan"].item().decode().strip("`\n") == tiny.plan.explain().strip()
        for layer, score in ranking.layers.items():
            assert logged[f"tinytrain/score/{layer}"] == pytest.approx(score, rel=1e-6)
            assert logged[f"tinytrain/channel_scores/{layer}"][:, 2].sum() == len(ranking.channels[layer])
        assert all(logged[f"tinytrain/num_channels/{layer.name}"] == len(layer.channels) for layer in tiny.plan.layers)
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


class PowerCut(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path):
    def trained(*others):
        model, tiny = compiled(keras.optimizers.Adam(0.02)), callback()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(*batch(count=24), batch_size=8, epochs=4, shuffle=False, callbacks=[tiny, backup, *others], verbose=0)
        return model, tiny

    whole, uninterrupted = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(PowerCut())
    assert json.loads((tmp_path / "backup" / "tinytrain_plan.json").read_text())["strategy"] == "fisher"
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):  # Keras, of the optimizer set aside
        resumed, tiny = trained()
    assert tiny.plan == uninterrupted.plan and tiny.delta.base_hash == uninterrupted.delta.base_hash
    for ours, expected in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=ours.path)
    tiny.delta.revert(resumed)
    assert moved_channels(resumed, small_net()) == {}


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


def test_two_fits_with_two_plans_move_only_what_they_name_with_state_of_their_own():
    model = compiled(keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True, global_clipnorm=1.0))
    model.fit(*batch(), epochs=2, callbacks=[callback(plan=PLAN)], verbose=0)
    between = keras.models.clone_model(model)
    between.set_weights(model.get_weights())
    second = Plan((LayerPlan("stem", (2,)), LayerPlan("project", (0,))))
    model.fit(*batch(), epochs=2, callbacks=[callback(plan=second)], verbose=0)
    assert moved_channels(model, between) == {"stem": (2,), "project": (0,)}


def test_a_callback_is_rebuilt_from_its_config():
    accounting = PaperAccounting(copies=3)
    tiny = callback(inspect=["project"], strategy="l2", plan=PLAN, accounting=accounting, seed=3, cache_prefix="1MB")
    config = json.loads(json.dumps(tiny.get_config()))
    again = TinyTrainCallback.from_config(config)
    assert (again.budget, again.plan, again.accounting) == (tiny.budget, PLAN, accounting)
    assert again.get_config() == tiny.get_config()
    assert TinyTrainCallback.from_config(TinyTrainCallback().get_config()).get_config() == TinyTrainCallback().get_config()


def test_what_the_user_froze_is_not_chosen():
    compiled().fit(*batch(), callbacks=[everything := callback(strategy="full")], verbose=0)
    frozen = everything.plan.layers[0].name
    model = compiled()
    model.get_layer(frozen).trainable = False
    model.fit(*batch(), callbacks=[rest := callback(strategy="full")], verbose=0)
    assert [layer.name for layer in rest.plan.layers] == [layer.name for layer in everything.plan.layers[1:]]
    with pytest.raises(ValueError, match=rf"trainable flag is False: \['{frozen}'\]"):
        model.fit(*batch(), callbacks=[callback(plan=everything.plan)], verbose=0)
    model.trainable = False
    with pytest.raises(ValueError, match=rf"has no trainable .*: '{frozen}' \(its trainable flag is False\), '"):
        model.fit(*batch(), callbacks=[callback()], verbose=0)


@pytest.mark.parametrize("wrap", [lambda x, y: ({"image": x}, y), lambda x, y: (x, {"out": y}), lambda x, y: (x,)])
def test_samples_and_labels_may_come_by_name_or_labels_not_at_all(wrap):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.square(y_pred))

    plain = small_net()
    image = keras.Input(plain.input_shape[1:], name="image")
    model = Own(image, plain(image))
    model.compile("sgd")
    model.fit(*wrap(*batch()), callbacks=[fitted := callback()], verbose=0)
    assert fitted.plan.layers


def test_several_inputs_or_outputs_are_refused():
    image = keras.Input((8, 8, 3))
    outputs = [keras.layers.Dense(2, name=name)(keras.layers.Flatten()(image)) for name in "ab"]
    model = keras.Model(image, outputs)
    model.compile("sgd", ["mse", "mse"])
    with pytest.raises(ValueError, match=r"one output. Received '.*' with 2: \['a', 'b'\]"):
        model.fit(np.zeros((4, 8, 8, 3)), [np.zeros((4, 2))] * 2, callbacks=[callback()], verbose=0)


def test_trained_weights_are_not_known_before_the_first_batch():
    with pytest.raises(ValueError, match="not known before the first batch"):
        callback().print_trainable_parameters()


def test_what_would_go_wrong_silently_is_refused():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    plain = small_net()
    own = Own(plain.input, plain.output)
    own.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has a train_step of its own"):
        own.fit(*batch(), callbacks=[callback()], verbose=0)
    averaged = compiled(keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ValueError, match="SwapEMAWeights does not go with"):
        averaged.fit(*batch(), callbacks=[callback(), keras.callbacks.SwapEMAWeights()], verbose=0)
