"""Prototypes and cosine logits against float64 numpy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits, l2_normalize


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)


def test_prototype_is_the_class_mean(features):
    labels = np.array([2, 0, 1, 1, 0, 2, 2, 2, 1, 0, 0, 0])
    expected = np.stack([features[labels == label].astype(np.float64).mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(class_prototypes(features, labels, 3), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale, bias", [(10.0, 0.0), (5.0, 0.3)])
def test_logits_are_scaled_cosines(features, scale, bias):
    prototypes = features[:3] * 4
    a, b = features.astype(np.float64), prototypes.astype(np.float64)
    cosines = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    logits = cosine_logits(features, prototypes, scale, bias=bias)
    np.testing.assert_allclose(logits, scale * (cosines + bias), rtol=1e-5, atol=1e-6)


def test_normalize_keeps_the_direction_of_tiny_vectors():
    tiny = np.array([[3e-9, 4e-9]], np.float32)
    np.testing.assert_allclose(l2_normalize(tiny), [[0.6, 0.8]], rtol=1e-5)


def test_zero_vector_has_zero_logits_and_a_finite_gradient():
    zero = tf.zeros((1, 4))
    with tf.GradientTape() as tape:
        tape.watch(zero)
        logits = cosine_logits(zero, tf.ones((2, 4)))
    np.testing.assert_array_equal(logits, np.zeros((1, 2)))
    assert np.isfinite(tape.gradient(logits, zero)).all()


def test_gradient_through_prototypes_matches_central_differences(features):
    labels, queries = np.array([0, 1] * 6), features[:4].astype(np.float64)
    support = tf.Variable(features.astype(np.float64))

    def loss():
        return tf.reduce_sum(tf.sin(cosine_logits(queries, class_prototypes(support, labels, 2))))

    with tf.GradientTape() as tape:
        value = loss()
    direction = np.random.default_rng(1).normal(size=support.shape)
    slope = np.sum(tape.gradient(value, support) * direction)
    support.assign_add(1e-6 * direction)
    above = loss()
    support.assign_sub(2e-6 * direction)
    assert float(above - loss()) / 2e-6 == pytest.approx(slope, rel=1e-6)
