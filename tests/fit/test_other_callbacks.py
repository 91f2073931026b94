"""`TinyTrainCallback` beside other callbacks of the same `fit`."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from callbacks import callback, compiled, moved_channels
from models import batch, small_net


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


def tensorboard_values(log_dir):
    """{tag: value} of the event files of the callback in TensorBoard's run `train`."""
    (path,) = (log_dir / "train").glob("*.tinytrain")
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    return {value.tag: tf.make_ndarray(value.tensor) for event in events for value in event.summary.value}


def test_other_callbacks_work_in_any_order(tmp_path):
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
