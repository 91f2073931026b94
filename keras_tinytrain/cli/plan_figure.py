"""A plan as a figure: its cost and budget, scores per layer, channels taken, memory over one training step."""

import math
import os

from keras_tinytrain._figure import new_figure, save_figure
from keras_tinytrain._text import KILOBYTE, kilobytes
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.backward_pass import interiors, values_read
from keras_tinytrain.choose.explain import explanation_of
from keras_tinytrain.choose.lifetimes import gradient_spans, table_steps, tensor_sizes, tensor_spans
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Plan

_TAKEN, _LEFT, _BUDGET = "tab:blue", "0.8", "tab:red"
_MOST_NAMES = 60  # of layers below one axis


def write_figure(plan: Plan, path: str | os.PathLike) -> None:
    """Draw the plan's cost beside its budget, the scores per layer, the channels taken, and the memory over one training step.

    Args:
        plan: one that was chosen in this process.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ValueError: the plan's scores are not known.
        ImportError: matplotlib is not installed.
    """
    explanation = explanation_of(plan)
    names = sorted(explanation.order, key=explanation.table.index)
    figure = new_figure(figsize=(max(9, 0.25 * len(names)), 12), layout="constrained")
    figure.suptitle(
        f"Plan of model '{explanation.table.model_name}' by {plan.strategy}\n{explanation.candidates}", fontsize="medium"
    )
    costs, scores, channels, memory = figure.subplots(4, height_ratios=(0.6, 2, 2, 2.4))
    channels.sharex(scores)
    scores.tick_params(axis="x", labelbottom=False)
    _draw_costs(costs, explanation, plan)
    _draw_scores(scores, explanation, names, paper_cost.num_channels(plan))
    _draw_channels(channels, explanation.table, names, paper_cost.num_channels(plan))
    _draw_memory(memory, explanation, plan)
    save_figure(figure, path)


def _draw_costs(axes, explanation, plan):
    (memory, memory_limit), (macs, macs_limit) = explanation.costs(plan)
    shares = {f"compute\n{macs / 1e6:.3g} of {macs_limit / 1e6:.3g} M MACs": 100 * macs / macs_limit}
    if plan.budget.memory is not None:
        shares[f"memory\n{kilobytes(memory)} of {kilobytes(memory_limit)} KB"] = 100 * memory / memory_limit
    axes.barh(list(shares), list(shares.values()), color=_TAKEN)
    axes.axvline(100, color=_BUDGET, linestyle="--", label="budget")
    axes.set(title="Cost of training", xlabel="% of the budget", xlim=(0, 120))
    axes.tick_params(axis="y", labelsize="small")
    axes.legend(loc="center right", fontsize="small")


def _draw_scores(axes, explanation, names, taken):
    scores = explanation.ranking.layers
    for label, color, chosen in (("taken", _TAKEN, True), ("left", _LEFT, False)):
        axes.bar(names, [scores.get(name, 0) if (name in taken) == chosen else 0 for name in names], color=color, label=label)
    if any(value > 0 for value in scores.values()):
        axes.set_yscale("log")
    axes.set(title="Score of each candidate layer")
    axes.legend(fontsize="small")


def _draw_channels(axes, table, names, taken):
    axes.bar(names, [table[name].num_channels for name in names], color=_LEFT, label="of the layer")
    bars = axes.bar(names, [taken.get(name, 0) for name in names], color=_TAKEN, label="trained")
    axes.bar_label(bars, [taken.get(name, "") for name in names], fontsize="small")
    axes.set(title="Output channels")
    axes.legend(fontsize="small")
    _name_ticks(axes, range(len(names)), names, taken)


def _draw_memory(axes, explanation, plan):
    table, taken = explanation.table, paper_cost.num_channels(plan)
    moments, rest = memory_over_time(table, set(taken)), _other_bytes(explanation, taken)
    times, (memory_limit, _) = range(len(moments)), explanation.limits(plan)
    heights = [(rest + num_bytes) / KILOBYTE for _, num_bytes in moments]
    axes.fill_between(times, heights, step="mid", color=_TAKEN, label="activations and their gradients")
    if rest:
        axes.axhspan(0, rest / KILOBYTE, color=_LEFT, label="weights in RAM, their training state, samples")
    axes.axvline(len(table) - 0.5, color="0.3", linestyle=":", label="end of the forward pass, start of the backward pass")
    if plan.budget.memory is not None:
        axes.axhline(memory_limit / KILOBYTE, color=_BUDGET, linestyle="--", label=f"budget, {kilobytes(memory_limit)} KB")
    axes.set(title="Memory over one training step", ylabel="KB", ylim=(0, None))
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.45), ncols=2)
    named = _with_room_for_names(moments, explanation.order, taken)
    _name_ticks(axes, [time for time, _ in named], [name for _, name in named], taken)


def _with_room_for_names(moments, candidates, taken):
    """(time, name) of the trained layers, and of other candidates as far as their names would not overlap."""
    room, named = math.ceil(len(moments) / _MOST_NAMES), list[tuple[int, str]]()
    for names in (taken, candidates):
        for time, (name, _) in enumerate(moments):
            if name in names and (name in taken or all(abs(time - other) >= room for other, _ in named)):
                named.append((time, name))
    return sorted(set(named))


def _other_bytes(explanation, choice):
    """Bytes that the accounting counts outside the models' arena; 0 where it does not tell them apart."""
    if not isinstance(explanation.accounting, DeviceAccounting):
        return 0
    parts = explanation.accounting.parts(explanation.table, choice)
    return sum(parts.values()) - parts["model_arena"]


def _name_ticks(axes, places, names, taken):
    """Layer names below the axis, those of trained layers in their colour."""
    axes.set_xticks(list(places), names, rotation=90, fontsize="x-small")
    for label, name in zip(axes.get_xticklabels(), names, strict=True):
        if name in taken:
            label.set(color=_TAKEN, fontweight="bold")


def memory_over_time(table: LayerTable, trained: set[str]) -> list[tuple[str, int]]:
    """Bytes of int8 activations and float32 activation gradients alive at each layer call of a training step.

    Forward, a tensor lives until its last reader, and to the end where the backward pass reads it; backward, a gradient lives
    from its tensor's last reader to its producer. Of a bottleneck's interior some channels' gradients exist at a time.

    Args:
        table: the model's layers.
        trained: names of the trained ones.

    Returns:
        (layer name, bytes): one per row forward, then one per row backward down to the earliest trained one.
    """
    steps, size = table_steps(table, trained), tensor_sizes(table)
    kept, shapes = values_read(steps), {home: table[home].output_shape for home in size}
    planes = interiors(steps, shapes)
    floats = {home: math.prod((*shape[:-1], planes.get(home, shape[-1]))) for home, shape in shapes.items()}
    spans, gradients = tensor_spans(table), gradient_spans(table, trained)
    moments = []
    for now, row in enumerate(table):
        alive = [home for home, (first, last) in spans.items() if first <= now and (now <= last or home in kept)]
        moments.append((row.name, sum(size[home] for home in alive)))
    held = sum(size[home] for home in kept)
    for now in range(len(table) - 1, min(map(table.index, trained)) - 1, -1):
        with_gradient = sum(floats[home] for home, (first, last) in gradients.items() if first <= now <= last)
        moments.append((table[now].name, held + 4 * with_gradient))
    return moments
