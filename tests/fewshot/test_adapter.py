"""A backbone made ready for many tasks: its scores, when it is kept, and its optimizer, against what they stand for."""

import functools
import gc
import weakref

import keras
import numpy as np
import tensorflow as tf
from models import embedding_net, labelled_images, small_net

from keras_tinytrain import LayerPlan, Plan
from keras_tinytrain.choose import planner
from keras_tinytrain.choose.fisher import fisher_information
from keras_tinytrain.fewshot.adaptation import adapt
from keras_tinytrain.fewshot.adapter import Adapter
from keras_tinytrain.fewshot.prototype_head import PrototypeHead
from keras_tinytrain.fewshot.training import adam_step
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Budget

PLAN = Plan((LayerPlan("b2.pw1", (0, 3, 7)),))


def test_scores_are_fisher_information_of_the_cosine_classifier():
    backbone = small_net()  # with BatchNorm, so that the canonical form is another model
    x, y = labelled_images(backbone, per_class=4, classes=3)
    folded = fold_batch_norm(backbone)
    head = PrototypeHead(3)
    classifier = keras.Model(folded.input, head(folded.output))
    head.set_prototypes(folded(x), y)
    names = ["project", "depthwise"]
    expected = fisher_information(classifier, x, planner.summed_cross_entropy(y), names)
    scores = Adapter(backbone).fisher(x, y, np.asarray(head.kernel).T, names)
    for name in names:
        np.testing.assert_allclose(scores[name], expected[name], rtol=1e-3, atol=1e-5 * expected[name].max())


def test_compiled_scores_choose_the_same_plan_as_fisher_information():
    backbone = embedding_net()
    x, y = labelled_images(backbone, per_class=4, classes=3)
    head = PrototypeHead(3)
    classifier = keras.Model(backbone.input, head(backbone.output))
    head.set_prototypes(backbone(x), y)
    for strategy in ("fisher", "l2", "last_layer"):
        expected = planner.choose(classifier, x, planner.summed_cross_entropy(y), Budget("64KB", 0.3), strategy=strategy)
        adapter, prototypes = Adapter.of(backbone), np.asarray(head.kernel).T
        scorer, loss = functools.partial(adapter.fisher, x, y, prototypes), planner.summed_cross_entropy(y)
        options = {"scorer": scorer, "strategy": strategy}
        assert planner.choose(adapter.classifier(prototypes), x, loss, Budget("64KB", 0.3), **options) == expected


def test_adapter_is_kept_until_the_weights_change():
    backbone = embedding_net()
    adapter = Adapter.of(backbone)
    assert Adapter.of(backbone) is adapter
    layer = backbone.get_layer("stem")
    layer.kernel.assign(2 * layer.kernel)
    assert Adapter.of(backbone) is not adapter
    assert np.array_equal(Adapter.of(backbone).model.get_layer("stem").kernel, layer.kernel)


def test_adapter_does_not_keep_the_backbone_alive():
    backbone = embedding_net()
    adapt(backbone, *labelled_images(backbone, per_class=2, classes=2), plan=PLAN, iterations=1)
    alive = weakref.ref(backbone)
    del backbone
    gc.collect()
    assert alive() is None


def test_one_compiled_step_serves_tasks_of_any_size():
    """Other numbers of channels, samples, views and classes, and not one trace more."""
    backbone = embedding_net()
    adapter = Adapter.of(backbone)
    counts = []
    for channels, classes, views in (((0, 3, 7), 3, 2), ((5,), 2, 3), (range(16), 4, 1)):
        plan = Plan((LayerPlan("b2.pw1", tuple(channels)),))
        shifts = [(view, 1) for view in range(views)]
        task = labelled_images(backbone, per_class=classes, classes=classes)
        adapt(backbone, *task, plan=plan, iterations=2, shifts=shifts, head="prototypes")
        (step,) = adapter.trainable_part(plan)._steps.values()
        counts.append(step.experimental_get_tracing_count())
    assert counts == [1, 1, 1]


def test_adam_is_keras_adam():
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.normal(size=(4, 3)).astype(np.float32))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build([variable])
    state = [[tf.convert_to_tensor(variable)], [tf.zeros((4, 3))], [tf.zeros((4, 3))]]
    for iteration in range(5):
        gradient = rng.normal(size=(4, 3)).astype(np.float32)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        state = adam_step(*state, [gradient], tf.constant(iteration + 1.0), tf.constant(0.01))
        np.testing.assert_allclose(state[0][0], variable, rtol=2e-6)


def test_dropout_and_batch_norm_run_as_in_inference():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dropout(0.5)(small_net()(image))
    backbone = keras.Model(image, x, name="with_dropout")
    task = labelled_images(backbone, per_class=3, classes=2)
    plan = Plan((LayerPlan("depthwise", (0, 2)), LayerPlan("logits", (1,))))
    runs = [adapt(backbone, *task, plan=plan, iterations=3) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    norm = runs[0].model.get_layer("norm").get_weights()
    assert all(map(np.array_equal, norm, backbone.get_layer(backbone.layers[1].name).get_layer("norm").get_weights()))
