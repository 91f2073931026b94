"""The tasks of `benchmark accuracy`: the same for every method, engine and machine, by seed and number alone."""

import dataclasses

import numpy as np

from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.data import Domain
from keras_tinytrain.data.episodes import Episode, sample_episode
from keras_tinytrain.data.meta_dataset_sampler import sample_meta_dataset_episode

SAMPLERS = ("fixed", "imbalanced", "meta-dataset")


@dataclasses.dataclass(frozen=True)
class TaskShape:
    """How tasks are drawn.

    Args:
        sampler: "fixed" ways and shots; "imbalanced": the classes have from 1 to `shots` shots, in equal steps; or "meta-dataset":
            its sampler of way, shot and imbalance.
        ways, shots, queries: of the first two; queries per class.

    Raises:
        ValueError: there is no such sampler.
    """

    sampler: str = "fixed"
    ways: int = 5
    shots: int = 5
    queries: int = 15

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler expects one of {', '.join(SAMPLERS)}. Received: {self.sampler!r}")

    def __str__(self):
        if self.sampler == "meta-dataset":
            return self.sampler
        shots = f"1 to {self.shots}" if self.sampler == "imbalanced" else self.shots
        return f"{self.ways}-way {shots}-shot {self.queries} queries"


@dataclasses.dataclass(frozen=True)
class NumberedTask(Episode):
    """An Episode with what else a method may know of it.

    Args:
        number: seed of its augmented views, and of methods that draw.
        style: of `augmentation.fixed_views`: only photographs are mirrored and change their colours.
    """

    number: int
    style: str


def draw_task(domain: Domain, shape: TaskShape, input_shape: tuple[int, int, int], *, seed: int, episode: int) -> NumberedTask:
    """Task number `episode` of a domain, its images prepared for a backbone with inputs of `input_shape`.

    Returns:
        A NumberedTask with images float32 (N, *input_shape), see `backbones.images.network_images`.

    Raises:
        ValueError: the domain has too few classes or samples.
    """
    rng = np.random.default_rng([seed, episode])
    if shape.sampler == "meta-dataset":
        task = sample_meta_dataset_episode(domain, rng=rng)
    else:
        task = sample_episode(domain, ways=shape.ways, shots=shape.shots, queries=shape.queries, rng=rng)
        task = _imbalanced(task, shape) if shape.sampler == "imbalanced" else task
    support_x, query_x = network_images(task.support_x, input_shape), network_images(task.query_x, input_shape)
    style = "photo" if domain.images.shape[-1] == 3 and input_shape[-1] == 3 else "ink"
    return NumberedTask(support_x, task.support_y, query_x, task.query_y, classes=task.classes, number=episode, style=style)


def _imbalanced(task: Episode, shape: TaskShape) -> Episode:
    """The first 1, ..., `shape.shots` samples of its classes."""
    counts = np.linspace(1, shape.shots, shape.ways).round().astype(int)
    kept = np.concatenate([np.flatnonzero(task.support_y == label)[:count] for label, count in enumerate(counts)])
    return dataclasses.replace(task, support_x=task.support_x[kept], support_y=task.support_y[kept])
