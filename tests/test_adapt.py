"""Few-shot adaptation: learns, leaves the backbone alone, and is the same with the frozen part cached as without."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import labelled_images

from keras_tinytrain import Budget, Delta, LayerPlan, Plan, TinyTrainCallback
from keras_tinytrain.fewshot.adapt import adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.head import PrototypeHead, UpdatePrototypes

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)), LayerPlan("b2.pw2", tuple(range(6)))))
SHIFTS = ((1, 0), (0, -1))


def backbone(seed=0):
    """Stem and two inverted bottlenecks; (N, 12, 12, 1) -> (N, 12) embeddings."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((12, 12, 1), name="image")
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(image)
    for name, filters in (("b1", 6), ("b2", 12)):
        y = keras.layers.ReLU(6.0)(keras.layers.Conv2D(16, 1, name=f"{name}.pw1")(x))
        y = keras.layers.ReLU(6.0)(keras.layers.DepthwiseConv2D(3, padding="same", name=f"{name}.dw")(y))
        y = keras.layers.Conv2D(filters, 1, name=f"{name}.pw2")(y)
        x = keras.layers.Add(name=f"{name}.add")([x, y]) if filters == x.shape[-1] else y
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="backbone")


@pytest.fixture(scope="module")
def task():
    return labelled_images(backbone(), per_class=4, classes=3)


def test_it_learns_and_leaves_the_backbone_alone(task):
    net = backbone()
    before = net.get_weights()
    learned = adapt(net, *task, budget=Budget("64KB", 0.4), iterations=20, learning_rate=0.01, shifts=SHIFTS)
    assert len(learned.losses) == 20 and learned.losses[-1] < 0.8 * learned.losses[0]
    assert learned.evaluate(*task) >= prototype_classifier(net, *task).evaluate(*task)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights()))


def test_caching_the_frozen_part_changes_nothing(task):
    """`fit` on the whole network, written out, against `adapt`, which runs the frozen part once."""
    x, y = task
    options = {"plan": PLAN, "iterations": 6, "learning_rate": 0.01, "shifts": SHIFTS}
    learned = adapt(backbone(), x, y, average=0, leave_one_out=False, **options)
    net = backbone()
    head = PrototypeHead(3)
    whole = keras.Model(net.input, head(net.output))
    whole.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensor_slices((shift_views(x, SHIFTS), np.stack([y, y]))).repeat()
    callbacks = [UpdatePrototypes(net, head, x, y), TinyTrainCallback(plan=PLAN, verbose=0)]
    history = whole.fit(data, steps_per_epoch=1, epochs=6, callbacks=callbacks, shuffle=False, verbose=0)
    np.testing.assert_allclose(history.history["loss"], learned.losses, rtol=1e-4)
    np.testing.assert_allclose(whole(x), learned.model(x), atol=1e-3)


def test_a_delta_restores_the_classifier_bit_for_bit(task, tmp_path):
    learned = adapt(backbone(), *task, plan=PLAN, iterations=3)
    learned.delta.save(tmp_path / "task.delta")
    restored = classifier_from_delta(backbone(), Delta.load(tmp_path / "task.delta"))
    assert np.array_equal(restored.logits(task[0]), learned.logits(task[0]))
    with pytest.raises(ValueError, match="was learned on base model"):
        classifier_from_delta(backbone(seed=1), learned.delta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :-1], y), "shape \\(11, 12, 1\\), model 'backbone' expects \\(12, 12, 1\\)"),
        (lambda x, y: (np.where(np.arange(len(x))[:, None, None, None] == 3, np.nan, x), y), "Samples \\[3\\] contain NaN"),
        (lambda x, y: (x, np.zeros_like(y)), "at least two classes"),
        (lambda x, y: (x, y + 1), "Labels must be 0..K-1"),
        (lambda x, y: (x, y.astype(float)), "integer label"),
        (lambda x, y: (x, y[:-1]), "integer label for each of 12"),
    ],
)
def test_samples_that_cannot_be_learned_from_are_refused(task, change, message):
    with pytest.raises(ValueError, match=message):
        adapt(backbone(), *change(*task), plan=PLAN)
