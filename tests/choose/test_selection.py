"""The budgeted choice over random tables, scores and budgets; the rankings; the candidates."""

import math

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers
from models import tiny_net

from keras_tinytrain.choose import paper_cost, selection
from keras_tinytrain.choose.filling import fill_by_channel, fill_by_layer
from keras_tinytrain.choose.ranking import CRITERIA, Ranking, best_channels, fisher_ranking, l2_ranking, random_ranking
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.layers import LayerInfo, LayerTable, layer_table
from keras_tinytrain.plan import Budget

ACCOUNTINGS = [paper_cost.PaperAccounting(), paper_cost.PaperAccounting(copies=2), DeviceAccounting(num_samples=5)]


@st.composite
def tables(draw):
    """A chain of pointwise and depthwise layers, here and there with a residual round it."""
    side, width = draw(st.sampled_from([2, 4])), draw(st.integers(1, 12))
    rows = [LayerInfo("image", "input", 0, (), (side, side, width), (side, side, width), (), False, 0, "")]
    for index in range(draw(st.integers(1, 6))):
        depthwise, source = draw(st.booleans()), len(rows) - 1
        before, width = width, width if depthwise else draw(st.integers(1, 12))
        kernel = (3, 3, width, 1) if depthwise else (1, 1, before, width)
        kind, shapes = "depthwise" if depthwise else "conv", ((side, side, before), (side, side, width))
        macs = side * side * int(np.prod(kernel))
        rows.append(LayerInfo(f"layer{index}", kind, index, (source,), *shapes, kernel, draw(st.booleans()), macs, ""))
        rows.append(LayerInfo(f"relu{index}", "activation", index, (source + 1,), shapes[1], shapes[1], (), False, 0, ""))
        if before == width and draw(st.booleans()):
            rows.append(LayerInfo(f"add{index}", "add", index, (source, source + 2), shapes[1], shapes[1], (), False, 0, ""))
    return LayerTable("random", tuple(rows))


@st.composite
def problems(draw):
    """(table, ranking, budget, accounting)."""
    table = draw(tables())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fisher = {row.name: rng.integers(0, 4, row.num_channels) * rng.random() for row in table.weighted}  # with ties and zeros
    accounting = draw(st.sampled_from(ACCOUNTINGS))
    most = accounting.memory_bytes(table, paper_cost.full_choice(table))
    budget = Budget(draw(st.integers(most // 8 + 1, most + 1)), draw(st.floats(0.01, 1) | st.integers(2, 10**4)))
    criterion = draw(st.sampled_from(sorted(CRITERIA)))
    return table, fisher_ranking(table.weighted, fisher, criterion=criterion), budget, accounting


def within(table, choice, budget, accounting):
    macs = paper_cost.backward_macs(table, choice) <= budget.backward_macs(paper_cost.full_backward_macs(table))
    return macs and accounting.memory_bytes(table, choice) <= budget.memory_bytes


@pytest.mark.parametrize("rule", ["layers", "channels"])
@given(problem=problems())
@settings(max_examples=120, deadline=None)
def test_choice_keeps_the_budget_and_leaves_no_channel_that_fits(rule, problem):
    table, ranking, budget, accounting = problem
    try:
        plan = selection.select(table, ranking, budget, accounting=accounting, rule=rule)
    except ValueError:
        assert not any(within(table, {name: 1}, budget, accounting) for name in ranking.layers)
        return
    choice = paper_cost.num_channels(plan)
    assert within(table, choice, budget, accounting)
    for row in table.weighted:
        count = choice.get(row.name, 0)
        assert count == row.num_channels or not within(table, {**choice, row.name: count + 1}, budget, accounting)


@pytest.mark.parametrize("rule", ["layers", "channels"])
@given(problem=problems())
@settings(max_examples=40, deadline=None)
def test_chosen_channels_are_the_best_and_the_plan_is_reproducible(rule, problem):
    table, ranking, budget, accounting = problem
    try:
        plan, again = (selection.select(table, ranking, budget, accounting=accounting, rule=rule) for _ in range(2))
    except ValueError:
        assume(False)
    assert plan == again
    assert [layer.name for layer in plan.layers] == [name for name in table.names if name in paper_cost.num_channels(plan)]
    for layer in plan.layers:
        scores = ranking.channels[layer.name]
        left = np.delete(scores, layer.channels)
        assert len(left) == 0 or min(scores[list(layer.channels)]) >= max(left)


@given(problem=problems())
@settings(max_examples=40, deadline=None)
def test_budget_too_small_names_the_smallest_that_suffices(problem):
    table, ranking, _, accounting = problem
    with pytest.raises(ValueError, match="too small to train one channel") as error:
        selection.select(table, ranking, Budget(1, 2), accounting=accounting)
    memory, macs = str(error.value).split('memory="')[1].removesuffix(").").split('B", compute=')
    macs = max(int(macs), 2)
    needed = min(accounting.memory_bytes(table, {name: 1}) for name in ranking.layers)
    assert int(memory) == needed
    assert any(paper_cost.backward_macs(table, {name: 1}) <= macs for name in ranking.layers)
    assert selection.select(table, ranking, Budget(int(memory), macs), accounting=accounting).layers


@pytest.mark.parametrize("rule", ["layers", "channels"])
@given(problem=problems(), unscored=st.booleans())
@settings(max_examples=60, deadline=None)
def test_layers_that_are_paid_first_are_whole_and_the_rest_is_filled_as_ever(rule, problem, unscored):
    table, ranking, budget, accounting = problem
    last = table.weighted[-1]
    if unscored:
        ranking = Ranking(*({name: of[name] for name in of if name != last.name} for of in (ranking.layers, ranking.channels)))
    try:
        plan = selection.select(
            table, ranking, budget, accounting=accounting, rule=rule, paid_first={last.name: last.num_channels}
        )
    except ValueError:
        assert not within(table, {last.name: last.num_channels}, budget, accounting)
        return
    choice = paper_cost.num_channels(plan)
    assert choice[last.name] == last.num_channels and within(table, choice, budget, accounting)
    for row in table.weighted:
        count = choice.get(row.name, 0)
        assert count == row.num_channels or not within(table, {**choice, row.name: count + 1}, budget, accounting)
    assert plan == plan.explanation.choose(budget)
    assert f"{last.name} " in plan.explain() and "taken whole, before all others" in plan.explain()


def test_budget_too_small_for_the_layers_paid_first_names_the_smallest_that_suffices():
    table, accounting = layer_table(tiny_net()), paper_cost.PaperAccounting()
    ranking = random_ranking([table["b3_conv"]])
    with pytest.raises(ValueError, match="too small to train all of 'logits'.*it has 1 bytes") as error:
        selection.select(table, ranking, Budget(1, 2), accounting=accounting, paid_first={"logits": 5})
    memory, macs = str(error.value).split('memory="')[1].removesuffix(").").split('B", compute=')
    enough = Budget(int(memory), int(macs))
    plan = selection.select(table, ranking, enough, accounting=accounting, paid_first={"logits": 5})
    assert paper_cost.num_channels(plan) == {"logits": table["logits"].num_channels}
    for less in (Budget(int(memory) - 1, int(macs)), Budget(int(memory), int(macs) - 1)):
        with pytest.raises(ValueError, match="too small"):
            selection.select(table, ranking, less, accounting=accounting, paid_first={"logits": 5})


def test_layers_rule_passes_over_a_layer_of_which_little_fits():
    """The best layer would take the budget for one channel of a hundred; the second fits half."""

    def fits(choice):
        return 30 * choice.get("wide", 0) + choice.get("narrow", 0) <= 50

    assert fill_by_layer(["wide", "narrow"], {"wide": 100, "narrow": 100}, fits) == {"narrow": 50}
    assert fill_by_layer(["wide", "narrow"], {"wide": 8, "narrow": 100}, fits) == {"wide": 1, "narrow": 20}


def test_layers_rule_takes_a_few_channels_of_a_layer_whose_score_is_far_above_the_others():
    """As of MobileNetV2 in tight memory: three of 192 channels of the best layer, or four of 32 of one of a thousandth."""

    def fits(choice):
        return 30 * choice.get("wide", 0) + 25 * choice.get("narrow", 0) <= 100

    sizes, order = {"wide": 192, "narrow": 32}, ["wide", "narrow"]
    assert fill_by_layer(order, sizes, fits, scores={"wide": 1.2, "narrow": 0.00136}) == {"wide": 3}
    assert fill_by_layer(order, sizes, fits, scores={"wide": 1.2, "narrow": 1.0}) == {"narrow": 4}


@st.composite
def fillings(draw):
    """(order, sizes, a linear budget) of up to eight layers of very different cost."""
    order = [f"layer{i}" for i in range(draw(st.integers(1, 8)))]
    sizes = {name: draw(st.integers(1, 200)) for name in order}
    costs = {name: (draw(st.integers(0, 50)), draw(st.integers(1, 50))) for name in order}  # once, for each channel
    limit = draw(st.integers(1, 4000))
    return order, sizes, lambda choice: sum(costs[name][0] + costs[name][1] * count for name, count in choice.items()) <= limit


@given(filling=fillings())
@settings(max_examples=200, deadline=None)
def test_no_layer_passes_one_of_which_any_channel_is_worth_more(filling):
    """Scores so far apart that one channel of a layer is worth more than the whole next one: the order alone decides."""
    order, sizes, fits = filling
    scores = {name: 1e-3**rank for rank, name in enumerate(order)}
    taken = {}
    for name in order:
        counts = [count for count in range(1, sizes[name] + 1) if fits({**taken, name: count})]
        taken |= {name: counts[-1]} if counts else {}
    assert fill_by_layer(order, sizes, fits, scores=scores) == taken


@given(filling=fillings(), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_where_layers_fit_whole_their_scores_change_nothing(filling, seed):
    """With room for all but the last layer that is taken, the worth of parts is never asked for."""
    order, sizes, _ = filling
    scores = dict(zip(order, sorted(np.random.default_rng(seed).random(len(order)), reverse=True), strict=True))
    for limit in (sum(sizes.values()), sum(sizes.values()) - math.floor(7 / 8 * sizes[order[-1]])):
        choice = fill_by_layer(order, sizes, lambda choice, limit=limit: sum(choice.values()) <= limit, scores=scores)
        assert sum(choice.values()) == limit and all(choice[name] == sizes[name] for name in order[:-1])


def test_channels_rule_takes_the_best_per_weight_across_layers():
    densities = {"a": [9.0, 1.0, 0.5], "b": [5.0, 4.0, 3.0]}
    assert fill_by_channel(["a", "b"], densities, lambda choice: sum(choice.values()) <= 4) == {"a": 1, "b": 3}


def test_unknown_rule_and_criterion_are_named():
    table = layer_table(tiny_net())
    ranking = random_ranking(table.weighted)
    with pytest.raises(ValueError, match="rule expects.*'knapsack'"):
        selection.select(table, ranking, Budget(), rule="knapsack")
    with pytest.raises(ValueError, match=r"criterion expects.*'P/\(W\*M\)'.*Received: 'Q'"):
        fisher_ranking(table.weighted, ranking.channels, criterion="Q")


def test_scores_of_the_paper_by_hand():
    table = layer_table(tiny_net())
    rows = [table["b2_depthwise"], table["b2_project"]]
    fisher = {"b2_depthwise": np.full(16, 0.5), "b2_project": np.full(12, 1.0)}
    weights, macs = 144 / 192, 9 * 144 / (9 * 192)
    expected = {"P": (8, 12), "P/W": (8 / weights, 12), "P/M": (8 / macs, 12), "P/(W*M)": (8 / (weights * macs), 12)}
    for criterion, scores in expected.items():
        ranking = fisher_ranking(rows, fisher, criterion=criterion)
        assert tuple(ranking.layers.values()) == pytest.approx(scores)
        np.testing.assert_array_equal(ranking.channels["b2_depthwise"], fisher["b2_depthwise"])


def test_l2_ranking_by_hand():
    table = layer_table(tiny_net())
    kernel = np.zeros((5, 12))
    kernel[3] = 3.0
    ranking = l2_ranking([table["logits"]], {"logits": kernel})
    assert ranking.layers["logits"] == pytest.approx(3 * 12**0.5)
    assert best_channels(ranking.channels["logits"], 2) == (0, 3)


def test_random_ranking_depends_on_the_seed_alone():
    rows = layer_table(tiny_net()).weighted
    first, again, other = (random_ranking(rows, seed=seed) for seed in (3, 3, 4))
    assert first.layers == again.layers != other.layers


def test_last_layer_and_full_plans():
    table = layer_table(tiny_net())
    assert paper_cost.num_channels(selection.last_layer_plan(table)) == {"b3_conv": 12}
    assert paper_cost.num_channels(selection.full_plan(table)) == paper_cost.full_choice(table)
    dense = layer_table(keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]))
    assert paper_cost.num_channels(selection.last_layer_plan(dense)) == {"b": 2}
