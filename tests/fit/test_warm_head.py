"""A new head learns the scored samples before the scores are taken; afterwards it is as before."""

import keras
import numpy as np
import pytest
from callbacks import compiled
from models import batch, labelled_images, small_net

from keras_tinytrain.fit._compiled_loss import compiled_loss
from keras_tinytrain.fit._warm_head import warm_head


def samples():
    return labelled_images(small_net(), per_class=6, classes=3)


def loss_of(model, x, y):
    return float(compiled_loss(model, x, y)(model(x), np.arange(len(x)))) / len(x)


def test_new_head_learns_and_is_given_back():
    model, (x, y) = compiled(), samples()
    before, loss = model.get_weights(), loss_of(model, x, y)
    with warm_head(model, "logits", x, compiled_loss(model, x, y)):
        assert loss_of(model, x, y) < loss - 0.03
        changed = [layer.name for layer, other in zip(model.layers, small_net().layers) if differs(layer, other)]
    assert changed == ["logits"]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def differs(layer, other):
    return any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), other.get_weights(), strict=True))


def test_head_that_knows_the_samples_is_not_touched():
    model, (x, y) = compiled(), samples()
    model.fit(x, y, epochs=150, batch_size=18, verbose=0)
    before = model.get_weights()
    with warm_head(model, "logits", x, compiled_loss(model, x, y)):
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_head_is_given_back_after_an_error():
    model, (x, y) = compiled(), batch()
    before = model.get_layer("logits").get_weights()
    with pytest.raises(RuntimeError), warm_head(model, "logits", x, compiled_loss(model, x, y)):
        raise RuntimeError
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("logits").get_weights()))


def test_any_head_and_loss_is_warmed():
    layers = keras.layers
    x, y = samples()
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),
            layers.Conv2D(1, 1, name="one"),
            layers.GlobalAveragePooling2D(),
            layers.Activation("sigmoid"),
        ]
    )
    model.compile("sgd", "binary_crossentropy")
    labels = (y[:, None] > 0).astype(np.float32)
    loss = loss_of(model, x, labels)
    with warm_head(model, "one", x, compiled_loss(model, x, labels)):
        assert loss_of(model, x, labels) < loss
