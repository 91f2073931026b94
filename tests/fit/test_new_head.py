"""A new head starts at the class means of the scored samples; a head that was trained keeps its weights."""

import keras
import numpy as np
import pytest
from callbacks import callback, compiled
from models import labelled_images, small_net

from keras_tinytrain import Delta
from keras_tinytrain.fit._compiled_loss import compiled_loss
from keras_tinytrain.fit._new_head import class_mean_weights, given_weights

layers = keras.layers


def samples(model=None):
    return labelled_images(model or small_net(), per_class=6, classes=3)


def weights_for(model, head, x, y):
    return class_mean_weights(model, head, x, y, compiled_loss(model, x, y))


def accuracy(model, x, y):
    return np.mean(np.argmax(model(x), axis=-1) == y)


def test_logits_are_cosines_to_the_class_means():
    model, (x, y) = compiled(), samples()
    features = keras.Model(model.input, model.get_layer("pool").output)(x).numpy()
    centred = features - features.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    means = np.stack([(centred / lengths)[y == number].mean(axis=0) for number in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    with given_weights(model.get_layer("logits"), weights_for(model, "logits", x, y)):
        np.testing.assert_allclose(model(x), 4 * centred @ means.T / lengths.mean(), rtol=1e-3, atol=1e-3)
        assert accuracy(model, x, y) > 0.6


@pytest.mark.parametrize("one_hot", [False, True])
def test_labels_may_be_one_hot(one_hot):
    model, (x, y) = compiled(), samples()
    if one_hot:
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    kernel, _ = weights_for(model, "logits", x, np.eye(3)[y] if one_hot else y[:, None])
    np.testing.assert_allclose(kernel, weights_for(compiled(), "logits", x, y)[0], rtol=1e-6)


def headed(*ending, loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(6, 3, activation="relu"), *ending])
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("reshape", [[], [layers.Reshape((216,))]])
def test_dropout_before_the_head_makes_its_noise_no_larger_than_the_logits(reshape):
    """Features with a large part in common: with a kernel for their differences alone, dropout would make noise of that part."""
    model = headed(
        layers.Flatten(), layers.Rescaling(1.0, 20.0), layers.Dropout(0.5), *reshape, layers.Dense(3, name="head"),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )  # fmt: skip
    x, y = samples()
    with given_weights(model.get_layer("head"), weights_for(model, "head", x, y)):
        quiet = model(x, training=False).numpy()
        noisy = np.stack([model(x, training=True) for _ in range(20)])
        assert accuracy(model, x, y) > 0.6
    assert np.std(noisy - quiet) < 1.5


def test_a_large_part_in_common_bounds_the_kernel():
    model = headed(layers.GlobalAveragePooling2D(), layers.Rescaling(1e-3, 1.0), layers.Dense(3, name="head"), loss="mse")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernel, _ = weights_for(model, "head", *samples())
    assert np.linalg.norm(kernel, axis=0).max() == pytest.approx(4 * 16 / np.sqrt(6), rel=0.01)


def test_one_sigmoid_unit_starts_between_two_classes():
    model = headed(
        layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid", name="head"), loss="binary_crossentropy"
    )
    x, y = samples()
    x, y = x[y < 2], y[y < 2].astype(np.float32)
    with given_weights(model.get_layer("head"), weights_for(model, "head", x, y)):
        assert np.mean((model(x).numpy()[:, 0] > 0.5) == y) > 0.7


def test_convolutional_head_starts_at_class_means_without_a_bias():
    ending = layers.Conv2D(3, 1, use_bias=False, name="head"), layers.GlobalAveragePooling2D(), layers.Softmax()
    model = headed(*ending, loss="sparse_categorical_crossentropy")
    (kernel,) = weights_for(model, "head", *samples())
    assert kernel.shape == (1, 1, 6, 3)


@pytest.mark.parametrize(
    "labels",
    [np.zeros(18), np.linspace(0, 1, 18), np.full((18, 3), 1 / 3), np.arange(18) % 4, None],
    ids=["one class", "values", "soft labels", "too many classes", "none"],
)
def test_head_keeps_its_weights_where_labels_are_no_classes_of_it(labels):
    model = headed(layers.GlobalAveragePooling2D(), layers.Dense(3, name="head"), loss="mse")
    assert class_mean_weights(model, "head", samples()[0], labels, lambda *_: pytest.fail("the loss is not asked")) is None


def test_trained_head_keeps_its_weights():
    model, (x, y) = compiled(), samples()
    start = weights_for(model, "logits", x, y)
    model.get_layer("logits").set_weights([25 * start[0], 25 * start[1]])
    if accuracy(model, x, y) < 1:  # only samples that it knows
        known = np.argmax(model(x), axis=-1) == y
        x, y = x[known], y[known]
    assert weights_for(model, "logits", x, y) is None


def test_drifted_head_keeps_its_weights_where_left_out_samples_do_not_gain_by_class_means():
    """Its loss is more than half of a zero head's; means of a few samples of many features fit these, and no others."""
    model = headed(layers.Flatten(), layers.Dense(1, activation="sigmoid", name="head"), loss="binary_crossentropy")
    rng = np.random.default_rng(0)
    x, head = rng.normal(size=(24, 8, 8, 3)).astype(np.float32), model.get_layer("head")
    features = keras.Model(model.inputs, model.layers[-2].output)(x).numpy()
    kernel = 0.1 * rng.normal(size=(features.shape[1], 1))
    logits = features @ kernel
    bias = -np.median(logits)
    y = (logits[:, 0] + bias + rng.normal(size=24) > 0).astype(np.float32)
    head.set_weights([kernel, np.array([bias])])
    assert 0.5 * np.log(2) < model.evaluate(x, y, verbose=0) < np.log(2)
    assert weights_for(model, "head", x, y) is None


@pytest.mark.parametrize("per_class", [1, 6])
def test_drifted_head_that_is_too_sure_keeps_its_weights(per_class):
    """It gets most samples right, and its loss is above a zero head's: without a second sample of a class, and with one."""
    model, (x, y) = compiled(), samples()
    start = weights_for(model, "logits", x, y)
    model.get_layer("logits").set_weights([300 * start[0], 300 * start[1]])
    wrong = np.argmax(model(x), axis=-1) != y
    assert 0 < wrong.sum() < len(y) / 2 and model.evaluate(x, y, verbose=0, return_dict=True)["loss"] > np.log(3)
    first = np.argsort(~wrong, kind="stable")  # the wrong ones
    few = np.concatenate([first[y[first] == number][:per_class] for number in range(3)])
    assert weights_for(model, "logits", x[few], y[few]) is None


def test_new_head_starts_at_single_samples_of_its_classes():
    model, (x, y) = compiled(), samples()
    few = np.array([np.nonzero(y == number)[0][0] for number in range(3)])
    with given_weights(model.get_layer("logits"), weights_for(model, "logits", x[few], y[few])):
        assert accuracy(model, x[few], y[few]) == 1


def test_class_means_without_a_bias_leave_out_what_all_samples_share():
    ending = layers.Flatten(), layers.Rescaling(1.0, 5.0), layers.Dense(3, use_bias=False, name="head")
    model = headed(*ending, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = samples()
    (kernel,) = weights_for(model, "head", x, y)
    shared = keras.Model(model.inputs, model.layers[-2].output)(x).numpy().mean(axis=0)
    assert np.abs(shared @ kernel).max() < 1e-4 * np.linalg.norm(shared)
    with given_weights(model.get_layer("head"), [kernel]):
        assert accuracy(model, x, y) > 0.9


def test_fit_starts_from_the_class_means_and_the_delta_from_the_users_head(tmp_path):
    x, y = samples()
    model, tiny = compiled(keras.optimizers.SGD(0.0)), callback(support=(x, y))
    start = weights_for(model, "logits", x, y)
    model.fit(x, y, callbacks=[tiny], verbose=0)
    np.testing.assert_allclose(model.get_layer("logits").kernel, start[0], rtol=1e-4, atol=1e-5)
    tiny.delta.save(tmp_path / "task.delta")
    fresh = small_net()
    Delta.load(tmp_path / "task.delta").apply(fresh)
    assert np.array_equal(fresh(x), model(x))


def test_given_plan_starts_from_the_users_head():
    x, y = samples()
    first = callback(support=(x, y))
    compiled().fit(x, y, callbacks=[first], verbose=0)
    model = compiled(keras.optimizers.SGD(0.0))
    model.fit(x, y, callbacks=[callback(plan=first.plan)], verbose=0)
    assert np.array_equal(model.get_layer("logits").kernel, small_net().get_layer("logits").kernel)


def test_a_quarter_of_the_samples_is_in_memory_at_once():
    model, (x, y) = compiled(), samples()
    loss, sizes = compiled_loss(model, x, y), []

    def recorded(outputs, indices):
        sizes.append(len(indices))
        return loss(outputs, indices)

    class_mean_weights(model, "logits", x, y, recorded)
    assert max(sizes) == len(x) // 4 == 4
    # with 4 shares of its own weights, zeros, class means, the means of other classes; left out of the means, and 4 shares again
    assert sum(sizes) == 12 * len(x)


def test_weights_are_given_back_after_an_error():
    layer = small_net().get_layer("logits")
    own = layer.get_weights()
    with pytest.raises(RuntimeError), given_weights(layer, [0 * weight for weight in own]):
        raise RuntimeError
    assert all(np.array_equal(a, b) for a, b in zip(own, layer.get_weights(), strict=True))
