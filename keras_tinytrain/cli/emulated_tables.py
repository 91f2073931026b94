"""The figures of a task on an emulated board as tables: bytes, instructions, time and energy."""

import sys

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_tinytrain._text import duration
from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.cli.tables import memory_bars, table
from keras_tinytrain.device_settings import AUTO
from keras_tinytrain.export import Bundle
from keras_tinytrain.run.answering_head import head_of_delta
from keras_tinytrain.run.board_time import MILLIAMPERES, VOLTS, joules
from keras_tinytrain.run.emulation import EmulatedTask
from keras_tinytrain.run.task_profile import TaskProfile

_MEMORIES = {"sram": "SRAM", "flash": "Flash"}
_NOT_PROMISED = {"core": "core with the C library"}  # of SRAM the stack, which is the core's too
_ANSWERS = {"ridge": "the closed form answers", "prototypes": "the prototypes answer"}
_FORWARD = "_forward"  # at the end of the names of the parts that the host may have run
_SMALLEST_SHARE = 0.001  # of all instructions: functions with less make one row


def show(bundle: Bundle, emulated: EmulatedTask, taught: np.ndarray, labels: np.ndarray | None) -> None:
    """Print everything; `taught` are the labels of the samples, `labels` those of the queries, None without."""
    board, console = bundle.manifest["board"], Console(file=sys.stdout)
    for memory, used in (("sram", emulated.sram_bytes), ("flash", emulated.flash_bytes)):
        console.print(memory_table(memory, bundle.promised_bytes[memory], used))
    console.print(memory_bars(emulated.sram_bytes["total"], emulated.flash_bytes["total"], board))
    console.print(instruction_table(emulated, board["clock_hz"]))
    console.print(
        "Time: by Arm's table of a Cortex-M4's cycles, with waits for flash. See docs/results/time.md for how near that comes."
    )
    energy = joules(emulated.cycles["total"], board)
    if energy is not None:
        milliamperes = MILLIAMPERES[board["name"]]
        console.print(f"Energy: {energy:.3f} J at {milliamperes} mA and {VOLTS:.0f} V, the data sheet's for a running CPU.")
    console.print(f"Stack {emulated.stack_bytes:,} B at most, heap {emulated.heap_bytes} B. {_learned(emulated, taught)}")
    if bundle.head == AUTO:
        console.print(f"The board chose its head: {_ANSWERS[head_of_delta(bundle, emulated.delta)]}.")
    if emulated.logits is not None and labels is not None:
        right = np.mean(emulated.logits.argmax(axis=1) == labels)
        console.print(f"{100 * right:.1f} % of {len(labels)} samples not learned from answered right, on the board.")
    if bundle.manifest.get("adaptive"):
        chosen = ", ".join(f"{layer.name} {len(layer.channels)}" for layer in emulated.plan.layers)
        console.print(f"Chosen on the board, channels: {chosen}.")
    console.print(f"Delta: {len(emulated.delta):,} B, SHA-256 {emulated.delta_sha256}")
    if emulated.profile is not None:
        console.print(kind_table(emulated.profile, board["clock_hz"]))
        console.print(layer_table(emulated.profile, board["clock_hz"]))
        console.print(function_table(emulated.profile))


def memory_table(memory: str, promised: dict[str, int], used: dict[str, int]) -> Table:
    """Bytes of "sram" or "flash" in the words of the export, promised and used; then what no export promises.

    Args:
        promised: of the bundle, by part and "total".
        used: as the board reports, by part and "total".
    """
    parts = _promised_parts(memory, promised)
    rows = [(", ".join(names), sum(promised[name] for name in names), used[part]) for part, names in parts.items()]
    rows.append(("promised total", promised["total"], sum(used[part] for part in parts)))
    shown = [(name, f"{count:,}", f"{num_bytes:,}") for name, count, num_bytes in rows]
    shown += [(_NOT_PROMISED.get(part, part), "-", f"{num_bytes:,}") for part, num_bytes in used.items() if part not in parts]
    return table(f"{_MEMORIES[memory]} in bytes", ("part", "promised", "used"), shown)


def _promised_parts(memory, promised):
    """{part as the board reports it: parts of the promise}."""
    if memory == "flash":
        parts = [part for part in ("tables", "features", "deltas", "code") if part in promised]  # code: not in older bundles
        return {"weights": ["frozen_model", "trainable_model"], **{part: [part] for part in parts}}
    apart = {part: [part] for part in ("closed_form", "variables") if part in promised}  # variables: not in older bundles
    state = [part for part in promised if part not in ("samples", "model_arena", "total", *apart)]
    return {"features": ["samples"], "training": state, "arena": ["model_arena"], **apart}


def instruction_table(emulated: EmulatedTask, clock_hz: int) -> Table:
    """Instructions of the task by part, and how long a core at `clock_hz` takes for them."""
    rows = []
    for part, count in emulated.instructions.items():
        label = f"{part} (estimate)" if emulated.forward_is_estimated and part.endswith(_FORWARD) else part
        rows.append((label, f"{count:,}", duration(emulated.cycles[part] / clock_hz)))
    return table("Instructions of the task", ("part", "instructions", f"time at {clock_hz / 1e6:.0f} MHz"), rows)


def kind_table(profile: TaskProfile, clock_hz: int) -> Table:
    """Each kind of work: instructions, time, cycles an instruction, and the share of the time that waits for flash."""
    rows = [
        (kind, *_cells(work, clock_hz), f"{100 * work.stalls / max(1, work.cycles):.0f}")
        for kind, work in profile.kinds.items()
    ]
    headings = ("kind of work", "instructions", "time", "cycles each", "% waiting for flash")
    return table("By kind of work", headings, rows)


def layer_table(profile: TaskProfile, clock_hz: int) -> Table:
    """The time of each kind of work, layer by layer."""
    kinds = [kind for kind, layers in profile.layers.items() if len(layers) > 1]
    names = list(dict.fromkeys(name for kind in kinds for name in profile.layers[kind]))
    rows = [(name, *(_time(profile.layers[kind].get(name), clock_hz) for kind in kinds)) for name in names]
    return table("Time by layer", ("layer", *kinds), rows)


def function_table(profile: TaskProfile) -> Table:
    """Instructions of each function without its callees; the host's forward passes are not among them."""
    functions = profile.functions
    total = sum(work.instructions for work in functions.values())
    shown = {name: work for name, work in functions.items() if work.instructions >= _SMALLEST_SHARE * total}
    rest = sum((work for name, work in functions.items() if name not in shown), Work())
    all_work = sum(functions.values(), Work())
    counts = {**shown, f"{len(functions) - len(shown)} others": rest, "total": all_work}
    named = ((escape(name.replace("(anonymous namespace)::", "")), work) for name, work in counts.items())
    rows = [(name, f"{work.instructions:,}", f"{100 * work.instructions / total:.1f}", _ratio(work)) for name, work in named]
    headings = ("function", "instructions", "%", "cycles each")
    return table("Instructions by function, on the board", headings, rows, folds_names=True)


def _cells(work, clock_hz):
    return f"{work.instructions:,}", duration(work.cycles / clock_hz), _ratio(work)


def _ratio(work):
    return f"{work.cycles / work.instructions:.2f}" if work.instructions else "-"


def _time(work, clock_hz):
    return "-" if work is None else duration(work.cycles / clock_hz)


def _learned(emulated, taught):
    if not emulated.losses and emulated.leave_one_out is None:
        return "Nothing was trained: the samples made the head alone."
    if not emulated.losses:
        right = emulated.leave_one_out_percent(taught)
        return (
            f"The closed-form head was solved, and nothing was trained. Of its samples, {right:.1f} % are right without them."
        )
    first, last = emulated.losses[0], emulated.losses[-1]
    rose = " It rose: export with a lower --learning-rate." if last > first else ""
    return f"Loss {first:.3f} to {last:.3f} in {len(emulated.losses)} iterations.{rose}"
