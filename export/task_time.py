"""How long a bundle takes on its board: to learn all its samples, and to answer. Estimates, before anything is flashed."""

import dataclasses
import typing

from keras_tinytrain._text import duration
from keras_tinytrain.choose.forward_work import Work, forward_work, graph_macs, opening_work
from keras_tinytrain.export.boards import Board
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.export.tflite.micro_graph import micro_graph

_CPU = "Cortex-M4F"  # whose cycles are known
# The backward pass and the update of a sample take 2.0 to 2.7 instructions for each multiply-accumulate of the trainable part's
# forward pass, in tasks of NanoNet, MCUNet and MobileNetV2: gradients that an activation cleared are skipped.
_BACKWARD_CYCLES_PER_MAC = 4.0


@dataclasses.dataclass(frozen=True)
class TaskTime:
    """Seconds on a board.

    Args:
        learn: all samples that it keeps, in all iterations.
        answer: one sample.
        num_samples, iterations: of the learning.
    """

    learn: float
    answer: float
    num_samples: int
    iterations: int

    def __str__(self) -> str:
        return (
            f"It learns {self.num_samples} samples in about {duration(self.learn)} ({self.iterations} iterations), and answers in "
            f"about {duration(self.answer)}."
        )


def task_time(
    frozen: bytes | None, trainable: bytes, board: Board, training: TrainingSettings, *, num_views: int, head: str
) -> TaskTime | None:
    """An estimate; None for boards with a processor whose cycles are not known.

    Args:
        frozen, trainable: the bundle's .tflite files; None where nothing is frozen.
        board: it is for.
        training: samples and iterations.
        num_views: augmented copies of each sample.
        head: "prototypes" or "softmax".
    """
    if board.cpu != _CPU:
        return None
    before = micro_graph(frozen) if frozen is not None else None
    after = micro_graph(trainable)
    frozen_pass = forward_work(before, board.kernels) if before is not None else Work()
    trainable_pass, is_prototypes = forward_work(after, board.kernels), head == "prototypes"
    averages = is_prototypes and training.average > 0
    said = training.for_head(head)
    late, iterations = is_prototypes and bool(said.late_prototypes), typing.cast(int, said.iterations)
    step = trainable_pass.cycles * (1 + is_prototypes - late) + round(_BACKWARD_CYCLES_PER_MAC * graph_macs(after))
    sample = frozen_pass.cycles * (1 + num_views) + iterations * step + trainable_pass.cycles * (is_prototypes + late)
    openings = (opening_work(before) + opening_work(after)).cycles if before is not None else 0  # they share an arena in turn
    answer = frozen_pass.cycles + trainable_pass.cycles * (1 + averages) + openings
    learn = training.max_samples * sample + openings
    return TaskTime(learn / board.clock_hz, answer / board.clock_hz, training.max_samples, iterations)


def bundle_time(bundle: Bundle) -> TaskTime | None:
    """`task_time` of a bundle."""
    manifest = bundle.manifest
    board, training = Board(**manifest["board"]), TrainingSettings(**manifest["training"])
    return task_time(bundle.frozen, bundle.trainable, board, training, num_views=len(manifest["views"]), head=manifest["head"])
