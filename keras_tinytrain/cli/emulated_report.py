"""The report of a task on an emulated board: of its bundle, its memory and time, and its answers before and after."""

import numpy as np

from keras_tinytrain.cli.report.content import Values, board_values, bundle_values, confusion, learning_values
from keras_tinytrain.export import Bundle
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import EmulatedTask

Samples = tuple[np.ndarray, np.ndarray]
_LEARNED = "learned, emulated board"


def report_values(bundle: Bundle, task: Samples, queries: Samples | None, emulated: EmulatedTask, command: str) -> Values:
    """The values of the report.

    Args:
        task, queries: samples (N, ...) and labels (N,) that were learned and that were answered; no queries: no answers are told.
        command: the line by which the report was asked for.
    """
    answers = {} if queries is None else _answers(bundle, task, queries[0], emulated)
    counts = {} if queries is None else _confusion(bundle, queries[1], answers)
    values = bundle_values(bundle, command) | learning_values(emulated.losses, counts)
    if queries is not None:
        values["accuracy"] = _accuracy(queries[1], answers)
    if emulated.leave_one_out is not None:
        values["leave_one_out_percent"] = emulated.leave_one_out_percent(task[1])
    return values | board_values(emulated, bundle.manifest["board"])


def _answers(bundle, task, x, emulated):
    """{what answered: classes (N,)}: where something was trained, first what this machine answers without training."""
    if emulated.leave_one_out is not None:
        return {"closed-form head, emulated board": emulated.logits.argmax(axis=1)}
    untrained = HostRuntime(bundle, settings={"iterations": 0})
    untrained.add_samples(*task)
    untrained.train()
    before = "closed-form head, nothing trained" if "closed_form" in bundle.manifest else "before learning"
    return {before: untrained.predict(x).argmax(axis=1), _LEARNED: emulated.logits.argmax(axis=1)}


def _confusion(bundle, truth, answers):
    num_classes = bundle.manifest["training"]["num_classes"]
    times = ("before", "after")[-len(answers) :]
    return {time: confusion(truth, each, num_classes) for time, each in zip(times, answers.values(), strict=True)}


def _accuracy(truth, answers):
    percents = {name: 100 * float(np.mean(each == truth)) for name, each in answers.items()}
    first, *_ = percents.values()
    rows = []
    for name, percent in percents.items():
        gain = None if name == next(iter(percents)) else percent - first
        rows.append({"method": name, "percent": percent, "gain": gain, "half": None, "sram_bytes": None, "fits": True})
    return rows
