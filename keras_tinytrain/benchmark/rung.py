"""A rung: a way to learn a task, how accurate it is, and what it takes on a board."""

import dataclasses

from keras_tinytrain.benchmark.accuracy_tables import Interval
from keras_tinytrain.benchmark.rungs_cost import Cost

NONE = "prototypes alone"


@dataclasses.dataclass(frozen=True)
class Rung:
    """A method with a number of iterations, on the tasks that all of them were run on.

    Args:
        name: for people.
        method, iterations: of `benchmark accuracy`; 0 iterations train nothing.
        tasks: their number.
        accuracy: mean, in percent.
        gain: paired difference to prototypes alone, in points.
        cost: on the board.
        on_front: whether no other rung is as accurate in less time.
    """

    name: str
    method: str
    iterations: int
    tasks: int
    accuracy: float
    gain: Interval
    cost: Cost
    on_front: bool = False

    @property
    def seconds(self) -> float:
        """To learn a task on the board."""
        return self.cost.seconds
