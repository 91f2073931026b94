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
        trained: what only training adds, once: late embeddings, and the closed-form head of the trained weights; below 0 where the
            pass that solved a head first has left the first iteration's prototypes.
        prototypes: to embed all samples; 0 with a softmax.
        solve: to solve the closed-form head; 0 where there is none.
        answer: one sample.
        num_samples, iterations: of the learning.
        choice: to choose the head by the samples, before anything is trained; 0 where the device has one head alone.
        by_prototypes: of a device that chooses, the same task if its samples favour the prototypes; None of any other.
    """

    samples: float
    iteration: float
    trained: float
    prototypes: float
    solve: float
    answer: float
    num_samples: int
    iterations: int
    choice: float = 0.0
    by_prototypes: "TaskTime | None" = None

    @property
    def learn(self) -> float:
        """All samples that it keeps, in all iterations, by the head that takes longer."""
        return max(self._alone, self.by_prototypes.learn if self.by_prototypes else 0.0)

    @property
    def _alone(self) -> float:
        begin, training = self.samples + self.choice, (self.iterations > 0) * self.trained + self.iterations * self.iteration
        if self.choice and not self.iterations:  # nothing is trained: what the choice found answers
            return begin
        return begin + training + self.prototypes + self.solve

    def with_iterations(self, iterations: int) -> "TaskTime":
        """The time of so many, by either head."""
        other = self.by_prototypes and self.by_prototypes.with_iterations(iterations)
        return dataclasses.replace(self, iterations=iterations, by_prototypes=other)

    def told(self, *, iterations: bool = True) -> str:
        """How long it learns, by each head that it may choose; with the number of iterations or without."""
        counts = [f" ({each.iterations} iterations)" if iterations else "" for each in (self, self.by_prototypes or self)]
        if self.by_prototypes is None:
            return f"{duration(self.learn)}{counts[0]}"
        return (
            f"{duration(self._alone)} by the closed form{counts[0]}, {duration(self.by_prototypes.learn)} if its samples favour the "
            f"prototypes{counts[1]}"
        )

    def to_json(self) -> dict[str, typing.Any]:
        """For the manifest."""
        return _rounded(dataclasses.asdict(self))

    def __str__(self) -> str:
        return f"It learns {self.num_samples} samples in about {self.told()}, and answers in about {duration(self.answer)}."


def _rounded(parts: dict[str, typing.Any]) -> dict[str, typing.Any]:
    return {name: _rounded(part) if isinstance(part, dict) else part and round(part, 6) for name, part in parts.items()}


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
    prototype_training: TrainingSettings | None = None,
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
        prototype_training: of a device that chooses its head, `training` where the prototypes answer.
    """
    if board.cpu != _CPU:
        return None
    before, after = micro_graph(frozen) if frozen is not None else None, micro_graph(trainable)
    frozen_pass = forward_work(before, board.kernels) if before is not None else Work()
    trainable_pass, num_samples = forward_work(after, board.kernels), training.max_samples
    openings = opening_work(before) + opening_work(after) if before is not None else Work()  # they share an arena in turn
    passes, is_prototypes, chooses = trainable_pass * num_samples, head == "prototypes", prototype_training is not None
    solve = _solve(graph, training) if closed_form else Work()
    # As `Buffers::embeddings` are kept: then those of the head solved first are the first iteration's, and make the prototypes.
    immediate = training.updates == "immediate"
    keeps = training.for_head(head).late_prototypes or (training.leave_one_out and (num_views > 0 or immediate))
    kept = bool(keeps) and closed_form and (chooses or training.average > 0)

    def by(training: TrainingSettings, solve: Work, choice: Work) -> TaskTime:
        said, averages = training.for_head(head), training.average > 0
        late, steps = is_prototypes and bool(said.late_prototypes), num_samples if immediate else 1
        step = step_work(graph, training.optimizer, training.weights) * steps
        again = closed_form and averages and not chooses  # it is solved for the trained and for the original weights
        work = {
            "samples": frozen_pass * (num_samples * (1 + num_views)) + openings,
            "iteration": passes * (1 + is_prototypes - late) + backward_work(graph) * num_samples + step,
            "trained": passes * (late + again - kept) + solve * again,
            "prototypes": passes * is_prototypes,
            "solve": solve,
            "answer": frozen_pass + trainable_pass * (1 + (is_prototypes and averages)) + openings,
            "choice": choice,
        }
        seconds: dict[str, typing.Any] = {part: each.cycles / board.clock_hz for part, each in work.items()}
        return TaskTime(**seconds, num_samples=num_samples, iterations=typing.cast(int, said.iterations))

    if prototype_training is None:
        return by(training, solve, Work())
    choice = passes * (2 - kept) + solve  # the rows' pass, and without embeddings the prototypes' own
    other = by(prototype_training, Work(), choice)
    return dataclasses.replace(by(training, solve, passes + solve), by_prototypes=other)


def _solve(graph: TrainableGraph, training: TrainingSettings) -> Work:
    return solve_work(closed_form_of(graph).parts, training.max_samples, typing.cast(int, training.num_classes))


def bundle_time(bundle: Bundle) -> TaskTime | None:
    """What a bundle's export told; None where its board's time is not known, and of bundles of release 0.1."""
    return _time_of(bundle.manifest.get("time"))


def _time_of(parts: dict[str, typing.Any] | None) -> TaskTime | None:
    return TaskTime(**{**parts, "by_prototypes": _time_of(parts.get("by_prototypes"))}) if parts else None
