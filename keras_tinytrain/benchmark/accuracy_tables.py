"""Means, 95 % intervals and paired differences of accuracies, and their tables."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_tinytrain._text import aligned

HARM = 2.0  # points below the untrained network from which a task counts as made worse


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and half of its 95 % confidence interval over `count` tasks: 1.96 * s / sqrt(n); nan for fewer than two."""

    mean: float
    half: float
    count: int

    @classmethod
    def of(cls, sample: Sequence[float] | np.ndarray) -> "Interval":
        """The interval of some values."""
        values = np.asarray(sample, np.float64)
        if not values.size:
            return cls(math.nan, math.nan, 0)
        half = 1.96 * values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.nan
        return cls(float(values.mean()), float(half), int(values.size))

    def __str__(self):
        return "-" if not self.count else f"{self.mean:.2f} +- {self.half:.2f}"


class Accuracies:
    """Accuracies in percent, by method and task.

    Args:
        rows: of one backbone, as `results.read_results` gives them.
    """

    def __init__(self, rows: Sequence[dict[str, str]]):
        self.rows = rows
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        for row in rows:
            self._values.setdefault(row["method"], {})[_task(row)] = 100 * float(row["accuracy"])
        self.domains = sorted({row["domain"] for row in rows})

    def __contains__(self, method):
        return method in self._values

    def mean(self, method: str, domain: str | None = None) -> Interval:
        """Accuracy of a method, over all tasks or those of a domain."""
        return Interval.of([v for task, v in self._values.get(method, {}).items() if domain in (None, task[0])])

    def difference(self, method: str, reference: str, domain: str | None = None) -> Interval:
        """Mean of the differences on the tasks that both were run on."""
        return Interval.of(self._paired(method, reference, domain))

    def share_worse(self, method: str, reference: str = "none") -> float:
        """Fraction of tasks on which `method` is more than HARM points below `reference`; nan without a common task."""
        paired = self._paired(method, reference, None)
        return float(np.mean(np.array(paired) < -HARM)) if paired else math.nan

    def average(self, method: str, field: str) -> float:
        """Mean of a column of figures; nan where it is empty."""
        values = [float(row[field]) for row in self.rows if row["method"] == method and row[field] != ""]
        return float(np.mean(values)) if values else math.nan

    def _paired(self, method, reference, domain):
        own, other = self._values.get(method, {}), self._values.get(reference, {})
        return [value - other[task] for task, value in own.items() if task in other and domain in (None, task[0])]


def shared_tasks(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Rows of the tasks that every method of `rows` was run on, since averages over other tasks are not to be compared."""
    tasks: dict[str, set] = {}
    for row in rows:
        tasks.setdefault(row["method"], set()).add(_task(row))
    return [row for row in rows if all(_task(row) in own for own in tasks.values())]


def _task(row):
    return tuple(str(row[field]) for field in ("domain", "task", "seed", "episode"))


def accuracy_table(accuracies: Accuracies, methods: Sequence[str]) -> str:
    """Mean accuracy by domain and over all tasks."""
    lines = [("accuracy %", "tasks", *accuracies.domains, "all")]
    for method in methods:
        means = [accuracies.mean(method, domain) for domain in accuracies.domains]
        overall = accuracies.mean(method)
        cells = [f"{each.mean:.1f}" if each.count else "-" for each in means]
        lines.append((method, str(overall.count), *cells, str(overall)))
    return aligned(lines)


def difference_table(accuracies: Accuracies, methods: Sequence[str], references: Sequence[str]) -> str:
    """Paired differences over all tasks to each of `references`, and how many tasks were made worse than untrained."""
    lines = [("paired difference, points", *(f"to {reference}" for reference in references), f"worse by > {HARM:g}")]
    for method in methods:
        cells = [str(accuracies.difference(method, other)) if method != other else "" for other in references]
        worse = accuracies.share_worse(method)
        lines.append((method, *cells, "-" if math.isnan(worse) else f"{100 * worse:.0f} %"))
    return aligned(lines)


def domain_table(accuracies: Accuracies, methods: Sequence[str], reference: str) -> str:
    """Paired differences to `reference`, domain by domain."""
    lines = [(f"paired difference to {reference}", *accuracies.domains)]
    for method in methods:
        if method != reference:
            lines.append((method, *(str(accuracies.difference(method, reference, d)) for d in accuracies.domains)))
    return aligned(lines)


def cost_table(accuracies: Accuracies, methods: Sequence[str]) -> str:
    """The cost of training as means over tasks: memory at batch 1 in both accountings, and seconds on this machine."""
    lines: list[tuple[str, ...]] = [("cost of a task", "weights", "MB, paper", "KB, device", "backward MMAC", "seconds")]
    fields = (("trained_weights", 1, 0), ("memory_bytes", 2**20, 2), ("device_bytes", 1024, 0), ("backward_macs", 1e6, 2))
    for method in methods:
        figures = [(accuracies.average(method, field) / unit, digits) for field, unit, digits in (*fields, ("seconds", 1, 2))]
        lines.append((method, *("-" if math.isnan(value) else f"{value:,.{digits}f}" for value, digits in figures)))
    return aligned(lines)


def report(rows: Sequence[dict[str, str]], methods: Sequence[str], references: Sequence[str]) -> str:
    """All tables for the rows of one backbone."""
    accuracies = Accuracies(rows)
    references = [reference for reference in references if reference in accuracies]
    tables = [accuracy_table(accuracies, methods), difference_table(accuracies, methods, references)]
    tables += [domain_table(accuracies, methods, references[0])] if references else []
    return "\n\n".join([*tables, cost_table(accuracies, methods)])
