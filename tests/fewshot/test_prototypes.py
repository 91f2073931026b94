"""Prototypes and cosine logits against float64 numpy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits, l2_normalize, leave_one_out_logits
from keras_tinytrain.fewshot.training import leave_one_out_losses


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


LABELS = np.array([0, 1, 1, 2, 1, 2, 1, 2, 2, 1, 1, 2])  # class 0 has one sample


def left_out(queries, features, labels):
    """The definition, as loops: the class mean over the other samples, or the only one."""
    logits = np.zeros((len(labels), 3))
    for n, query in enumerate(queries):
        for k in range(3):
            others = [i for i in range(len(labels)) if labels[i] == k and (i != n or np.sum(labels == k) == 1)]
            prototype = features[others].mean(axis=0)
            logits[n, k] = 10 * query @ prototype / np.linalg.norm(query) / np.linalg.norm(prototype)
    return logits


def test_leave_one_out_is_the_mean_over_the_others(features):
    features = features.astype(np.float64)
    queries, membership = features + np.random.default_rng(3).normal(0, 0.2, features.shape), np.eye(3)[LABELS]
    logits = leave_one_out_logits(queries, features, membership)
    np.testing.assert_allclose(logits, left_out(queries, features, LABELS), rtol=1e-12)


def test_gradient_of_the_leave_one_out_loss_matches_central_differences(features):
    """With respect to the queries; the samples, of which the prototypes are made, get none."""
    samples, membership = features.astype(np.float64), np.eye(3)[LABELS]
    queries = samples + np.random.default_rng(3).normal(0, 0.2, samples.shape)

    def loss(queries):
        logits = left_out(queries, samples, LABELS)
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), LABELS])

    inputs = tf.constant(queries), tf.constant(samples)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_mean(leave_one_out_losses(*inputs, tf.constant(membership)))
    gradient, through_prototypes = tape.gradient(value, inputs)
    assert float(value) == pytest.approx(loss(queries), rel=1e-12) and through_prototypes is None
    for direction in np.random.default_rng(1).normal(size=(3, *queries.shape)):
        slope = (loss(queries + 1e-6 * direction) - loss(queries - 1e-6 * direction)) / 2e-6
        assert slope == pytest.approx(np.sum(gradient * direction), rel=1e-6)
