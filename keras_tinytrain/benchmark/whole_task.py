"""What a task takes on an emulated board in all its iterations, computed from an emulation of a few: all take nearly the same."""

from keras_tinytrain.choose.forward_work import Work
from keras_tinytrain.run.emulation import EmulatedTask

ITERATIONS = 40  # of the paper
_EACH = ("backward", "update")  # parts that every iteration has alike


def whole_passes(emulated: EmulatedTask, num_samples: int, iterations: int) -> int:
    """Forward passes of the trainable part in ITERATIONS iterations without views.

    An iteration has two for each sample, for the prototypes and for its gradient.
    """
    return emulated.calls["trainable_forward"] + (ITERATIONS - iterations) * 2 * num_samples


def whole_task(emulated: EmulatedTask, num_samples: int, iterations: int) -> Work:
    """Work of ITERATIONS iterations, samples and a choice on the board included.

    Args:
        emulated: a task of `iterations` iterations without views.
    """
    times = dict.fromkeys(_EACH, ITERATIONS / iterations)
    times["trainable_forward"] = whole_passes(emulated, num_samples, iterations) / emulated.calls["trainable_forward"]
    parts = [part for part in emulated.instructions if part != "total"]
    works = (Work(emulated.instructions[part], emulated.cycles[part]) * times.get(part, 1) for part in parts)
    return sum(works, Work())
