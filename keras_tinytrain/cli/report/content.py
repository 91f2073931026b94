"""The values of a report: plain ones, which the page shows and the .json file keeps."""

from collections.abc import Mapping, Sequence

import numpy as np

import keras_tinytrain
from keras_tinytrain.choose.explain import Explanation
from keras_tinytrain.cli.report.page import Values
from keras_tinytrain.cli.report.timeline import arena_steps
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.plan import Plan
from keras_tinytrain.run.board_time import joules, seconds_by_part
from keras_tinytrain.run.emulation import EmulatedTask

_MEMORIES = {"sram": "SRAM", "flash": "flash"}


def bundle_values(bundle: Bundle, command: str) -> Values:
    """What a bundle says of itself: its memory on its board, the arena over time, its network, the commands.

    Args:
        command: the line by which the report was asked for.
    """
    manifest = bundle.manifest
    return {
        "title": f"Bundle {manifest['name']} on board {manifest['board']['name']}",
        "version": keras_tinytrain.__version__,
        "memory": _memory(manifest),
        "arena_bytes": manifest["sram"]["model_arena"],
        "arena": arena_steps(bundle),
        "trained": manifest["trained"],
        "adaptive": bool(manifest.get("adaptive")),
        "class_names": [bundle.class_name(label) for label in range(manifest["training"]["num_classes"])],
        "commands": {"made by": [command], "next": [f"keras-tinytrain check {bundle.path.name}"]},
    }


def _memory(manifest: Mapping) -> Values:
    board = manifest["board"]
    return {
        title: {
            "available_bytes": board[f"{memory}_bytes"],
            "reserved_bytes": board.get(f"reserved_{memory}_bytes", 0),
            "total_bytes": manifest[memory]["total"],
            "parts": {name: size for name, size in manifest[memory].items() if name != "total" and size},
        }
        for memory, title in _MEMORIES.items()
    }


def plan_values(plan: Plan) -> Values:
    """Scores, reasons and what more memory would add; {} of a plan from a file, which does not hold them."""
    found = plan.explanation
    if not isinstance(found, Explanation):
        return {}
    lines = [line for line in found.text(plan).splitlines() if line.startswith("+")]
    return {
        "candidates": found.candidates,
        "layers": {name: dict(zip(_CELLS, found.cells(plan, name), strict=True)) for name in found.order},
        "more_memory": lines,
    }


_CELLS = ("layer", "potential", "parameters", "macs", "score", "channels", "reason")


def learning_values(losses: Sequence[float], confusion: Mapping[str, np.ndarray]) -> Values:
    """Losses of the iterations and, by "before" and "after", how often samples of a class (row) got each answer (column)."""
    return {"losses": list(map(float, losses)), "confusion": {name: counts.tolist() for name, counts in confusion.items()}}


def confusion(truth: np.ndarray, answers: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts int64 (num_classes, num_classes): row of the true class, column of the answer."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (truth, answers), 1)
    return counts


def board_values(emulated: EmulatedTask, board: Mapping) -> Values:
    """Time and energy of a task on the board."""
    return {
        "time": {
            "seconds": {part: round(seconds, 4) for part, seconds in seconds_by_part(emulated, board).items()},
            "joules": joules(emulated.cycles["total"], board),
            "note": f"An estimate for {board['cpu']} at {board['clock_hz'] / 1e6:.0f} MHz."
            + (" Its forward passes were not counted, but estimated too." if emulated.forward_is_estimated else ""),
        }
    }
