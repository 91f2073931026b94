"""Strategies: ways to choose layers and channels, each a function from a `Task` to a `Plan`.

A new one is a function under `@strategy("name")`. TinyTrain with layers by their mean channel would be:

    @strategy("mean_channel")
    def mean_channel(task):
        layers = {name: float(values.mean()) for name, values in task.fisher.items()}
        return task.select(Ranking(layers, task.fisher), "mean_channel")
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_tinytrain._old_names import last_blocks_or_layers, old_keywords, warn_renamed
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.candidates import candidates_line, with_candidates
from keras_tinytrain.choose.fisher import fisher_information
from keras_tinytrain.choose.protocols import Accounting, Loss, Scorer
from keras_tinytrain.choose.ranking import CRITERIA, Ranking, fisher_ranking, l2_ranking, random_ranking
from keras_tinytrain.choose.schemes import SCHEMES, scheme_plan
from keras_tinytrain.choose.selection import full_plan, last_layer_plan, select
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.channels import own_biases
from keras_tinytrain.model.fold import canonical_form
from keras_tinytrain.model.layers import CHANNEL_AXIS, LayerInfo, LayerTable, layer_table
from keras_tinytrain.plan import Budget, LayerPlan, Plan


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """The model, samples and limits that a strategy chooses by.

    Args:
        model: in canonical form.
        table: its layers; those that are no candidates say why.
        rows: candidate layers.
        x: samples, float32 (N, ...).
        loss: loss(outputs, indices) -> SUM of the losses of the samples `indices`.
        budget: memory and compute.
        accounting: the bytes that the memory budget counts.
        rule: of `selection.select`.
        seed: of everything that is drawn.
        scorer: gives the Fisher information of `loss` on `x`; None: `fisher_information`.
        head: name of the layer that every plan trains whole and that the budget pays first; None: no layer is.
    """

    model: keras.Model
    table: LayerTable
    rows: tuple[LayerInfo, ...]
    x: np.ndarray
    loss: Loss
    budget: Budget
    accounting: Accounting
    rule: str = "layers"
    seed: int = 0
    scorer: Scorer | None = None
    head: str | None = None

    @functools.cached_property
    def fisher(self) -> dict[str, np.ndarray]:
        """Fisher information of the candidates: {layer name: (channels,)}. Computed when first asked for."""
        scorer = self.scorer or functools.partial(fisher_information, self.model, self.x, self.loss)
        return scorer([row.name for row in self.rows])

    @property
    def delta(self) -> dict[str, np.ndarray]:
        """The name of `fisher` in version 0.1."""
        warn_renamed("Task.delta", "Task.fisher")
        return self.fisher

    @property
    def paid_first(self) -> dict[str, int]:
        """{the head: all its channels}, or {}."""
        return {self.head: self.table[self.head].num_channels} if self.head else {}

    def select(self, ranking: Ranking, name: str) -> Plan:
        """The budgeted choice by `ranking`, as a plan of the strategy `name`."""
        choose = functools.partial(select, self.table, ranking, self.budget, accounting=self.accounting, strategy=name)
        return choose(rule=self.rule, paid_first=self.paid_first)

    def with_head(self, plan: Plan) -> Plan:
        """`plan` with the head whole, whatever the budget: for strategies that do not use `select`."""
        whole = {name: LayerPlan(name, tuple(range(count))) for name, count in self.paid_first.items()}
        layers = {**{layer.name: layer for layer in plan.layers}, **whole}
        return dataclasses.replace(plan, layers=tuple(layers[name] for name in sorted(layers, key=self.table.index)))

    def kernel(self, row: LayerInfo) -> np.ndarray:
        """Weights of a layer, channel by channel: (channels, weights per channel)."""
        kernel = self.model.get_layer(row.name).kernel.numpy()
        return np.moveaxis(kernel, CHANNEL_AXIS[row.kind], 0).reshape(row.num_channels, -1)


@old_keywords(inspect=last_blocks_or_layers)
def make_task(
    model: keras.Model,
    x: ArrayLike,
    loss: Loss,
    budget: Budget,
    *,
    scorer: Scorer | None = None,
    last_blocks: int = 6,
    layers: Sequence[str] | None = None,
    kinds: str = "auto",
    accounting: Accounting | None = None,
    rule: str = "layers",
    seed: int = 0,
    frozen: Collection[str] = (),
    whole_only: Mapping[str, str] | None = None,
    head: str | None = None,
) -> Task:
    """The `Task` of a built model, not necessarily canonical.

    Args:
        last_blocks, layers, kinds: which layers are candidates, see `candidates.candidates`.
        frozen: names of layers that are never candidates.
        whole_only: {name: why} of layers whose channels cannot be trained one by one, see `candidates.with_candidates`.
        head: a layer that every plan trains whole, candidate or not; None: no layer is.

    The other arguments are those of `Task`.

    Raises:
        ValueError: a layer is not found, or cannot be trained.
    """
    if not isinstance(budget, Budget):
        raise TypeError(f'budget expects a Budget, such as Budget("256KB", 0.15). Received: {budget!r}')
    budget.check_untimed()
    canonical = canonical_form(model)
    options: dict[str, Any] = {"layers": layers, "kinds": kinds, "whole_only": whole_only}
    table = with_candidates(own_biases(layer_table(canonical), model).frozen(frozen), last_blocks, **options)
    rows = tuple(row for row in table.weighted if not row.left_out)
    if head:
        table.candidates(layers=[head])  # refuses one that cannot be trained
    elif not rows:
        raise ValueError(
            f"Model '{model.name}' has no layer to choose channels of ({candidates_line(table, ())}). Name `layers`."
        )
    x = np.asarray(x, np.float32)
    return Task(canonical, table, rows, x, loss, budget, accounting or DeviceAccounting(), rule, seed, scorer, head)


Strategy = Callable[[Task], Plan]
STRATEGIES: dict[str, Strategy] = {}


def strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Decorator: make a function from Task to Plan known as `name`."""

    def register(function):
        STRATEGIES[name] = function
        return function

    return register


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`. Raises ValueError where there is none."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy expects one of {list(STRATEGIES)}. Received: {name!r}")
    return STRATEGIES[name]


def by_criterion(task: Task, criterion: str) -> Plan:
    """Layers by a score of `ranking.CRITERIA`, channels by Fisher information."""
    return task.select(fisher_ranking(task.rows, task.fisher, criterion=criterion), "fisher")


@strategy("fisher")
def fisher(task: Task) -> Plan:
    """TinyTrain: layers by potential per parameter and multiply-accumulate, channels by Fisher information."""
    return by_criterion(task, "P/(W*M)")


for _criterion in CRITERIA:
    STRATEGIES[f"fisher {_criterion}"] = functools.partial(by_criterion, criterion=_criterion)


@strategy("l2")
def l2(task: Task) -> Plan:
    """Layers and channels by the L2 norm of their weights."""
    return task.select(l2_ranking(task.rows, {row.name: task.kernel(row) for row in task.rows}), "l2")


@strategy("random")
def random(task: Task) -> Plan:
    """Layers and channels at random."""
    return task.select(random_ranking(task.rows, seed=task.seed), "random")


@strategy("last_layer")
def last_layer(task: Task) -> Plan:
    """All channels of the last convolution, or dense layer where there is none (LastLayer); the budget is ignored."""
    return last_layer_plan(task.table)


@strategy("full")
def full(task: Task) -> Plan:
    """All channels of all trainable layers (FullTrain); the budget is ignored."""
    return full_plan(task.table)


def static_plan(tasks: list[Task], *, name: str = "static") -> Plan:
    """One plan for every task: that of "fisher" by the mean Fisher information over `tasks`, within the first one's budget.

    Args:
        tasks: of one model, with the same candidates.
        name: the strategy's name in the plan.
    """
    rows = tasks[0].rows
    mean = {row.name: np.mean([task.fisher[row.name] for task in tasks], axis=0) for row in rows}
    return tasks[0].select(fisher_ranking(rows, mean), name)


@strategy("none")
def none(task: Task) -> Plan:
    """Nothing."""
    return Plan((), task.budget, "none")


@strategy("bias_only")
def bias_only(task: Task) -> Plan:
    """All biases of the candidates, from the last layer backwards, for as long as both budgets hold."""
    limit = task.budget.backward_macs(paper_cost.full_backward_macs(task.table))
    chosen: dict[str, int] = {}
    rows = [row for row in task.rows if row.has_bias and row.name != task.head]
    for row in sorted(rows, key=lambda row: -task.table.index(row.name)):
        larger = {row.name: 0, **chosen, **task.paid_first}
        fits = task.accounting.memory_bytes(task.table, larger) <= task.budget.memory_bytes
        if fits and paper_cost.backward_macs(task.table, larger) <= limit:
            chosen = {row.name: 0, **chosen}
    layers = (LayerPlan(name, tuple(range(task.table[name].num_channels)), kernel=False) for name in chosen)
    return Plan(tuple(layers), task.budget, "bias_only")


for _scheme in sorted({name for schemes in SCHEMES.values() for name in schemes}, key=lambda name: int(name[:-2])):
    STRATEGIES[f"sparse_update {_scheme}"] = functools.partial(lambda task, name: scheme_plan(task.table, name), name=_scheme)


@strategy("redrawn")
def redrawn(task: Task) -> Plan:
    """TraDy-like: layers and numbers of channels of "fisher", the channels drawn anew every epoch (see `redraw`)."""
    return redraw(dataclasses.replace(fisher(task), strategy="redrawn"), task.table, epoch=0, seed=task.seed)


def redraw(plan: Plan, table: LayerTable, *, epoch: int, seed: int = 0) -> Plan:
    """`plan` with as many other channels in the same layers, by `seed` and `epoch` alone; costs stay the same."""
    rng = np.random.default_rng([seed, epoch])
    layers = []
    for layer in plan.layers:
        drawn = rng.choice(table[layer.name].num_channels, len(layer.channels), replace=False)
        layers.append(dataclasses.replace(layer, channels=tuple(sorted(drawn.tolist()))))
    return dataclasses.replace(plan, layers=tuple(layers))
