"""Losses that layers add belong to a `fit` with the callback as to a plain one."""

import keras
import numpy as np
import pytest

from keras_tinytrain import LayerPlan, Plan, TinyTrainCallback

layers, L2 = keras.layers, keras.regularizers.L2(0.1)
X, Y = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype(np.float32), np.arange(16) % 3
WHOLE = Plan(tuple(LayerPlan(name, tuple(range(count))) for name, count in (("first", 4), ("second", 5), ("head", 3))))


class Penalty(layers.Layer):
    """Adds a loss at each call, and gives back its input."""

    def call(self, inputs):
        self.add_loss(0.3 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def fitted(*, last=(), callbacks=(), **regularizers):
    """(losses, weights) of a fit."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(X.shape[1:]), layers.Conv2D(4, 3, activation="relu", name="first", **regularizers)])
    for layer in (layers.Conv2D(5, 3, name="second", **regularizers), *last, layers.Flatten(), layers.Dense(3, name="head")):
        model.add(layer)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, callbacks=list(callbacks), verbose=0).history
    return history["loss"], model.get_weights()


def test_model_without_a_loss_of_its_own_needs_a_plan():
    def fit(**options):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input(X.shape[1:]), layers.Conv2D(4, 3, name="first"), Penalty(), layers.Conv2D(2, 1)])
        model.compile(keras.optimizers.Adam(0.01))
        return model.fit(X, epochs=2, batch_size=16, callbacks=[TinyTrainCallback(verbose=0, **options)], verbose=0).history[
            "loss"
        ]

    with pytest.raises(
        ValueError, match=r"Model 'sequential\w*' was compiled without a loss\. Losses that its layers add .* `plan`"
    ):
        fit()
    first, second = fit(plan=Plan((LayerPlan("first", (0, 2)),)))
    assert second < first


@pytest.mark.parametrize("added", ["activity_regularizer", "kernel_regularizer", "a layer's own"])
def test_added_losses_train_as_in_a_plain_fit(added):
    options = {"last": [Penalty()]} if added == "a layer's own" else {added: L2}
    losses, weights = fitted(**options)
    tiny_losses, tiny_weights = fitted(callbacks=[TinyTrainCallback(plan=WHOLE, verbose=0)], **options)
    assert losses == tiny_losses and losses != fitted()[0]
    assert all(np.array_equal(a, b) for a, b in zip(weights, tiny_weights, strict=True))
