"""The interface of strategies, and what each of them chooses on a small network."""

import keras
import numpy as np
import pytest
from models import labelled_images, tiny_net

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.fisher import fisher_information
from keras_tinytrain.choose.planner import summed_cross_entropy
from keras_tinytrain.choose.ranking import Ranking
from keras_tinytrain.choose.strategies import STRATEGIES, find_strategy, make_task, redraw, static_plan, strategy
from keras_tinytrain.plan import Budget

BUDGET = Budget("10KB", 0.6)
OWN = [name for name in STRATEGIES if not name.startswith("sparse_update")]


@pytest.fixture(scope="module")
def task():
    model = tiny_net()
    x, y = labelled_images(model, per_class=2, classes=5)
    return make_task(model, x, summed_cross_entropy(y), BUDGET, kinds="all", accounting=paper_cost.PaperAccounting())


@pytest.mark.parametrize("name", OWN)
def test_plans_are_reproducible_and_within_budget(task, name):
    plan = find_strategy(name)(task)
    assert plan == find_strategy(name)(task)
    choice = paper_cost.num_channels(plan)
    if name not in ("full", "last_layer"):
        assert paper_cost.backward_macs(task.table, choice) <= 0.6 * paper_cost.full_backward_macs(task.table)
        assert paper_cost.PaperAccounting().memory_bytes(task.table, choice) <= BUDGET.memory_bytes


def test_strategies_have_their_names():
    assert {"fisher", "l2", "random", "last_layer", "full", "none", "bias_only", "redrawn"} <= set(STRATEGIES)
    assert {"fisher P", "fisher P/W", "fisher P/M", "fisher P/(W*M)"} <= set(STRATEGIES)
    with pytest.raises(ValueError, match="strategy expects one of .*'fisher'.* Received: 'fischer'"):
        find_strategy("fischer")


def test_strategy_of_ones_own_makes_a_plan(task):
    @strategy("mean_channel")
    def mean_channel(task):
        layers = {name: float(values.mean()) for name, values in task.fisher.items()}
        return task.select(Ranking(layers, task.fisher), "mean_channel")

    try:
        plan = find_strategy("mean_channel")(task)
    finally:
        del STRATEGIES["mean_channel"]
    assert plan.strategy == "mean_channel" and plan.layers


def test_delta_of_a_task_is_called_fisher_now(task):
    with pytest.warns(DeprecationWarning, match="Task.delta is called Task.fisher now"):
        assert task.delta is task.fisher


def test_scorer_of_ones_own_is_asked_once_for_the_candidates(task):
    asked = []

    def scorer(names):
        asked.append(names)
        return {name: np.arange(task.table[name].num_channels, dtype=float) for name in names}

    given = make_task(task.model, task.x, task.loss, BUDGET, scorer=scorer, last_blocks=2, kinds="pointwise")
    for name in ("fisher", "fisher P", "redrawn"):
        assert find_strategy(name)(given).layers
    assert asked == [["b2_expand", "b2_project", "logits"]]


def test_scores_are_computed_when_asked_for_and_once(task, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "keras_tinytrain.choose.strategies.fisher_information", lambda *a: calls.append(a) or fisher_information(*a)
    )
    fresh = make_task(task.model, task.x, task.loss, BUDGET, kinds="all", accounting=task.accounting)
    find_strategy("l2")(fresh)
    assert len(calls) == 0
    for name in ("fisher", "fisher P", "redrawn"):
        find_strategy(name)(fresh)
    assert len(calls) == 1


def test_static_plan_is_that_of_the_mean_scores(task):
    other = make_task(task.model, -task.x, task.loss, BUDGET, kinds="all", accounting=task.accounting)
    assert static_plan([task, task]).layers == find_strategy("fisher")(task).layers
    assert static_plan([task, other]) == static_plan([other, task]) and static_plan([task, other]).strategy == "static"
    louder = make_task(task.model, other.x, lambda *a: 1e3 * task.loss(*a), BUDGET, kinds="all", accounting=task.accounting)
    assert static_plan([task, louder]).layers == find_strategy("fisher")(louder).layers  # 10^6 times the scores


def test_fisher_is_the_papers_criterion(task):
    assert find_strategy("fisher")(task) == find_strategy("fisher P/(W*M)")(task)
    assert len({find_strategy(f"fisher {criterion}")(task) for criterion in ("P", "P/W", "P/M", "P/(W*M)")}) > 1


def test_none_trains_nothing_and_full_everything(task):
    assert find_strategy("none")(task).layers == ()
    assert paper_cost.num_channels(find_strategy("full")(task)) == paper_cost.full_choice(task.table)
    assert paper_cost.num_channels(find_strategy("last_layer")(task)) == {"b3_conv": 12}


def test_bias_only_trains_no_kernel(task):
    plan = find_strategy("bias_only")(task)
    assert plan.layers and not any(layer.kernel for layer in plan.layers)
    assert paper_cost.num_trained_weights(task.table, paper_cost.num_channels(plan)) == 0
    assert plan.layers[-1].name == "logits"
    assert type(plan).from_json(plan.to_json()) == plan


def test_bias_of_a_folded_norm_is_none_of_the_layer(task):
    """`fit` trains the user's own layer, which has no bias."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False, name="normed"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(4, 3, name="biased"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    x = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    normed = make_task(model, x, task.loss, BUDGET, kinds="all", accounting=task.accounting)
    assert {row.name: row.has_bias for row in normed.rows} == {"normed": False, "biased": True}
    assert [layer.name for layer in find_strategy("bias_only")(normed).layers] == ["biased"]


def test_random_depends_on_the_seed_alone(task):
    options = {"kinds": "all", "accounting": task.accounting}
    tasks = [make_task(task.model, task.x, task.loss, BUDGET, seed=seed, **options) for seed in (1, 1, 2, 3)]
    plans = [find_strategy("random")(drawn) for drawn in tasks]
    assert plans[0] == plans[1]
    assert len(set(plans)) > 1


def test_redrawn_keeps_layers_and_numbers(task):
    fixed, drawn = find_strategy("fisher")(task), find_strategy("redrawn")(task)
    epochs = [redraw(drawn, task.table, epoch=epoch) for epoch in range(4)]
    assert epochs[0] == drawn
    assert all(paper_cost.num_channels(plan) == paper_cost.num_channels(fixed) for plan in epochs)
    assert len(set(epochs)) > 1
    assert redraw(drawn, task.table, epoch=3) == epochs[3] == redraw(epochs[1], task.table, epoch=3)


def test_kernel_is_channel_by_channel(task):
    depthwise, dense = task.table["b1_depthwise"], task.table["logits"]
    kernel = np.asarray(task.model.get_layer("b1_depthwise").kernel)
    np.testing.assert_array_equal(task.kernel(depthwise)[3], kernel[:, :, 3, 0].ravel())
    np.testing.assert_array_equal(task.kernel(dense), np.asarray(task.model.get_layer("logits").kernel).T)


def test_rule_reaches_the_selection(task):
    by_channel = make_task(task.model, task.x, task.loss, BUDGET, kinds="all", rule="channels", accounting=task.accounting)
    assert find_strategy("fisher")(by_channel) != find_strategy("fisher")(task)
