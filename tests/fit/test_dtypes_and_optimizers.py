"""Weights of other dtypes than float32, and optimizers of every make, train as in a plain `fit`."""

import keras
import numpy as np
import pytest

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback

X = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
Y = np.arange(32) % 3
PLAN = Plan((LayerPlan("hidden", (0, 2)), LayerPlan("head", (1,))))


def net(package=keras, dtype="float32"):
    package.utils.set_random_seed(0)
    layers = package.layers
    hidden = layers.Dense(6, activation="relu", dtype=dtype, name="hidden")
    return package.Sequential(
        [package.Input((8,)), hidden, layers.BatchNormalization(), layers.Dense(3, dtype=dtype, name="head")]
    )


def fit(model, optimizer, *others, plan=PLAN, package=keras, **options):
    """(history of the loss, the callback); the model keeps its optimizer."""
    model.compile(optimizer, package.losses.SparseCategoricalCrossentropy(from_logits=True), **options)
    own, tiny = model.optimizer, TinyTrainCallback(Budget("64KB", 1.0), plan=plan, verbose=0)
    history = model.fit(X, Y, batch_size=16, epochs=3, callbacks=[tiny, *others], verbose=0).history["loss"]
    assert model.optimizer is own
    return history, tiny


def assert_only_plan_moved(model, reference):
    for name, channels in (("hidden", [0, 2]), ("head", [1])):
        old, new = np.array(reference.get_layer(name).kernel), np.array(model.get_layer(name).kernel)
        assert sorted(set(np.nonzero(old != new)[-1])) == channels, name


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_delta_of_other_dtypes_is_saved_loaded_and_reverted(dtype, tmp_path):
    model = net(dtype=dtype)
    history, tiny = fit(model, keras.optimizers.SGD(0.1), plan=None)
    assert np.isfinite(history).all() and {layer.name for layer in tiny.plan.layers} <= {"hidden", "head"}
    tiny.delta.save(tmp_path / "task.delta")
    fresh, base = net(dtype=dtype), net(dtype=dtype)
    delta = Delta.load(tmp_path / "task.delta")
    delta.apply(fresh)
    assert all(np.array_equal(a, b) for a, b in zip(fresh.get_weights(), model.get_weights(), strict=True))
    delta.revert(fresh)
    assert all(np.array_equal(a, b) for a, b in zip(fresh.get_weights(), base.get_weights(), strict=True))


class Seen(keras.Model):
    """Its own loss casts labels to float32, and notes the dtypes that it sees."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self.seen.append((keras.backend.standardize_dtype(y.dtype), keras.backend.standardize_dtype(y_pred.dtype)))
        return keras.ops.mean((keras.ops.cast(y, y_pred.dtype)[:, None] - y_pred) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_compute_loss_is_scored_with_the_dtypes_of_training(dtype):
    plain = net(dtype=dtype)
    model = Seen(plain.inputs[0], plain.outputs[0])
    object.__setattr__(model, "seen", [])
    model.compile("sgd")
    labels = Y.astype(np.float64)
    model.fit(X, labels, callbacks=[TinyTrainCallback(Budget("64KB", 1.0), support=(X, labels), verbose=0)], verbose=0)
    assert len(model.seen) >= 2 and len(set(model.seen)) == 1


def test_steps_and_learning_rate_of_the_models_optimizer_are_live():
    optimizer, seen = keras.optimizers.Adam(0.01), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(int(optimizer.iterations)))
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=0, min_delta=10, factor=0.5)
    fit(net(), optimizer, watch, plateau)
    assert seen == [2, 4, 6] and int(optimizer.iterations) == 0
    assert float(optimizer.learning_rate) == pytest.approx(0.01 / 4)


def accumulating():
    optimizers = keras.optimizers
    return optimizers.LossScaleOptimizer(optimizers.Adam(0.01, gradient_accumulation_steps=2, use_ema=True))


def scheduled():
    return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9)


@pytest.mark.parametrize("optimizer", [accumulating, scheduled])
def test_wrapped_optimizer_moves_the_plan_alone(optimizer):
    model = net()
    fit(model, optimizer())
    assert_only_plan_moved(model, net())


def test_exponential_averages_of_an_earlier_fit_stay_out():
    model, optimizer = net(), keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, epochs=1, verbose=0)
    reference = net()
    reference.set_weights([weight + 1 for weight in model.get_weights()])  # no longer the averages of the first fit
    model.set_weights(reference.get_weights())
    tiny = TinyTrainCallback(plan=PLAN, verbose=0)
    model.fit(X, Y, epochs=1, callbacks=[tiny], verbose=0)
    assert_only_plan_moved(model, reference)


KERAS2 = {
    "legacy Adam": lambda o, mixed: o.legacy.Adam(0.01),
    "legacy SGD": lambda o, mixed: o.legacy.SGD(0.1, momentum=0.9, global_clipnorm=1.0),
    "legacy scaled": lambda o, mixed: mixed.LossScaleOptimizer(o.legacy.Adam(0.01)),
    "scaled": lambda o, mixed: mixed.LossScaleOptimizer(o.Adam(0.01)),
}


@pytest.mark.parametrize("make", KERAS2.values(), ids=KERAS2)
def test_optimizers_of_tf_keras_move_the_plan_alone(make):
    package = pytest.importorskip("tf_keras")
    model = net(package)
    rates = package.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    history, _ = fit(model, make(package.optimizers, package.mixed_precision), rates, package=package)
    assert history[-1] < history[0]
    assert_only_plan_moved(model, net(package))


def test_mixed_precision_of_tf_keras_is_scored_and_trained():
    package = pytest.importorskip("tf_keras")
    model = net(package, dtype="mixed_bfloat16")
    history, tiny = fit(model, package.optimizers.Adam(0.01), plan=None, package=package)
    assert tiny.plan.layers and history[-1] < history[0]
