"""A plan as a figure: scores per layer, channels taken, memory over one training step."""

import os

from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.backward_pass import values_read
from keras_tinytrain.choose.explain import explanation_of
from keras_tinytrain.choose.lifetimes import gradient_spans, table_steps, tensor_sizes, tensor_spans
from keras_tinytrain.model.layers import LayerTable
from keras_tinytrain.plan import Plan


def write_figure(plan: Plan, path: str | os.PathLike) -> None:
    """Draw the scores per layer, the channels taken, and the memory over one training step.

    Args:
        plan: one that was chosen in this process.
        path: the file to write; its suffix is the format, such as .png or .svg.

    Raises:
        ValueError: the plan's scores are not known.
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    explanation = explanation_of(plan)
    names = sorted(explanation.ranking.layers, key=explanation.table.index)
    figure = Figure(figsize=(9, 9), layout="constrained")
    scores, channels, memory = figure.subplots(3)
    scores.bar(names, [explanation.ranking.layers[name] for name in names])
    scores.set(title=f"Score per layer ({plan.strategy})", yscale="log")
    _draw_channels(channels, explanation.table, names, paper_cost.num_channels(plan))
    _draw_memory(memory, explanation.table, plan)
    for axes in (scores, channels):
        axes.tick_params(axis="x", labelrotation=90)
    figure.savefig(path)


def _draw_channels(axes, table, names, taken):
    axes.bar(names, [table[name].num_channels for name in names], color="0.85", label="of the layer")
    axes.bar(names, [taken.get(name, 0) for name in names], label="trained")
    axes.set(title="Output channels")
    axes.legend()


def _draw_memory(axes, table, plan):
    moments = memory_over_time(table, set(paper_cost.num_channels(plan)))
    axes.step(range(len(moments)), [num_bytes / 1024 for _, num_bytes in moments], where="mid")
    axes.axvline(len(table) - 0.5, color="0.5", linestyle=":")
    axes.set(title="Activations and their gradients over one step: forward, then backward", xlabel="layer call", ylabel="KB")


def memory_over_time(table: LayerTable, trained: set[str]) -> list[tuple[str, int]]:
    """Bytes of int8 activations and float32 activation gradients alive at each layer call of a training step.

    Forward, a tensor lives until its last reader, and to the end where the backward pass reads it; backward, a gradient lives
    from its tensor's last reader to its producer.

    Args:
        table: the model's layers.
        trained: names of the trained ones.

    Returns:
        (layer name, bytes): one per row forward, then one per row backward down to the earliest trained one.
    """
    kept, size = values_read(table_steps(table, trained)), tensor_sizes(table)
    spans, gradients = tensor_spans(table), gradient_spans(table, trained)
    moments = []
    for now, row in enumerate(table):
        alive = [home for home, (first, last) in spans.items() if first <= now and (now <= last or home in kept)]
        moments.append((row.name, sum(size[home] for home in alive)))
    held = sum(size[home] for home in kept)
    for now in range(len(table) - 1, min(map(table.index, trained)) - 1, -1):
        with_gradient = sum(size[home] for home, (first, last) in gradients.items() if first <= now <= last)
        moments.append((table[now].name, held + 4 * with_gradient))
    return moments
