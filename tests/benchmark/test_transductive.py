"""Transductive fine-tuning: the entropy by hand, the step against a tape of its own, and tasks that do not see each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.benchmark.transductive import TransductiveTuner, entropy
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits


@pytest.fixture
def backbone():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(4)])


def task():
    rng = np.random.default_rng(1)
    centres, labels = rng.normal(size=(3, 6)), np.repeat(np.arange(3), 4)
    x, q = (np.float32(centres[labels] + rng.normal(0, 0.7, (12, 6))) for _ in range(2))
    return x, labels, np.stack([x + np.float32(0.1), x]), q, labels


def test_entropy_by_hand():
    logits = np.log(np.float32([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    np.testing.assert_allclose(entropy(logits), [1.5 * np.log(2), np.log(3)], rtol=1e-6)


def test_one_step_is_adam_on_cross_entropy_plus_entropy(backbone):
    x, y, views, q, _ = task()
    tuner = TransductiveTuner(backbone, iterations=1, learning_rate=1e-2)
    tuner.accuracy(x, y, views, q, y)
    reference = keras.models.clone_model(backbone)
    reference.set_weights(backbone.get_weights())
    prototypes = class_prototypes(reference(x), y, 3)
    with tf.GradientTape() as tape:
        logits = cosine_logits(reference(views[0]), prototypes)
        supervised = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        p = tf.nn.softmax(cosine_logits(reference(q), prototypes))
        loss = tf.reduce_mean(supervised) - tf.reduce_mean(tf.reduce_sum(p * tf.math.log(p), axis=1))
    gradients = tape.gradient(loss, [variable.value for variable in reference.trainable_variables])
    keras.optimizers.Adam(1e-2).apply(gradients, reference.trainable_variables)
    for own, expected in zip(tuner._model.get_weights(), reference.get_weights()):
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


def test_tasks_do_not_see_each_other(backbone):
    x, y, views, q, query_y = task()
    before = backbone.get_weights()
    tuner = TransductiveTuner(backbone, iterations=5, learning_rate=1e-2)
    first = tuner.accuracy(x, y, views, q, query_y)
    weights = tuner._model.get_weights()
    tuner.accuracy(-x, y, -views, q, query_y)
    assert tuner.accuracy(x, y, views, q, query_y) == first
    for own, expected in zip(tuner._model.get_weights(), weights):
        np.testing.assert_array_equal(own, expected)
    for own, expected in zip(backbone.get_weights(), before):
        np.testing.assert_array_equal(own, expected)
