"""What a few-shot classifier can do once it has learned: answer, add a class, revert, be saved, be one Keras model."""

import dataclasses
import functools
import logging

import keras
import numpy as np
import pytest
from models import images, labelled_images

from keras_tinytrain import Delta, LayerPlan, Plan
from keras_tinytrain.fewshot import adaptation
from keras_tinytrain.fewshot.adaptation import classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)), LayerPlan("b2.pw2", tuple(range(6)))))
adapt = functools.partial(adaptation.adapt, head="prototypes")  # unless a test names another
BIASES = Plan((LayerPlan("b1.pw2", (1, 2), kernel=False), LayerPlan("b2.pw1", (0, 3))))


@pytest.fixture(scope="module", params=["prototypes", "softmax", "ridge", "not averaged", "biases", "nothing frozen"])
def options(request):
    kinds = {
        "softmax": {"head": "softmax"},
        "ridge": {"head": "ridge"},
        "not averaged": {"average": 0},
        "biases": {"plan": BIASES},
    }
    kinds["nothing frozen"] = {"plan": Plan((LayerPlan("stem", (0, 4)), LayerPlan("b2.dw", (2,))))}
    return {"plan": PLAN, "iterations": 3, **kinds.get(request.param, {})}


def test_classifier_is_one_keras_model(net, task, options, tmp_path):
    learned = adapt(net, *task, **options)
    np.testing.assert_allclose(learned.model.predict(task[0], verbose=0), learned.logits(task[0]), atol=1e-4)
    assert learned.model.name == net.name
    learned.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.predict(task[0], verbose=0), learned.model.predict(task[0], verbose=0))


def test_saved_delta_restores_the_classifier(net, task, options, tmp_path):
    learned = adapt(net, *task, **options)
    num_bytes = learned.save_delta(tmp_path / "task.delta")
    assert num_bytes == (tmp_path / "task.delta").stat().st_size
    restored = classifier_from_delta(net, Delta.load(tmp_path / "task.delta"))
    np.testing.assert_allclose(restored.logits(task[0]), learned.logits(task[0]), atol=1e-5)
    assert restored.evaluate(*task).before == learned.evaluate(*task).before
    assert restored.delta.to_bytes() == learned.delta.to_bytes()
    names = {record.name for record in learned.delta.records}
    original = "original_ridge" if "ridge" in names else "original_prototypes"
    assert (original in names) == (learned.average > 0)


def test_a_classifier_is_printed_in_one_line(net, task):
    learned = adapt(net, *task, plan=PLAN, iterations=2)
    trained = ", ".join(f"{layer.name} {len(layer.channels)}" for layer in PLAN.layers)
    loss = f"{learned.losses[0]:.3g} to {learned.losses[-1]:.3g}"
    assert (
        str(learned)
        == f"<FewShotClassifier of {learned.num_classes} classes; head prototypes; trained channels: {trained}; loss {loss}>"
    )
    learned.revert()
    assert "trained channels: none" in str(learned)


def test_delta_of_another_origin_is_refused(net, task):
    delta = adapt(net, *task, plan=PLAN, iterations=1).delta
    without_head = dataclasses.replace(delta, records=delta.records[:2], previous=delta.previous[:2])
    with pytest.raises(ValueError, match="holds no prototypes"):
        classifier_from_delta(net, without_head)
    record = dataclasses.replace(delta.records[0], values=delta.records[0].values.astype(np.int8))
    with pytest.raises(ValueError, match="int8 values of a device"):
        classifier_from_delta(net, dataclasses.replace(delta, records=(record, *delta.records[1:])))


def test_keras_model_is_the_original_network_after_revert(net, task):
    learned = adapt(net, *task, plan=PLAN, iterations=3)
    learned.delta.revert(learned.model)
    before = prototype_classifier(net, *task)
    np.testing.assert_allclose(learned.model.predict(task[0], verbose=0), before.logits(task[0]), atol=1e-5)


def test_added_class_is_its_mean_embedding(net, task):
    x, y = task
    added = images(net, 3, seed=8)
    learned = prototype_classifier(net, x, y)
    others = learned.logits(x)
    assert learned.add_class(added) == 3 and learned.num_classes == 4
    z = net(np.concatenate([x, added]))
    prototypes = class_prototypes(z, np.append(y, [3, 3, 3]), 4)
    np.testing.assert_allclose(learned.logits(x), cosine_logits(z[: len(x)], prototypes), atol=1e-5)
    assert np.array_equal(learned.logits(x)[:, :3], others)


def test_added_class_is_told_apart_after_training(net, task, options, tmp_path):
    every, labels = labelled_images(net, per_class=4, classes=4)
    x, added = every[labels < 3], every[labels == 3]
    learned = adapt(net, x, labels[labels < 3], **options)
    others = learned.logits(x)
    assert learned.model.output_shape == (None, 3)
    assert learned.add_class(added) == 3
    assert (learned.predict(added) == 3).all()
    if options.get("head") != "ridge":  # which is solved anew
        np.testing.assert_allclose(learned.logits(x)[:, :3], others, rtol=1e-6)
    np.testing.assert_allclose(learned.model.predict(x, verbose=0), learned.logits(x), atol=1e-4)
    restored = classifier_from_delta(net, learned.delta)
    np.testing.assert_allclose(restored.logits(added), learned.logits(added), atol=1e-5)


@pytest.mark.parametrize("bad", [np.zeros((0, 12, 12, 1)), np.zeros((2, 11, 12, 1)), np.zeros((12, 12, 1))])
def test_class_without_fitting_samples_is_refused(net, task, bad):
    with pytest.raises(ValueError, match=r"A new class expects samples \(N, "):
        prototype_classifier(net, *task).add_class(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, 1:], y), r"shape \(11, 12, 1\), model 'backbone' expects \(12, 12, 1\)"),
        (lambda x, y: (x[0], y), r"shape \(12, 1\), model"),
        (lambda x, y: (x, y + 1), r"Expected labels 0\.\.2\. Received 1\.\.3\. np\.unique"),
        (lambda x, y: (x, np.eye(3)[y]), r"integer label for each of 12 samples. Received: float64 of shape \(12, 3\)"),
    ],
)
def test_samples_that_cannot_be_evaluated_are_refused(net, task, change, message):
    learned = prototype_classifier(net, *task)
    x, y = change(*task)
    with pytest.raises(ValueError, match=message):
        learned.evaluate(x, y)
    if x.shape[1:] != net.input_shape[1:]:
        with pytest.raises(ValueError, match=message):
            learned.predict(x)


def test_evaluate_keeps_what_helped_and_reverts_what_did_not(net, task, caplog):
    x, y = task
    mixed = np.tile(np.unique(y), len(y) // 3)  # labels that mean nothing, so that learning them changes answers
    before = prototype_classifier(net, x, mixed)
    learned = adapt(net, x, mixed, plan=PLAN, iterations=20, learning_rate=0.03, average=0)
    answers, original = learned.predict(x), before.predict(x)
    assert (answers != original).any(), "it must have learned something else for this test to say anything"
    with caplog.at_level(logging.WARNING):
        kept = learned.evaluate(x, answers, revert=True)
    assert kept == 1 and not kept.reverted and not caplog.records and learned.plan == PLAN
    assert learned.evaluate(x, original).before == 1 and learned.evaluate(x, y).before == np.mean(original == y)
    with caplog.at_level(logging.WARNING):
        result = learned.evaluate(x, original, revert=True)
    assert result.reverted and result == result.before == 1 and "reverted: accuracy" in caplog.text
    assert learned.plan is None and "`plan` is None now" in caplog.text
    assert learned.plan is None and learned.average == 0
    assert np.array_equal(learned.predict(x), original)
    np.testing.assert_allclose(learned.logits(x), before.logits(x), atol=1e-5)
    np.testing.assert_allclose(learned.model.predict(x, verbose=0), before.logits(x), atol=1e-4)
    assert [record.name for record in learned.delta.records] == ["prototypes"]
    assert not learned.evaluate(x, original, revert=True).reverted


def test_evaluate_is_a_plain_accuracy(net, task):
    x, y = task
    learned = adapt(net, x, y, plan=PLAN, iterations=2)
    result = learned.evaluate(x[:5], y[:5])
    assert result == np.mean(learned.predict(x[:5]) == y[:5]) and f"{result:.1f}" == f"{float(result):.1f}"
    assert result.before == prototype_classifier(net, x, y).evaluate(x[:5], y[:5]) and not result.reverted


def test_answers_do_not_depend_on_the_batch(net, task):
    learned = adapt(net, *task, plan=PLAN, iterations=2)
    many = np.repeat(task[0], 25, axis=0)  # 300 images: two batches
    np.testing.assert_allclose(learned.logits(many)[::25], learned.logits(task[0]), atol=1e-5)
    assert learned.logits(task[0][:0]).shape == (0, 3)
