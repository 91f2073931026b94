"""Which layers and channels to train: the choice within a budget that turns a ranking into a plan."""

import functools
from collections.abc import Sequence

import numpy as np

from keras_tinytrain.choose import filling, paper_cost
from keras_tinytrain.choose.candidates import candidates_line
from keras_tinytrain.choose.explain import Explanation
from keras_tinytrain.choose.protocols import Accounting
from keras_tinytrain.choose.ranking import Ranking, best_channels
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Budget, LayerPlan, Plan


def _fill(table, ranking, order, fits, rule, first):
    if rule == "layers":
        sizes = {name: table[name].num_channels for name in order}
        return filling.fill_by_layer(order, sizes, fits, scores=ranking.layers, first=first)
    if rule == "channels":
        values = {name: np.sort(ranking.channels[name])[::-1] / table[name].weights_per_channel for name in order}
        return filling.fill_by_channel(order, values, fits, first=first)
    raise ValueError(f'rule expects "layers" or "channels". Received: {rule!r}')


def select(
    table: LayerTable,
    ranking: Ranking,
    budget: Budget,
    *,
    accounting: Accounting | None = None,
    strategy: str = "fisher",
    rule: str = "layers",
    first: Sequence[str] = (),
) -> Plan:
    """The choice within a budget: no budget is exceeded, and no further channel of any candidate fits.

    Args:
        table: the model's layers.
        ranking: scores of the candidate layers and their channels.
        budget: memory and compute.
        accounting: the bytes that the memory budget counts; None: `DeviceAccounting()`.
        strategy: the name that the plan gets.
        rule: "layers": in decreasing score, each with as many of its best channels as fit (`filling.fill_by_layer`);
            "channels": a knapsack over all channels by score per weight (`filling.fill_by_channel`). On tasks the second is no
            better, and it spreads a plan over more layers.
        first: names of layers that are taken whole before the ranking is looked at, such as a new head. They need no score.

    Raises:
        ValueError: the layers `first` do not fit or, without them, not even one channel does. The message names the smallest
            budget that suffices.
    """
    accounting = accounting or DeviceAccounting()
    whole = {name: table[name].num_channels for name in first}
    order = sorted(ranking.layers.keys() - whole.keys(), key=lambda name: (-ranking.layers[name], table.index(name)))
    limit = budget.backward_macs(paper_cost.full_backward_macs(table))

    def fits(choice):
        return (
            paper_cost.backward_macs(table, choice) <= limit and accounting.memory_bytes(table, choice) <= budget.memory_bytes
        )

    choice = _fill(table, ranking, order, fits, rule, whole) if not whole or fits(whole) else {}
    if not choice:
        raise ValueError(_nothing_fits(table, budget, accounting, whole, order))
    plans = tuple(
        LayerPlan(name, tuple(range(whole[name])) if name in whole else best_channels(ranking.channels[name], choice[name]))
        for name in sorted(choice, key=table.index)
    )
    again = functools.partial(select, table, ranking, accounting=accounting, strategy=strategy, rule=rule, first=tuple(first))
    return Plan(plans, budget, strategy, Explanation(table, ranking, accounting, again, tuple(first)))


def last_layer_plan(table: LayerTable) -> Plan:
    """All channels of the last convolution (the paper's LastLayer), or of the last dense layer where there is none."""
    rows = [row for row in table.weighted if row.trainable]
    return _whole_layers([row for row in rows if row.kind == "conv"][-1:] or rows[-1:], "last_layer")


def full_plan(table: LayerTable) -> Plan:
    """All channels of all trainable layers (FullTrain)."""
    return _whole_layers([row for row in table.weighted if row.trainable], "full")


def _whole_layers(rows, strategy):
    return Plan(tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows), strategy=strategy)


def _nothing_fits(table, budget, accounting, whole, order):
    """The error's text: what does not fit, and the smallest budget in which it would."""
    limit = budget.backward_macs(paper_cost.full_backward_macs(table))
    least = [whole] if whole else [{name: 1} for name in order]
    costs = [(accounting.memory_bytes(table, choice), paper_cost.backward_macs(table, choice)) for choice in least]
    memory, macs = min([cost for cost in costs if cost[1] <= limit] or costs)
    what = f"all of {', '.join(map(repr, whole))}" if whole else "one channel"
    return (
        f"The budget is too small to train {what} of model '{table.model_name}' ({candidates_line(table, order, whole)}): it has "
        f"{budget.memory_bytes:,} bytes and {limit:,} backward MACs. The smallest that would do is "
        f'Budget(memory="{memory}B", compute={macs}).'
    )
