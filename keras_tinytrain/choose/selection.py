"""Which layers and channels to train: rankings, and the budgeted choice that turns one into a plan."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from keras_tinytrain.choose import filling, paper_cost
from keras_tinytrain.choose.explain import Explanation
from keras_tinytrain.choose.fisher import potential
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.layers import LayerInfo, LayerTable
from keras_tinytrain.plan import Budget, LayerPlan, Plan


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What a strategy says of the candidates: larger is sooner.

    Args:
        layers: {layer name: score}.
        channels: {layer name: scores of its output channels, (channels,)}.
    """

    layers: dict[str, float]
    channels: dict[str, np.ndarray]


# A criterion is a score of one layer from its potential P and its shares w = W / max W and m = M / max M of the candidates'
# parameters and multiply-accumulates. TinyTrain's is P / (w * m).
CRITERIA: dict[str, Callable[[float, float, float], float]] = {
    "P": lambda p, w, m: p,
    "P/W": lambda p, w, m: p / w,
    "P/M": lambda p, w, m: p / m,
    "P/(W*M)": lambda p, w, m: p / (w * m),
}


def fisher_ranking(rows, delta: dict[str, np.ndarray], *, criterion: str = "P/(W*M)") -> Ranking:
    """TinyTrain's ranking: s_i = P_i / (||W_i|| / max ||W|| * M_i / max M), channels by Delta_o.

    Args:
        rows: candidate layers; the maxima run over them.
        delta: {layer name: Delta_o, (channels,)}, see `fisher.fisher_information`.
        criterion: a key of CRITERIA.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion expects one of {sorted(CRITERIA)}. Received: {criterion!r}")
    most_weights, most_macs = max(row.num_weights for row in rows), max(row.macs for row in rows)
    score = CRITERIA[criterion]
    layers = {row.name: score(potential(delta[row.name]), row.num_weights / most_weights, row.macs / most_macs) for row in rows}
    return Ranking(layers=layers, channels={row.name: np.asarray(delta[row.name]) for row in rows})


def l2_ranking(rows, kernels: dict[str, np.ndarray]) -> Ranking:
    """Layers and channels by the L2 norm of their weights. `kernels`: {layer name: (channels, weights per channel)}."""
    channels = {row.name: np.linalg.norm(kernels[row.name], axis=1) for row in rows}
    return Ranking(layers={name: float(np.linalg.norm(norms)) for name, norms in channels.items()}, channels=channels)


def random_ranking(rows, *, seed: int = 0) -> Ranking:
    """Layers and channels in random order."""
    rng = np.random.default_rng(seed)
    return Ranking(
        layers={row.name: float(rng.random()) for row in rows},
        channels={row.name: rng.random(row.num_channels) for row in rows},
    )


def candidates(
    table: LayerTable, last_blocks: int = 6, *, layers: Sequence[str] | None = None, kinds: str = "pointwise"
) -> tuple[LayerInfo, ...]:
    """Layers to choose from: those called `layers`; or, of the last `last_blocks` blocks, the "pointwise" ones or "all"."""
    if kinds not in ("pointwise", "all"):
        raise ValueError(f'kinds expects "pointwise" or "all". Received: {kinds!r}')
    rows = table.candidates(last_blocks, layers=layers)
    narrowed = tuple(row for row in rows if row.pointwise)
    return narrowed if kinds == "pointwise" and layers is None and narrowed else rows


def _fill(table, ranking, order, fits, rule):
    if rule == "layers":
        return filling.fill_by_layer(order, {name: table[name].num_channels for name in order}, fits)
    if rule == "channels":
        values = {name: np.sort(ranking.channels[name])[::-1] / table[name].weights_per_channel for name in order}
        return filling.fill_by_channel(order, values, fits)
    raise ValueError(f'rule expects "layers" or "channels". Received: {rule!r}')


def select(
    table: LayerTable, ranking: Ranking, budget: Budget, *, accounting=None, strategy: str = "fisher", rule: str = "layers"
) -> Plan:
    """The budgeted choice: no budget is exceeded, and no further channel of any candidate fits.

    Args:
        table: the model's layers.
        ranking: scores of the candidate layers and their channels.
        budget: memory and compute.
        accounting: `DeviceAccounting` (default) or `paper_cost.PaperAccounting`, or anything with their `memory_bytes`.
        strategy: what the plan is called.
        rule: "layers": in decreasing score, each with as many of its best channels as fit (`filling.fill_by_layer`);
            "channels": a knapsack over all channels by score per weight (`filling.fill_by_channel`). On tasks the second is no
            better, and it spreads a plan over more layers.

    Raises:
        ValueError: not even one channel fits; names the smallest budget that would do.
    """
    accounting = accounting or DeviceAccounting()
    order = sorted(ranking.layers, key=lambda name: (-ranking.layers[name], table.index(name)))
    limit = budget.backward_macs(paper_cost.full_backward_macs(table))

    def fits(choice):
        return (
            paper_cost.backward_macs(table, choice) <= limit and accounting.memory_bytes(table, choice) <= budget.memory_bytes
        )

    choice = _fill(table, ranking, order, fits, rule)
    if not choice:
        raise ValueError(_nothing_fits(table, ranking, budget, accounting))
    plans = tuple(
        LayerPlan(name, best_channels(ranking.channels[name], choice[name])) for name in sorted(choice, key=table.index)
    )
    again = functools.partial(select, table, ranking, accounting=accounting, strategy=strategy, rule=rule)
    return Plan(plans, budget, strategy, Explanation(table, ranking, accounting, again))


def best_channels(scores: np.ndarray, count: int) -> tuple[int, ...]:
    """Indices of the `count` largest scores, ascending; of equal scores the lower index comes first."""
    return tuple(sorted(np.argsort(-np.asarray(scores), kind="stable")[:count].tolist()))


def last_layer_plan(table: LayerTable) -> Plan:
    """All channels of the last convolution (the paper's LastLayer), or of the last dense layer where there is none."""
    rows = [row for row in table.weighted if row.trainable]
    return _whole_layers([row for row in rows if row.kind == "conv"][-1:] or rows[-1:], "last_layer")


def full_plan(table: LayerTable) -> Plan:
    """All channels of all trainable layers (FullTrain)."""
    return _whole_layers([row for row in table.weighted if row.trainable], "full")


def _whole_layers(rows, strategy):
    return Plan(tuple(LayerPlan(row.name, tuple(range(row.num_channels))) for row in rows), strategy=strategy)


def _nothing_fits(table, ranking, budget, accounting):
    memory = min(accounting.memory_bytes(table, {name: 1}) for name in ranking.layers)
    macs = min(paper_cost.backward_macs(table, {name: 1}) for name in ranking.layers)
    return (
        f"The budget is too small to train one channel of model '{table.model_name}': it has {budget.memory_bytes:,} bytes and "
        f"{budget.backward_macs(paper_cost.full_backward_macs(table)):,} backward MACs. The smallest that would do is "
        f'Budget(memory="{memory}B", compute={macs}).'
    )
