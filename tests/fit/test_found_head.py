"""Which layer a `fit` takes for the head by itself, and what it says of it."""

import keras
import numpy as np
import pytest
from callbacks import callback, compiled
from models import batch

from keras_tinytrain import Budget, TinyTrainCallback
from keras_tinytrain.fit._head import head_of

layers = keras.layers
X = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
CLASSES = np.arange(12) % 8


def dense_net(units=8, loss="mse", ending=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, "relu", name="code"), layers.Dense(units, ending, name="last")]
    )
    model.compile("sgd", loss)
    return model


TARGETS = {
    "autoencoder": (X, None),
    "denoising autoencoder": (X + 1, None),
    "autoencoder of another layout": (X.reshape(12, 2, 4), None),
    "no targets": (None, None),
    "class numbers": (CLASSES, "last"),
    "as many one-hot classes as features": (np.eye(8)[CLASSES], "last"),
    "values to predict": (X[:, :3], "last"),
}


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_tell_whether_the_last_layer_is_a_head(targets):
    y, expected = TARGETS[targets]
    name, why_none = head_of(dense_net(), "auto", X, y)
    assert (name, bool(why_none)) == (expected, expected is None)


def test_one_value_predicted_from_one_is_a_head():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(4, "relu"), layers.Dense(1, name="sine")])
    assert head_of(model, "auto", X[:, :1], np.sin(X[:, :1])) == ("sine", "")


def test_autoencoder_fits_within_a_budget_that_its_last_layer_exceeds(capsys):
    model, made = dense_net(), TinyTrainCallback(Budget(compute=40))  # the last layer takes 6 x 8
    model.fit(X, X, callbacks=[made], verbose=0)
    assert 0 < len(made.plan["last"].channels) < 8
    assert (
        "head: none, since targets have the samples' shape, as an autoencoder's; head='name' names one"
        in capsys.readouterr().out
    )


def test_head_that_was_found_is_told(capsys):
    made = callback(verbose=1)
    compiled().fit(*batch(), callbacks=[made], verbose=0)
    assert "\nhead: logits, trained whole; candidates: " in capsys.readouterr().out
    assert "head: logits, trained whole; candidates: " in made.plan.explain()


def test_fit_without_a_head_says_nothing_of_it(capsys):
    compiled().fit(*batch(), callbacks=[callback(head=None, verbose=1)], verbose=0)
    assert "head" not in capsys.readouterr().out.replace("logits", "")


def test_head_that_a_budget_cannot_hold_may_be_turned_off():
    with pytest.raises(ValueError, match="With head=None it need not be trained whole. The smallest"):
        dense_net(loss="sparse_categorical_crossentropy", ending="softmax").fit(
            X, CLASSES, callbacks=[TinyTrainCallback(Budget(compute=10), verbose=0)], verbose=0
        )


def distances(y, embeddings):
    """A loss of embeddings: samples of a class lie together, whichever units they use; others lie apart."""
    gaps = keras.ops.sum(keras.ops.square(embeddings[:, None] - embeddings[None]), axis=-1)
    same = keras.ops.cast(keras.ops.equal(y[:, None], y[None]), gaps.dtype)
    return keras.ops.mean(same * gaps + (1 - same) * keras.ops.relu(1 - gaps), axis=1)


def test_embedding_whose_units_are_no_classes_keeps_its_weights():
    model, y = dense_net(loss=distances), CLASSES.astype(np.float32) % 2
    model.compile(keras.optimizers.SGD(0.0), distances)
    before = model.get_layer("last").get_weights()
    model.fit(X, y, batch_size=12, callbacks=[TinyTrainCallback(Budget(compute=0.99), verbose=0)], verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_layer("last").get_weights(), strict=True))
