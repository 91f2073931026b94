"""choose_for_task: the loss by which layers are scored is the model's own, whatever its head."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_tinytrain import Budget, adapt
from keras_tinytrain.fewshot import choose_for_task, classifier_and_loss

BUDGET = Budget("200KB", 0.6)


def net(*following):
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(6, 3, strides=2, activation="relu", name="stem"), layers.Conv2D(8, 1, activation="relu", name="pw")]
    return keras.Sequential([keras.Input((10, 10, 3)), *body, *following], name="net")


def task(num_classes):
    return np.random.default_rng(0).random((12, 10, 10, 3), np.float32), np.arange(12) % num_classes


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_sigmoid_unit_is_scored_with_binary_cross_entropy(activation):
    model, (x, y) = net(layers.GlobalAveragePooling2D(), layers.Dense(1, activation=activation, name="head")), task(2)
    classifier, loss = classifier_and_loss(model, x, y)
    p = np.asarray(model(x))[:, 0].astype(np.float64)
    p = p if activation else 1 / (1 + np.exp(-p))
    expected = -np.sum(np.where(y[2:5], np.log(p[2:5]), np.log(1 - p[2:5])))
    assert classifier is model
    np.testing.assert_allclose(loss(model(x[2:5]), np.arange(2, 5)), expected, rtol=1e-5)
    fisher = choose_for_task(model, x, y, BUDGET).explanation.ranking.channels
    assert all(values.max() > 0 for values in fisher.values()) and set(fisher) == {"stem", "pw", "head"}


def test_convolutional_head_is_scored_with_its_softmax():
    model, (x, y) = net(layers.Conv2D(3, 1, name="head"), layers.GlobalAveragePooling2D(), layers.Softmax()), task(3)
    classifier, loss = classifier_and_loss(model, x, y)
    p = np.asarray(model(x))[np.arange(12), y]
    assert classifier is model
    np.testing.assert_allclose(loss(model(x), np.arange(12)), -np.log(p).sum(), rtol=1e-5)
    assert "head" in choose_for_task(model, x, y, BUDGET).explanation.ranking.channels


def test_head_that_is_named_overrides_the_graph():
    model, (x, y) = net(layers.GlobalAveragePooling2D(), layers.Dense(3, name="head")), task(3)
    assert classifier_and_loss(model, x, y)[0] is model
    assert classifier_and_loss(model, x, y, head="prototypes")[0].output_shape == (None, 3)
    assert choose_for_task(model, x, y, BUDGET, head="prototypes").num_channels


@pytest.mark.parametrize("head", ["auto", "prototypes", "ridge"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_backbone_keeps_its_name(head, nested):
    model, (x, y) = net(layers.GlobalAveragePooling2D()), task(3)
    if nested:
        model = keras.Sequential([keras.Input((10, 10, 3)), model, layers.Dense(5, name="embedding")], name="outer")
    assert classifier_and_loss(model, x, y, head=head)[0].name == model.name
    with pytest.raises(ValueError, match=f"of model '{model.name}' "):
        choose_for_task(model, x, y, Budget(10, 0.6), head=head)


@pytest.mark.parametrize(
    "following, message",
    [
        ((layers.GlobalAveragePooling2D(name="pool"), layers.Dense(12, activation="softmax")), r"softmax.*get_layer\('pool'\)"),
        ((), r"a map of shape \(4, 4, 8\)"),
        ((layers.Reshape((16, 8)),), r"a sequence of shape \(16, 8\)"),
    ],
)
@pytest.mark.parametrize("use", [lambda *task: choose_for_task(*task, BUDGET), adapt])
def test_output_that_is_no_embedding_is_refused(use, following, message):
    with pytest.raises(ValueError, match=message):
        use(net(*following), *task(3))
