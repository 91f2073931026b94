"""State that layers change when they are called for training: it stays as it is, or the layer is refused by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain import Budget, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.fit._inference_mode import in_inference_mode, self_changing_layers
from keras_tinytrain.fit.sparse import channel_optimizer, channel_slices, sparse_train_step

L = keras.layers
X = np.random.default_rng(0).normal(1, 1, (32, 6, 6, 2)).astype(np.float32)
Y = np.arange(32) % 3


class Centre(L.Layer):
    """Subtracts a moving mean, which it updates in training."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False, name="mean")

    def call(self, x, training=False):
        if training:
            self.update(x)
        return x - self.mean

    def update(self, x):
        self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(x, axis=(0, 1, 2)))


class CentreInBranch(Centre):
    def update(self, x):
        mean = self.mean.value
        tf.cond(tf.reduce_sum(x) > 0, lambda: mean.assign(mean + 1.0), mean.read_value)


class CentreAlways(Centre):
    def call(self, x):
        self.update(x)
        return x - self.mean


class Counting(L.Layer):
    """Counts its calls in a variable that Keras does not know as a weight."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = tf.Variable(0)

    def call(self, x):
        self.calls.assign_add(1)
        return x


class Block(L.Layer):
    """Holds layers of every kind."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = [Centre(name="centre"), L.BatchNormalization(name="norm"), L.Dropout(0.5, name="drop")]

    def call(self, x):
        for layer in self.inner:
            x = layer(x)
        return x


def net(*layers):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(X.shape[1:]), *layers, L.GlobalAveragePooling2D(), L.Dense(3, name="head")])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def moved(model, **options):
    """Names of the weights that a fit changed."""
    before = [(weight.path, np.array(weight)) for weight in model.weights]
    model.fit(X, Y, epochs=2, callbacks=[TinyTrainCallback(Budget("64KB", 1.0), verbose=0)], verbose=0, **options)
    return [path.split("/", 1)[1] for (path, old), weight in zip(before, model.weights) if not np.array_equal(old, weight)]


FROZEN = {
    "spectral normalization": lambda: [L.SpectralNormalization(L.Conv2D(4, 1))],
    "moving statistic": lambda: [Centre()],
    "statistic in a branch": lambda: [CentreInBranch()],
    "layers in a layer": lambda: [Block()],
    "model in a model": lambda: [keras.Sequential([keras.Input(X.shape[1:]), Centre(), L.BatchNormalization()])],
    "wrapper": lambda: [L.TimeDistributed(L.BatchNormalization())],
}


@pytest.mark.parametrize("layers", FROZEN.values(), ids=FROZEN)
def test_state_of_the_frozen_part_is_bit_identical_after_fit(layers):
    model = net(*layers())
    assert set(moved(model)) == {"head/kernel", "head/bias"}
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


@pytest.mark.parametrize("layer", [CentreAlways(name="mine"), Counting(name="mine")])
def test_layer_that_changes_in_inference_too_is_refused_before_training(layer):
    model = net(layer, L.Conv2D(4, 1))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"^Layer 'mine' \(C\w+\) changes its state \['.*'\] whenever it is called"):
        moved(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_layers_that_draw_at_random_keep_training_mode():
    drawing = [L.RandomFlip(), L.GaussianNoise(0.1), L.Dropout(0.5)]
    model = net(L.BatchNormalization(name="norm"), *drawing, Block())
    assert [layer.name for layer in self_changing_layers(model, X)] == ["norm", "centre", "norm"]
    with in_inference_mode(self_changing_layers(model, X)):
        first, again = (drawing[-1](np.ones((4, 4), np.float32), training=True) for _ in range(2))
    assert not np.array_equal(first, again)


def test_looking_for_state_leaves_no_trace():
    """Losses, seeds and metrics are as if nobody had looked."""

    def history():
        keras.utils.set_random_seed(0)  # layers draw the seeds of their initializers when they are made
        model = net(L.Conv2D(4, 1, activity_regularizer="l2"), L.Dropout(0.5, seed=3), L.BatchNormalization(trainable=False))
        model.get_layer(index=0).trainable = False
        if looked:
            self_changing_layers(model, X)
        return model.fit(X, Y, epochs=2, shuffle=False, verbose=0).history["loss"]

    looked = True
    with_looking = history()
    looked = False
    assert with_looking == history()


@pytest.mark.parametrize("graph", [True, False])
def test_train_step_of_ones_own_keeps_state_too(graph):
    model = net(Centre(name="centre"), L.BatchNormalization())
    slices = channel_slices(model, Plan((LayerPlan("head", (0,)),)))
    model.compile(channel_optimizer(keras.optimizers.SGD(0.1), slices), "mse")
    before = [np.array(weight) for weight in model.weights]

    def step(x, y):
        return sparse_train_step(model, slices, (x, y))

    (tf.function(step) if graph else step)(X, np.ones((32, 3), np.float32))
    changed = [not np.array_equal(old, weight) for old, weight in zip(before, model.weights)]
    assert changed == [weight.path.split("/")[1] == "head" for weight in model.weights]


def test_cached_frozen_part_keeps_its_state():
    model = net(Centre(), L.SpectralNormalization(L.Conv2D(4, 1)))
    before = [np.array(weight) for weight in model.weights]
    plan = Plan((LayerPlan("head", (0, 1)),))
    model.fit(X, Y, epochs=2, callbacks=[TinyTrainCallback(plan=plan, cache_frozen=True, verbose=0)], verbose=0)
    assert [np.array_equal(old, weight) for old, weight in zip(before, model.weights)][-2:] == [False, False]
    assert all(np.array_equal(old, weight) for old, weight in zip(before[:-2], model.weights))
