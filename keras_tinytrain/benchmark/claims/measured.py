"""A whole task by each method in the same runtime: on an emulated Cortex-M4F, and on this machine's processor."""

import pathlib
import statistics
import tempfile
import time
import typing

import numpy as np

from keras_tinytrain.benchmark.networks import Network
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.benchmark.whole_task import ITERATIONS, whole_task
from keras_tinytrain.choose import paper_cost, planner, selection
from keras_tinytrain.choose.schemes import scheme_plan
from keras_tinytrain.data.domain_by_name import load_domain
from keras_tinytrain.export import Bundle, Candidates, TrainingSettings, board, export_tflm
from keras_tinytrain.fewshot.adaptation import prototype_classifier
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Plan
from keras_tinytrain.run import EdgeRuntime, emulate_task
from keras_tinytrain.run.arena_on_board import pretended
from keras_tinytrain.run.board_time import joules

if typing.TYPE_CHECKING:
    import keras

METHODS = {  # as in the tables of costs
    "full": "FullTrain",
    "sparse_update": "SparseUpdate",
    "tinytrain": "TinyTrain",
    "adaptive": "TinyTrain, chosen on the board",
}
FIELDS = ("network", "method", "version", "domain", "seed", "iterations",
          "trained_weights", "sram_bytes", "flash_bytes", "instructions", "cycles", "joules", "seconds")  # fmt: skip
NUM_KEYS = 6  # of FIELDS
BOARD = board("nano33ble")
WAYS = SHOTS = 5
_TIMED_ITERATIONS = 3


def measure(network: Network, method: str, *, domain: str, seed: int, iterations: int) -> dict[str, typing.Any]:
    """Figures of a task of 5 ways and 5 shots, learned in `ITERATIONS` iterations without views.

    All methods train in int8 with Adam's second moment by channel, and keep their samples in flash. The board is a Nano 33 BLE
    with as much memory as FullTrain takes.

    Args:
        method: of METHODS. TinyTrain has the paper's budget: in the paper's accounting for a plan that is chosen beforehand, in
            the board's where the board chooses.
        iterations: that are emulated; the others are computed from them.

    Returns:
        The columns of FIELDS that are no keys. SRAM is without the stack. "seconds" are those of this machine's processor.
    """
    model = network.build()
    task = draw_task(load_domain(domain), TaskShape(queries=1), model.input_shape[1:], seed=seed, episode=0)
    x, y = task.support_x, task.support_y
    training = TrainingSettings(
        "adam_per_channel", "int8", iterations=ITERATIONS, num_classes=WAYS, max_samples=len(x), late_prototypes=False
    )  # `whole_task` counts two passes a sample and iteration
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        chosen = Candidates(budget=network.budget) if method == "adaptive" else chosen_plan(model, x, y, method, network)
        target, out = pretended(BOARD), pathlib.Path(folder, "bundle")
        bundle = export_tflm(
            model, chosen, calibration=x, out=out, board=target, training=training, features="flash", head="prototypes"
        )
        emulated = emulate_task(bundle, x, y, iterations=iterations)
        work = whole_task(emulated, len(x), iterations)
        return {
            "trained_weights": paper_cost.num_trained_weights(layer_table(model), paper_cost.num_channels(emulated.plan)),
            "sram_bytes": emulated.sram_bytes["total"] - emulated.stack_bytes,
            "flash_bytes": emulated.flash_bytes["total"],
            "instructions": work.instructions,
            "cycles": work.cycles,
            "joules": joules(work.cycles, {"name": BOARD.name, "clock_hz": BOARD.clock_hz}),
            "seconds": processor_seconds(bundle, x, y),
        }


def chosen_plan(model: "keras.Model", x: np.ndarray, y: np.ndarray, method: str, network: Network) -> Plan:
    """What a method trains, all but "adaptive", of a task's samples x (N, ...) and labels y (N,)."""
    if method == "full":
        return selection.full_plan(layer_table(model))
    if method == "sparse_update":
        return scheme_plan(layer_table(model), network.scheme)
    classifier, loss = prototype_classifier(model, x, y).model, planner.summed_cross_entropy(y)
    return planner.choose(classifier, x, loss, network.budget, accounting=paper_cost.PaperAccounting())


def processor_seconds(bundle: Bundle, x: np.ndarray, y: np.ndarray) -> float:
    """Processor time of a task on this machine by `EdgeRuntime` on one thread, the choice of channels included where it makes one.

    A few iterations are timed; the others take the median of those after the first. Time that other programs take is not counted.
    """
    edge, ends = EdgeRuntime(bundle, settings={"iterations": _TIMED_ITERATIONS}, exact=False), []
    start = time.process_time()
    edge.add_samples(x, y)
    edge.train(lambda iteration, loss: ends.append(time.process_time()))
    elapsed = time.process_time() - start
    return elapsed + (ITERATIONS - _TIMED_ITERATIONS) * statistics.median(np.diff(ends))
