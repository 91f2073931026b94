"""Seconds, joules and SRAM of a method's task on a board, as its export promises them."""

import dataclasses
import functools
import pathlib
import tempfile

import numpy as np

from keras_tinytrain.benchmark.claims.measured import chosen_plan
from keras_tinytrain.benchmark.methods import Method
from keras_tinytrain.benchmark.networks import Network
from keras_tinytrain.benchmark.runner import NUM_VIEWS
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.data.domain_by_name import load_domain
from keras_tinytrain.export import Board, TrainingSettings
from keras_tinytrain.export.conversion import convert
from keras_tinytrain.export.layout import Layout, lay_out
from keras_tinytrain.export.request import check
from keras_tinytrain.export.settled import storing_maps
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run.arena_on_board import pretended
from keras_tinytrain.run.board_time import joules

_PLANS = {"full": "full", "fisher": "tinytrain", "static": "tinytrain"}  # strategy: a method of `claims.measured.METHODS`
_WAYS = 5
_VIEWS = tuple((0, shift) for shift in range(1, NUM_VIEWS + 1))


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a task of 25 samples.

    Args:
        seconds: to learn it, an estimate.
        joules: None for boards whose current is not known.
        sram_bytes: models and training.
    """

    seconds: float
    joules: float | None
    sram_bytes: int


def has_cost(method: Method) -> bool:
    """Whether a device can run the method, in a time that does not depend on its samples."""
    depends = method.gated or method.auto or method.stop_loss or method.skip_loss
    return not depends and (method.strategy in ("none", *_PLANS) or method.strategy.startswith("sparse_update "))


class Costs:
    """Of a network's methods, all with the same task.

    Int8 weights with Adam's second moment by channel and samples in flash, as `benchmark claims` measures; and the views that
    accuracy was measured with, where something is trained. FullTrain fits no board, so that each method has as much memory as it takes.

    Args:
        network: its public weights.
        domain: samples, as `data.load_domain` takes them.
        seed: of the task.
        board: a Cortex-M4F.
    """

    def __init__(self, network: Network, domain: str, seed: int, board: Board):
        self._network, self._board, self._model = network, board, network.build()
        task = draw_task(load_domain(domain), TaskShape(queries=1), self._model.input_shape[1:], seed=seed, episode=0)
        self._x, self._y = task.support_x, task.support_y

    def of(self, method: Method, iterations: int) -> Cost:
        """The cost of a method for which `has_cost`."""
        trains = method.strategy != "none"
        layout = self._layout(method.strategy, method.ridge, method.average if trains else 0.0, method.late_prototypes)
        if layout.time is None:
            raise ValueError(f"--board expects one with a Cortex-M4F, whose cycles are known. Received: {self._board.name}")
        seconds = layout.time.with_iterations(iterations if trains else 0).learn
        about = {"name": self._board.name, "clock_hz": self._board.clock_hz}
        return Cost(seconds, joules(round(seconds * self._board.clock_hz), about), layout.sram["total"])

    @functools.cache  # as long as a command runs  # noqa: B019
    def _layout(self, strategy: str, ridge: bool, average: float, late: bool) -> Layout:
        settings = TrainingSettings(
            "adam_per_channel", "int8", average=average, num_classes=_WAYS, max_samples=len(self._x), late_prototypes=late
        )
        with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
            request = check(
                self._model,
                self._plan(strategy),
                calibration=np.asarray(self._x),
                out=pathlib.Path(folder, "bundle"),
                board=pretended(self._board),
                head="ridge" if ridge else "prototypes",
                training=settings,
                views=() if strategy == "none" else _VIEWS,
                split=True,
                weights_in_ram="cheapest",
                features="flash",
                sketch="serial",
                overwrite=False,
            )
            converted = convert(request)
            layout = lay_out(request, converted)
            return layout if strategy == "none" else storing_maps(request, converted, layout)[2]

    @functools.cache  # noqa: B019
    def _plan(self, strategy: str) -> Plan:
        """What a strategy trains; of one that trains nothing, the least that can be exported."""
        if strategy == "none":
            return Plan((LayerPlan(layer_table(self._model).weighted[-1].name, (0,)),))
        return chosen_plan(self._model, self._x, self._y, _PLANS.get(strategy, "sparse_update"), self._network)
