"""How long a bundle takes on its board: to learn all its samples, and to answer. Estimates, before anything is flashed."""

import dataclasses
import typing

from keras_tinytrain._text import duration
from keras_tinytrain.choose.forward_work import Work, forward_work, opening_work
from keras_tinytrain.export.backward.graph import TrainableGraph
from keras_tinytrain.export.backward.memory import closed_form_of
from keras_tinytrain.export.backward.work import backward_work, solve_work, step_work
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.tflite.micro_graph import micro_graph

_CPU = "Cortex-M4F"  # whose cycles are known


@dataclasses.dataclass(frozen=True)
class TaskTime:
    """Seconds on a board.

    Args:
        samples: to take in all samples: one pass of the frozen part for each and for each view of it.
        iteration: once through all of them.
        trained: what only training adds, once: late embeddings, and the closed-form head of the trained weights.
        prototypes: to embed all samples; 0 with a softmax.
        solve: to solve the closed-form head; 0 where there is none.
        answer: one sample.
        num_samples, iterations: of the learning.
    """

    samples: float
    iteration: float
    trained: float
    prototypes: float
    solve: float
    answer: float
    num_samples: int
    iterations: int

    @property
    def learn(self) -> float:
        """All samples that it keeps, in all iterations."""
        return (
            self.samples
            + self.prototypes
            + self.solve
            + (self.iterations > 0) * self.trained
            + self.iterations * self.iteration
        )

    def __str__(self) -> str:
        return (
            f"It learns {self.num_samples} samples in about {duration(self.learn)} ({self.iterations} iterations), and answers in "
            f"about {duration(self.answer)}."
        )


def task_time(
    frozen: bytes | None,
    trainable: bytes,
    graph: TrainableGraph,
    board: Board,
    training: TrainingSettings,
    *,
    num_views: int,
    head: str,
    closed_form: bool = False,
) -> TaskTime | None:
    """An estimate; None for boards with a processor whose cycles are not known.

    Args:
        frozen, trainable: the bundle's .tflite files; None where nothing is frozen.
        graph: of `trainable`. A device that chooses takes less than is told: all candidates are passed backwards.
        board: it is for.
        training: samples and iterations.
        num_views: augmented copies of each sample.
        head: "prototypes" or "softmax".
        closed_form: whether a closed-form head is solved beside the prototypes.
    """
    if board.cpu != _CPU:
        return None
    before, after = micro_graph(frozen) if frozen is not None else None, micro_graph(trainable)
    frozen_pass = forward_work(before, board.kernels) if before is not None else Work()
    trainable_pass, num_samples = forward_work(after, board.kernels), training.max_samples
    said, is_prototypes, averages = training.for_head(head), head == "prototypes", training.average > 0
    late, iterations = is_prototypes and bool(said.late_prototypes), typing.cast(int, said.iterations)
    passes = trainable_pass * num_samples
    steps = num_samples if training.updates == "immediate" else 1
    step = step_work(graph, training.optimizer, training.weights) * steps
    iteration = passes * (1 + is_prototypes - late) + backward_work(graph) * num_samples + step
    solve = _solve(graph, training) if closed_form else Work()
    again = closed_form and averages  # it is solved for the trained and for the original weights
    openings = opening_work(before) + opening_work(after) if before is not None else Work()  # they share an arena in turn
    answer = frozen_pass + trainable_pass * (1 + (is_prototypes and averages)) + openings
    seconds = {
        "samples": frozen_pass * (num_samples * (1 + num_views)) + openings,
        "iteration": iteration,
        "trained": passes * (late + again) + solve * again,
        "prototypes": passes * is_prototypes,
        "solve": solve,
        "answer": answer,
    }
    return TaskTime(
        **{part: work.cycles / board.clock_hz for part, work in seconds.items()}, num_samples=num_samples, iterations=iterations
    )


def _solve(graph: TrainableGraph, training: TrainingSettings) -> Work:
    return solve_work(closed_form_of(graph).parts, training.max_samples, typing.cast(int, training.num_classes))


def bundle_time(bundle: Bundle) -> TaskTime | None:
    """What a bundle's export told; None where its board's time is not known, and of bundles of release 0.1."""
    time = bundle.manifest.get("time")
    return TaskTime(**time) if time else None
