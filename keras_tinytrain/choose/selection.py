"""Which layers and channels to train: the choice within a budget that turns a ranking into a plan."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from keras_tinytrain.choose import filling, paper_cost
from keras_tinytrain.choose.candidates import candidates_line
from keras_tinytrain.choose.explain import Explanation
from keras_tinytrain.choose.protocols import Accounting
from keras_tinytrain.choose.ranking import Ranking, best_channels
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Budget, LayerPlan, Plan


class NothingFits(ValueError):
    """A budget is too small to train anything; the message says how much would do."""


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
    paid_first: Mapping[str, int] = MappingProxyType({}),
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
        paid_first: {layer name: number of channels} that every plan trains, such as a new head whole; the others share the rest.
            Without a score the first channels are taken.

    Raises:
        NothingFits: `paid_first` does not fit or, without it, not even one channel does (a ValueError). The message names the
            smallest budget that suffices.
    """
    accounting = accounting or DeviceAccounting()
    order = sorted(ranking.layers.keys() - paid_first.keys(), key=lambda name: (-ranking.layers[name], table.index(name)))
    limit = budget.backward_macs(paper_cost.full_backward_macs(table))

    def fits(choice):
        return (
            paper_cost.backward_macs(table, choice) <= limit and accounting.memory_bytes(table, choice) <= budget.memory_bytes
        )

    choice = _fill(table, ranking, order, fits, rule, paid_first)
    if not choice or not fits(choice):  # on a device the head may fit only with an earlier layer, whose frozen part is shorter
        raise NothingFits(_nothing_fits(table, budget, accounting, paid_first, order))
    scores = {name: ranking.channels.get(name, np.zeros(table[name].num_channels)) for name in choice}
    plans = tuple(LayerPlan(name, best_channels(scores[name], choice[name])) for name in sorted(choice, key=table.index))
    again = functools.partial(
        select, table, ranking, accounting=accounting, strategy=strategy, rule=rule, paid_first=paid_first
    )
    return Plan(plans, budget, strategy, Explanation(table, ranking, accounting, again, tuple(paid_first)))


def last_layer_plan(table: LayerTable) -> Plan:
    """All channels of the last convolution (the paper's LastLayer), or of the last dense layer where there is none."""
    rows = [row for row in table.weighted if row.trainable]
    return _whole_layers([row for row in rows if row.kind == "conv"][-1:] or rows[-1:], "last_layer")


def full_plan(table: LayerTable) -> Plan:
    """All channels of all trainable layers (FullTrain)."""
    return _whole_layers([row for row in table.weighted if row.trainable], "full")


def _whole_layers(rows, strategy):
    return Plan(tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows), strategy=strategy)


def _nothing_fits(table, budget, accounting, paid_first, order):
    """The error's text: what does not fit, and the smallest budget in which it would."""
    limit = budget.backward_macs(paper_cost.full_backward_macs(table))
    least = [dict(paid_first)] * bool(paid_first) + [{**paid_first, name: 1} for name in order]
    costs = [(accounting.memory_bytes(table, choice), paper_cost.backward_macs(table, choice)) for choice in least]
    memory, macs = min([cost for cost in costs if cost[1] <= limit] or costs)
    what = f"all of {', '.join(map(repr, paid_first))}" if paid_first else "one channel"
    other = "With head=None it need not be trained whole. " if paid_first else ""
    has_bytes, needs_bytes = (
        (f"{budget.memory_bytes:,} bytes and ", f'memory="{memory}B", ') if budget.memory is not None else ("", "")
    )
    return (
        f"The budget is too small to train {what} of model '{table.model_name}' ({candidates_line(table, order, paid_first)}): it "
        f"has {has_bytes}{limit:,} backward MACs. {other}The smallest that would do is Budget({needs_bytes}compute={macs})."
    )
