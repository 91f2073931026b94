"""Samples of no class: the familiarity against its formula, the thresholds, and what a classifier then answers."""

import dataclasses

import numpy as np
import pytest
from models import images
from scipy import stats

from keras_tinytrain import LayerPlan, Plan
from keras_tinytrain.fewshot._ridge_head import RidgeHead
from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, one_class_classifier, prototype_classifier
from keras_tinytrain.fewshot.ridge import solve
from keras_tinytrain.fewshot.unknown import UNKNOWN, threshold, upper_bound

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)),))
SIZES = 5, 3


@pytest.mark.parametrize(("rate", "count"), [(0.05, 3), (0.01, 25), (0.2, 2)])
def test_bound_is_the_prediction_bound_of_the_normal_distribution(rate, count):
    scores = np.random.default_rng(count).normal(1, 2, 25)
    expected = scores.mean() + stats.t.ppf(1 - rate, count - 1) * np.sqrt(1 + 1 / count) * scores.std(ddof=1)
    assert upper_bound(scores, rate, count) == pytest.approx(expected, rel=1e-9)


def _part_cosines(query, rows, labels, index):
    """Mean over parts of the cosine to the class mean of unit parts, one part at a time."""
    found = []
    for start, stop in ((0, 5), (5, 8)):
        units = rows[labels == index, start:stop]
        mean = (units / np.linalg.norm(units, axis=1, keepdims=True)).mean(axis=0)
        part = query[start:stop]
        found.append(part @ mean / np.linalg.norm(part) / np.linalg.norm(mean))
    return np.mean(found)


@pytest.mark.parametrize("num_negatives", [0, 4])
def test_familiarity_follows_its_formula(num_negatives):
    rng = np.random.default_rng(5)
    rows, query = rng.normal(1, 1, (9 + num_negatives, 8)), rng.normal(1, 1, (1, 8))
    labels = np.append(np.repeat([0, 1, 2], 3), np.full(num_negatives, 3))
    head = RidgeHead.of(rows, labels, 3, (), SIZES)
    found = solve(rows, labels, 3 + (num_negatives > 0), SIZES)
    centred = [part / np.linalg.norm(part) / np.sqrt(2) for part in np.split((query - rows.mean(axis=0))[0], [5])]
    scores = np.concatenate(centred) @ found.kernel
    unknown = scores[3] if num_negatives else 0
    expected = [scores[k] - unknown + 3 * _part_cosines(query[0], rows, labels, k) for k in range(3)]
    np.testing.assert_allclose(head.familiarity(query)[0], expected, atol=1e-6)


def test_what_is_left_out_is_every_class_or_what_is_no_class_or_every_sample():
    seen = []

    def familiarity(mask):
        seen.append(np.flatnonzero(mask).tolist())
        return np.arange(mask.sum(), dtype=float) + len(seen)

    threshold([0, 0, 1, 2], 3, 0.05, familiarity)
    threshold([0, 0, 1, 1, 2, 2], 2, 0.05, familiarity)
    threshold([0, 0, 0, 1], 2, 0.05, familiarity)
    assert seen == [[0, 1], [2], [3], [4], [5], [0], [1], [2]]
    with pytest.raises(ValueError, match="three classes, or two samples of a class. Received: 2 classes of .1, 1. samples"):
        threshold([0, 1], 2, 0.05, familiarity)
    with pytest.raises(ValueError, match="rate between 0 and 0.5. Received: 5"):
        threshold([0, 1, 2], 3, 5, familiarity)


@pytest.fixture(scope="module")
def learned(net, task):
    found = adapt(net, *task, plan=PLAN, iterations=2, head="ridge")
    found.reject_unknown(0.05)
    return found


def test_unknown_samples_are_told_from_those_of_a_class(net, task, learned):
    noise = np.random.default_rng(0).normal(0, 5, (6, *net.input_shape[1:])).astype(np.float32)
    assert (learned.predict(task[0]) != UNKNOWN).mean() > 0.5
    assert (learned.familiarity(noise) < learned.familiarity(task[0]).min()).all()
    assert (learned.predict(noise) == UNKNOWN).all()
    np.testing.assert_array_equal(learned.predict(task[0][:0]), [])


def test_a_delta_brings_the_threshold_along(net, task, learned, tmp_path):
    learned.save_delta(tmp_path / "task.delta")
    from keras_tinytrain import Delta

    restored = classifier_from_delta(net, Delta.load(tmp_path / "task.delta"))
    assert restored.threshold == pytest.approx(learned.threshold, rel=1e-6)
    x = images(net, 7, seed=8)
    np.testing.assert_allclose(restored.familiarity(x), learned.familiarity(x), atol=1e-5)
    with pytest.raises(ValueError, match="holds no samples: it comes from a delta"):
        restored.reject_unknown()


def test_a_damaged_record_of_the_threshold_is_named(net, learned):
    delta = learned.delta
    (known,) = (record for record in delta.records if record.name == "known")
    for damage, message in (
        ({"biases": None}, "record 'known' holds no threshold"),
        ({"values": known.values[:2], "biases": known.biases[:2], "channels": (0, 1)}, "'known' has shape"),
    ):
        records = tuple(dataclasses.replace(each, **damage) if each is known else each for each in delta.records)
        with pytest.raises(ValueError, match=message):
            classifier_from_delta(net, dataclasses.replace(delta, records=records))


def test_a_further_class_sets_the_threshold_anew_and_a_revert_keeps_it(net, task):
    learned = adapt(net, *task, plan=PLAN, iterations=2, head="ridge")
    before = learned.reject_unknown(0.1)
    learned.add_class(images(net, 3, seed=21))
    added = learned.threshold
    assert added != before
    learned.revert()
    assert learned.threshold == added and learned.num_classes == 4


def test_the_original_network_judges(net, task):
    """A class that training has seen is not unknown to the adapted network, so it cannot play the unknown there."""
    plain = prototype_classifier(net, *task).with_ridge_head(*task)
    trained = adapt(net, *task, plan=PLAN, iterations=5, head="ridge", average=0)
    assert trained.reject_unknown() == pytest.approx(plain.reject_unknown(), rel=1e-5)
    x = task[0]  # both answer alike
    np.testing.assert_allclose(trained.familiarity(x), plain.familiarity(x), atol=1e-4)


def test_samples_of_no_class_are_told_apart(net, task):
    noise = np.random.default_rng(1).uniform(0, 1, (8, *net.input_shape[1:])).astype(np.float32)
    plain = prototype_classifier(net, *task).with_ridge_head(*task)
    taught = prototype_classifier(net, *task).with_ridge_head(*task, unknown=noise[:4])
    gap = [found.familiarity(task[0]).mean() - found.familiarity(noise[4:]).mean() for found in (plain, taught)]
    assert gap[1] > gap[0]
    assert taught.num_classes == 3 and taught.logits(noise).shape == (8, 3)
    taught.add_class(images(net, 3, seed=21))
    assert taught.num_classes == 4 and taught._head.labels.tolist().count(4) == 4


def test_one_class_tells_what_is_normal(net, task):
    normal = task[0][:4]
    detector = one_class_classifier(net, normal, false_alarms=0.1)
    noise = np.random.default_rng(0).normal(0, 5, (6, *net.input_shape[1:])).astype(np.float32)
    assert (detector.predict(normal) == 0).all() and (detector.predict(noise) == UNKNOWN).all()
    with pytest.raises(ValueError, match="two samples of a class. Received: 1 classes of .1. samples"):
        one_class_classifier(net, normal[:1])


def test_other_heads_are_refused(net, task):
    with pytest.raises(ValueError, match="has 'prototypes'. Call adapt.*head='ridge'"):
        adapt(net, *task, plan=PLAN, iterations=1, head="prototypes").reject_unknown()
    with pytest.raises(ValueError, match="unknown: read by head='ridge' alone. Received: head='auto'"):
        adapt(net, *task, plan=PLAN, unknown=task[0])
