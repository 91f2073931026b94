"""From a model and samples to a plan: the loss follows the head, the choice does not change the model."""

import keras
import numpy as np
import pytest
from models import labelled_images, tiny_net

from keras_tinytrain import Budget
from keras_tinytrain.choose.planner import choose, summed_cross_entropy
from keras_tinytrain.fewshot.task_loss import classifier_and_loss, head_for

BUDGET = Budget("100KB", 0.4)


def choose_for_task(model, x, y, budget, **options):
    classifier, loss = classifier_and_loss(model, x, y)
    return choose(classifier, x, loss, budget, **options)


@pytest.fixture(scope="module")
def task():
    return labelled_images(tiny_net(), per_class=4, classes=5)


def test_choosing_leaves_the_model_alone_and_repeats(task):
    model = tiny_net()
    before = model.get_weights()
    first = choose(model, task[0], summed_cross_entropy(task[1]), BUDGET)
    second = choose(model, task[0], summed_cross_entropy(task[1]), BUDGET)
    assert first == second and first.budget == BUDGET and first.strategy == "fisher"
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert "b2_project" in first.explain()


def with_softmax(model):
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


def with_fused_softmax():
    model = tiny_net()
    dense = keras.layers.Dense(5, activation="softmax", name="probabilities")
    fused = keras.Model(model.input, dense(model.get_layer("pool").output))
    dense.set_weights(model.get_layer("logits").get_weights())
    return fused


def test_logits_and_softmax_give_the_same_scores(task):
    logits = scores(choose_for_task(tiny_net(), *task, BUDGET))
    for model in (with_softmax(tiny_net()), with_fused_softmax()):
        softmax = scores(choose_for_task(model, *task, BUDGET))
        for name in set(logits) & set(softmax):
            np.testing.assert_allclose(softmax[name], logits[name], rtol=1e-2, atol=1e-7)


def scores(plan):
    return plan.explanation.ranking.channels


def test_head_follows_from_the_model():
    model = tiny_net()
    backbone = keras.Model(model.input, model.get_layer("pool").output)
    assert head_for(with_softmax(model), 5) == head_for(with_fused_softmax(), 5) == "softmax"
    assert head_for(model, 5) == "logits"
    assert head_for(model, 3) == head_for(backbone, 12) == "prototypes"


def test_backbone_is_scored_through_its_prototypes(task):
    model = tiny_net()
    backbone = keras.Model(model.input, model.get_layer("pool").output)
    plan = choose_for_task(backbone, *task, BUDGET)
    assert plan.num_channels and "logits" not in scores(plan)


def test_strategy_is_found_by_name(task):
    assert choose_for_task(tiny_net(), *task, BUDGET, strategy="last_layer").strategy == "last_layer"
    with pytest.raises(ValueError, match="strategy expects one of .* Received: 'guess'"):
        choose_for_task(tiny_net(), *task, BUDGET, strategy="guess")


def test_budget_that_is_text_is_refused(task):
    with pytest.raises(TypeError, match=r"""such as Budget\("256KB", 0.15\). Received: '100KB'"""):
        choose_for_task(tiny_net(), *task, "100KB")


def test_time_is_refused_where_no_board_is_known(task):
    with pytest.raises(ValueError, match=r"give it to export_tflm\(budget=...\).* Received: time=10.0"):
        choose_for_task(tiny_net(), *task, Budget(time=10))
