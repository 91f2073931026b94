"""fisher_information against a per-sample loop in float64 that follows the formula word by word."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from fisher_reference import by_the_formula, float64_copy
from models import images, labelled_images, tiny_net

from keras_tinytrain.choose.fisher import fisher_information, passes
from keras_tinytrain.choose.planner import summed_cross_entropy
from keras_tinytrain.model.fold import fold_batch_norm

LAYERS = ["stem", "b1_depthwise", "b1_project", "b2_expand", "b3_conv", "logits"]


def cut_at(model, name):
    output = model.get_layer(name).output
    return keras.Model(model.input, output), keras.Model(output, model.output)


@pytest.fixture(scope="module")
def task():
    """A chain (every layer's output alone determines the rest) in float64, samples and their labels."""
    keras.utils.set_random_seed(0)
    chain = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3, name="conv"),
            keras.layers.ReLU(6.0),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.ReLU(),
            keras.layers.Conv2D(8, 1, name="pointwise"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model = keras.Model(chain.inputs[0], chain.outputs[0])
    x, y = labelled_images(model, per_class=3, classes=3)
    return float64_copy(model), x.astype(np.float64), y


def test_fisher_information_equals_the_formula_in_float64(task):
    model, x, y = task
    names, loss = ["conv", "depthwise", "pointwise", "logits"], summed_cross_entropy(y)
    received, expected = fisher_information(model, x, loss, names), by_the_formula(model, x, loss, names)
    for name in names:
        assert received[name].dtype == np.float64
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-9)
        assert expected[name].max() > 0


def test_elementwise_square_is_another_number(task):
    """The order is: sum over space, then square. The other order is the known mistake."""
    model, x, y = task
    head, rest = cut_at(model, "conv")
    with tf.GradientTape() as tape:
        activation = head(x)
        tape.watch(activation)
        value = summed_cross_entropy(y)(rest(activation), np.arange(len(x)))
    mistaken = np.sum((activation * tape.gradient(value, activation)) ** 2, axis=(0, 1, 2)) / (2 * len(x))
    fisher = fisher_information(model, x, summed_cross_entropy(y), ["conv"])["conv"]
    assert np.all(np.abs(mistaken / fisher - 1) > 1e-3)


def test_batch_size_does_not_matter(task):
    model, x, y = task
    whole, parts = (fisher_information(model, x, summed_cross_entropy(y), ["conv"], batch_size=size) for size in (32, None))
    np.testing.assert_allclose(whole["conv"], parts["conv"], rtol=1e-9)


@pytest.mark.parametrize(("num_samples", "sizes"), [(1, [1]), (6, [1] * 6), (9, [2, 2, 2, 2, 1]), (100, [4] * 25)])
def test_pass_takes_a_quarter_of_the_samples_and_four_at_most(num_samples, sizes):
    assert [len(indices) for indices in passes(num_samples)] == sizes
    assert np.array_equal(np.concatenate(passes(num_samples)), np.arange(num_samples))


def test_fisher_is_the_square_of_the_derivative_of_a_channel_scale(task):
    """sum_d a g = d loss / d s at s = 1, where s multiplies the channel: checked by central differences."""
    model, x, y = task
    step, loss = 1e-5, summed_cross_entropy(y)
    fisher = fisher_information(model, x, loss, ["pointwise"])["pointwise"]
    head, rest = cut_at(model, "pointwise")

    def losses(scale):
        return np.array([float(loss(rest(head(x[n : n + 1]) * scale), np.array([n]))) for n in range(len(x))])

    for channel in (0, 5):
        change = step * np.eye(8)[channel]
        slopes = (losses(1 + change) - losses(1 - change)) / (2 * step)
        np.testing.assert_allclose(fisher[channel], np.sum(slopes**2) / (2 * len(x)), rtol=1e-5)


def test_float32_network_is_scored_in_float64(task):
    """Layers inside a residual branch too; in float32 the sum over space would cancel to a few digits."""
    model = fold_batch_norm(tiny_net())
    x, y = labelled_images(model, per_class=3, classes=5)
    received = fisher_information(model, x, summed_cross_entropy(y), LAYERS)
    expected = fisher_information(float64_copy(model), x.astype(np.float64), summed_cross_entropy(y), LAYERS)
    for name in LAYERS:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-7, atol=1e-9 * expected[name].max())


def test_no_weight_gradient_is_computed(task, monkeypatch):
    model, x, y = task
    watched = []

    class Tape(tf.GradientTape):
        def gradient(self, target, sources, **options):
            watched.extend(self.watched_variables())
            return super().gradient(target, sources, **options)

    monkeypatch.setattr(tf, "GradientTape", Tape)
    fisher_information(model, x, summed_cross_entropy(y), ["conv", "logits"])
    assert watched == []


def test_layer_that_the_loss_does_not_see_is_named():
    image = keras.Input((4,))
    a, b = keras.layers.Dense(2, name="seen")(image), keras.layers.Dense(2, name="unseen")(image)
    model = keras.Model(image, [a, b])
    with pytest.raises(ValueError, match=r"not depend on layers \['unseen'\]"):
        fisher_information(model, np.ones((2, 4), np.float32), lambda outputs, _: tf.reduce_sum(outputs[0]), ["seen", "unseen"])


def test_samples_may_be_any_array(task):
    model, x, y = task
    loss = summed_cross_entropy(y)
    np.testing.assert_array_equal(
        fisher_information(model, x.tolist(), loss, ["logits"])["logits"],
        fisher_information(model, x, loss, ["logits"])["logits"],
    )


def test_fisher_of_two_tasks_is_their_weighted_mean():
    """Delta is a mean over samples."""
    model = fold_batch_norm(tiny_net())
    x = images(model, 6)
    y = np.array([0, 1, 2, 3, 4, 0])
    first, rest, whole = (
        fisher_information(model, x[part], summed_cross_entropy(y[part]), ["b3_conv"])["b3_conv"]
        for part in (slice(2), slice(2, 6), slice(6))
    )
    np.testing.assert_allclose(whole, (2 * first + 4 * rest) / 6, rtol=1e-3, atol=1e-4 * whole.max())
