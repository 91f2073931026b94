"""Predictions averaged with the original network: its weights, its prototypes, and its place in a delta."""

import numpy as np
import pytest

from keras_tinytrain import _runtime
from tests.runtime.reference import Reference, cosine_logits
from tests.runtime.trainers import assert_same_weights, int8_weights

# ---- averaging with the original network --------------------------------------------------------------------------------


def original(setup, labels):
    """Float64 embedding and prototypes of the weights in flash."""
    reference = Reference(setup.net, setup.images, labels)
    embeddings = np.stack([reference.embed(views[0])[1] for views in reference.stored])
    return reference, reference.prototypes(embeddings)


@pytest.mark.parametrize("which", ["setup", "with_views"])
@pytest.mark.parametrize("average", [0.25, 1.0])
def test_predictions_are_averaged_with_the_original_weights(which, average, request):
    setup = request.getfixturevalue(which)
    trainer = setup.trainer(learning_rate=0.3, average=average)
    trainer.train()
    reference, prototypes = original(setup, setup.labels)
    np.testing.assert_allclose(trainer.original_prototypes(), prototypes, rtol=0, atol=1e-5 * np.abs(prototypes).max())
    differences = []
    for image in setup.images:
        label, logits = trainer.predict(image)
        last, values = len(setup.net.tensors) - 1, setup.net.forward(setup.net.run_frozen(image))
        adapted = cosine_logits(setup.net.real(last, values[last]).reshape(-1), np.float64(trainer.prototypes()))
        unadapted = cosine_logits(reference.embed(setup.net.run_frozen(image))[1], prototypes)
        expected = (1 - average) * adapted + average * unadapted
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
        assert label == np.argmax(logits)
        differences.append(np.abs(adapted - unadapted).max())
    assert max(differences) > 0.1  # it did learn


def test_training_and_arena_are_the_same_after_predictions(setup):
    """What is bound to flash for a prediction is bound to the arena again."""
    plain, averaged = setup.trainer(learning_rate=0.3), None
    plain.train()
    expected = int8_weights(plain)
    averaged = setup.trainer(learning_rate=0.3, average=0.5)
    averaged.update_prototypes()
    for _ in range(3):
        averaged.predict(setup.images[0])
        averaged.step()
    assert_same_weights(int8_weights(averaged), expected)
    for layer in setup.net.trained:
        assert np.shares_memory(setup.net.bound[100 + layer], averaged.arena)


def test_a_model_that_fails_leaves_the_adapted_weights_bound(setup):
    calls, failing = [], []

    def fails_later(features):
        calls.append(features)
        if len(calls) in failing:
            raise KeyError("from the model")
        return setup.net.run_trainable(features)

    setup.net.bound.clear()
    trainer = _runtime.Trainer(
        setup.tables, fails_later, setup.net.run_frozen, setup.net.bind, settings={"average": 0.5}, owner=setup.library
    )
    for _ in range(2):
        for image, label in zip(setup.images, setup.labels):
            trainer.add_sample(image, label)
        if not failing:  # train, and teach the same anew: the original prototypes of the samples are no longer known
            trainer.step()
            trainer.clear_samples()
            failing.append(len(calls) + 8)  # six embeddings, then those of the original weights
    with pytest.raises(KeyError, match="from the model"):
        trainer.update_prototypes()
    assert all(np.shares_memory(array, trainer.arena) for array in setup.net.bound.values())
    assert trainer.original_prototypes() is None
    with pytest.raises(RuntimeError, match="nothing is learned yet"):
        trainer.predict(setup.images[0])


def test_a_delta_carries_the_original_prototypes(setup):
    learned = setup.trainer(learning_rate=0.3, average=0.5)
    learned.train()
    logits, delta = learned.predict(setup.images[0])[1], learned.save_delta()
    assert len(delta) == learned.delta_bytes() and b"original_prototypes" in delta
    fresh = setup.trainer(add=False, average=0.5)
    fresh.load_delta(delta)
    np.testing.assert_array_equal(fresh.predict(setup.images[0])[1], logits)
    assert fresh.save_delta() == delta
    fresh.revert()
    assert fresh.original_prototypes() is None


def test_deltas_of_the_other_kind(setup):
    """Without original prototypes there is nothing to average with; unasked ones are passed over."""
    plain = setup.trainer(learning_rate=0.3)
    plain.train()
    delta = plain.save_delta()
    averaging = setup.trainer(average=0.5)
    averaging.load_delta(delta)
    for forbidden in (lambda: averaging.predict(setup.images[0]), averaging.save_delta):
        with pytest.raises(RuntimeError, match="nothing is learned yet"):
            forbidden()
    averaging.update_prototypes()  # from its samples
    adapted = plain.predict(setup.images[0])[1]
    assert np.abs(averaging.predict(setup.images[0])[1] - adapted).max() > 0.01
    other = setup.trainer(add=False)
    other.load_delta(averaging.save_delta())
    np.testing.assert_allclose(other.predict(setup.images[0])[1], adapted, atol=1e-5)
    assert other.save_delta() == delta


def test_softmax_has_nothing_to_average(softmax):
    plain, averaged = softmax.trainer(learning_rate=0.1), softmax.trainer(learning_rate=0.1, average=0.5, leave_one_out=True)
    assert plain.memory_parts() == averaged.memory_parts()
    deltas = []
    for settings in ({}, {"average": 0.5, "leave_one_out": True}):
        trainer = softmax.trainer(learning_rate=0.1, **settings)
        trainer.train()
        deltas.append((trainer.save_delta(), trainer.predict(softmax.images[0])[1].tobytes()))
    assert deltas[0] == deltas[1]
