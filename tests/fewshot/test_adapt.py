"""Few-shot adaptation: learns, leaves the backbone alone, and is the same with the frozen part cached as without."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import embedding_net, labelled_images, sequence_net

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.fewshot import adaptation
from keras_tinytrain.fewshot.adaptation import classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.prototype_head import PrototypeHead, UpdatePrototypes
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)), LayerPlan("b2.pw2", tuple(range(6)))))
SHIFTS = ((1, 0), (0, -1))
adapt = functools.partial(adaptation.adapt, head="prototypes")  # the head whose formulas these tests write out


def test_adapt_learns_and_leaves_the_backbone_alone(net, task):
    before = net.get_weights()
    learned = adapt(net, *task, budget=Budget("64KB", 0.4), iterations=20, learning_rate=0.01, shifts=SHIFTS)
    assert len(learned.losses) == 20 and learned.losses[-1] < 0.8 * learned.losses[0]
    assert learned.evaluate(*task) >= prototype_classifier(net, *task).evaluate(*task)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights()))


def test_caching_the_frozen_part_changes_nothing(net, task):
    """`fit` on the whole network, written out, against `adapt`, which runs the frozen part once."""
    x, y = task
    options = {"plan": PLAN, "iterations": 6, "learning_rate": 0.01, "shifts": SHIFTS}
    learned = adapt(net, x, y, average=0, leave_one_out=False, **options)
    own = embedding_net()
    head = PrototypeHead(3)
    whole = keras.Model(own.input, head(own.output))
    whole.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensor_slices((shift_views(x, SHIFTS), np.stack([y, y]))).repeat()
    callbacks = [UpdatePrototypes(own, head, x, y), TinyTrainCallback(plan=PLAN, verbose=0)]
    history = whole.fit(data, steps_per_epoch=1, epochs=6, callbacks=callbacks, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.history["loss"], learned.losses, rtol=1e-4)
    np.testing.assert_allclose(whole(x), learned.model(x), atol=1e-3)


def test_delta_restores_the_classifier_bit_for_bit(net, task, tmp_path):
    learned = adapt(net, *task, plan=PLAN, iterations=3)
    learned.save_delta(tmp_path / "task.delta")
    restored = classifier_from_delta(embedding_net(), Delta.load(tmp_path / "task.delta"))
    assert np.array_equal(restored.logits(task[0]), learned.logits(task[0]))
    with pytest.raises(ValueError, match="was learned on base model"):
        classifier_from_delta(embedding_net(seed=1), learned.delta)


def test_averaging_is_the_formula(net, task):
    """(1 - a) * adapted + a * 10 cos to the original network's own prototypes, in float64."""
    x, y = task
    adapted = adapt(net, x, y, plan=PLAN, iterations=4, average=0)
    averaged = adapt(net, x, y, plan=PLAN, iterations=4, average=0.3)
    z = np.asarray(embedding_net()(x), np.float64)
    prototypes = np.stack([z[y == k].mean(axis=0) for k in range(3)])
    cosines = z @ prototypes.T / np.linalg.norm(z, axis=1)[:, None] / np.linalg.norm(prototypes, axis=1)
    assert averaged.losses == adapted.losses and averaged.average == 0.3
    np.testing.assert_allclose(averaged.logits(x), 0.7 * adapted.logits(x) + 0.3 * 10 * cosines, rtol=1e-5, atol=1e-5)


def test_prototypes_are_those_of_the_trained_weights(net, task):
    learned = adapt(net, *task, plan=PLAN, iterations=3, average=0)
    net = embedding_net()
    for name in ("b2.pw1", "b2.pw2"):
        net.get_layer(name).set_weights(learned.model.get_layer(name).get_weights())
    z = net(task[0])
    np.testing.assert_allclose(learned.logits(task[0]), cosine_logits(z, class_prototypes(z, task[1], 3)), atol=1e-5)


def test_first_loss_leaves_out_the_own_sample_of_each_query(net, task):
    """The formula as loops, in float64: embeddings of the shifted images against prototypes of the unshifted ones."""
    x, y = task
    x, y = x[:-3], y[:-3]  # the last class has one sample, and keeps its prototype
    z, queries = (np.asarray(net(images), np.float64) for images in (x, shift_views(x, SHIFTS)[0]))
    losses = []
    for n, query in enumerate(queries):
        logits = []
        for k in range(3):
            others = [i for i in range(len(y)) if y[i] == k and (i != n or np.sum(y == k) == 1)]
            prototype = z[others].mean(axis=0)
            logits.append(10 * query @ prototype / np.linalg.norm(query) / np.linalg.norm(prototype))
        losses.append(np.log(np.sum(np.exp(logits))) - logits[y[n]])
    learned = adapt(net, x, y, plan=PLAN, iterations=1, shifts=SHIFTS)
    assert learned.losses == [pytest.approx(np.mean(losses), rel=1e-5)]


def test_queries_that_are_the_samples_need_one_pass(net, task):
    """A shift by nothing goes the long way, and must learn the same."""
    short, long = (adapt(net, *task, plan=PLAN, iterations=5, shifts=shifts) for shifts in ((), ((0, 0),)))
    np.testing.assert_allclose(short.losses, long.losses, rtol=1e-5)
    np.testing.assert_allclose(short.logits(task[0]), long.logits(task[0]), atol=1e-4)


def test_a_classifier_is_told_what_adapt_takes(net, task):
    classifier = keras.Model(net.inputs, keras.layers.Dense(3, activation="softmax")(net.output))
    with pytest.raises(ValueError, match=r"ends in a softmax, and adapt takes embeddings: pass keras.Model\("):
        adapt(classifier, *task)


def test_chosen_channels_alone_change(net, task):
    learned, net = adapt(net, *task, plan=PLAN, iterations=3, head="softmax"), embedding_net()
    for layer in net.layers:
        chosen = [list(entry.channels) for entry in PLAN.layers if entry.name == layer.name]
        for name in (layer.name, f"original_{layer.name}"):
            copies = [each for each in learned.model.layers if each.name == name]
            for copy in copies:
                for new, old in zip(copy.get_weights(), layer.get_weights(), strict=True):
                    changed = np.unique(np.nonzero(new != old)[-1]).tolist()
                    assert changed == (chosen[0] if chosen and name == layer.name else [])


def test_adapt_repeats_on_every_run_and_after_other_tasks(task):
    options = {"budget": Budget("64KB", 0.4), "iterations": 3, "augment": keras.layers.RandomFlip(), "num_views": 2}
    net = embedding_net()
    first = adapt(net, *task, **options)
    adapt(net, *labelled_images(net, per_class=2, classes=2, seed=9), budget=Budget("32KB", 0.2), iterations=2)
    again, fresh = adapt(net, *task, **options), adapt(embedding_net(), *task, **options)
    for other in (again, fresh):
        assert other.plan == first.plan and other.losses == first.losses
        assert np.array_equal(other.logits(task[0]), first.logits(task[0]))
    assert first.losses != adapt(net, *task, **options, seed=5).losses


def test_softmax_head_begins_at_the_prototypes_and_learns(net, task):
    x, y = task
    z = np.asarray(embedding_net()(x), np.float64)
    prototypes = np.stack([z[y == k].mean(axis=0) for k in range(3)])
    logits = 10 * z @ prototypes.T / np.linalg.norm(prototypes, axis=1) / np.linalg.norm(z, axis=1).mean()
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y])
    learned = adapt(net, x, y, plan=PLAN, head="softmax", iterations=20, learning_rate=0.01)
    assert learned.losses[0] == pytest.approx(loss, rel=1e-5) and learned.losses[-1] < 0.8 * loss
    alone = adapt(net, x, y, plan=Plan(()), head="softmax", iterations=20, learning_rate=0.1)
    assert alone.losses[0] == pytest.approx(loss, rel=1e-5) and (np.diff(alone.losses) < 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "svm"}, "head of .*'auto', 'prototypes', 'ridge', 'softmax'"),
        ({"average": 1.0}, "average in"),
        ({"iterations": -1}, "0 or more. Received: -1"),
        ({"iterations": 10**12}, "below 2\\^31 and 0 or more. Received: 1000000000000"),
        ({"learning_rate": float("nan")}, "finite and 0 or more. Received: nan"),
        ({"learning_rate": -1.0}, "finite and 0 or more. Received: -1.0"),
        ({"stop_loss": -0.1}, "stop_loss, finite and 0 or more. Received: -0.1"),
        ({"skip_loss": float("inf")}, "skip_loss, finite and 0 or more. Received: inf"),
        ({"shifts": SHIFTS, "augment": "ink"}, "not both"),
        ({"plan": Plan((LayerPlan("b9.pw1", (0,)),))}, "'backbone' has no layer 'b9.pw1'"),
        ({"plan": Plan((LayerPlan("b2.pw2", (12,)),))}, "12 channels. The plan names channel 12"),
    ],
)
def test_impossible_options_are_refused(net, task, options, message):
    with pytest.raises(ValueError, match=message):
        adapt(net, *task, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :-1], y), "shape \\(11, 12, 1\\), model 'backbone' expects \\(12, 12, 1\\)"),
        (lambda x, y: (np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x), y), "Samples \\[3\\] contain NaN"),
        (lambda x, y: (x, np.zeros_like(y)), "at least two classes"),
        (lambda x, y: (x, y + 1), "Labels must be 0..K-1"),
        (lambda x, y: (x, y.astype(float)), "integer label"),
        (lambda x, y: (x, y[:-1]), "integer label for each of 12"),
        (lambda x, y: (tf.data.Dataset.from_tensor_slices(x), y), "array of samples \\(N, 12, 12, 1\\). Received: .*Dataset"),
    ],
)
def test_samples_that_cannot_be_learned_from_are_refused(net, task, change, message):
    with pytest.raises(ValueError, match=message):
        adapt(net, *change(*task), plan=PLAN)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_samples_with_nan_are_not_answered_and_make_no_class(net, task, value):
    learned, odd = prototype_classifier(net, *task), np.array(task[0][:2], np.float64)
    odd[1, 0, 0] = value
    for use in (learned.predict, learned.logits, learned.add_class, lambda x: learned.evaluate(x, [0, 1])):
        with pytest.raises(ValueError, match=r"Samples \[1\] contain NaN or infinity"):
            use(odd)
    assert learned.num_classes == prototype_classifier(net, *task).num_classes


def test_views_of_sequences_move_in_time():
    net = sequence_net()
    x, y = labelled_images(net, per_class=3, classes=2)
    moved = np.concatenate([x[:, :1], x[:, :-1]], axis=1)  # by one step, from the edge
    options = {"plan": Plan((LayerPlan("second", (0, 3)),)), "iterations": 2, "learning_rate": 0.01}
    learned = adapt(net, x, y, shifts=((0, 1),), **options)
    by_hand = adapt(net, x, y, augment=lambda _: moved, num_views=1, **options)
    assert learned.losses == by_hand.losses
