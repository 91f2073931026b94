"""The work of `benchmark accuracy`: settings that travel to workers, jobs, and the keys of their rows."""

import dataclasses
from collections.abc import Iterator, Sequence

from keras_tinytrain.benchmark.methods import Method, find_method
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.results import key
from keras_tinytrain.benchmark.tasks import TaskShape
from keras_tinytrain.plan import Budget


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a worker must know to give the same figures as another.

    Args:
        backbone: a key of `networks.NETWORKS`.
        weights: a file, or "" for the backbone's own.
        domains: as `data.load_domain` takes them.
        shape: how tasks are drawn.
        seed: of the tasks.
        iterations: optimizer steps of every method.
        budget: None takes the paper's for the backbone.
        learning_rates: ((method, Adam's rate), ...) in place of the built-in ones.
    """

    backbone: str
    weights: str
    domains: tuple[str, ...]
    shape: TaskShape = TaskShape()
    seed: int = 0
    iterations: int = 40
    budget: Budget | None = None
    learning_rates: tuple[tuple[str, float], ...] = ()

    @property
    def chosen_budget(self) -> Budget:
        return self.budget or find_network(self.backbone).budget

    def method(self, name: str) -> Method:
        """`methods.find_method` with these settings."""
        return find_method(name, self.backbone, dict(self.learning_rates))


@dataclasses.dataclass(frozen=True)
class Job:
    """One task and the methods to run on it."""

    domain: str
    episode: int
    methods: tuple[str, ...]


def open_jobs(settings: Settings, methods: Sequence[str], episodes: int, done: set) -> Iterator[Job]:
    """Tasks with the methods that are not `done` yet. Domains take turns, so that a run that is cut off is balanced."""
    for episode in range(episodes):
        for domain in settings.domains:
            job = Job(domain, episode, tuple(methods))
            missing = tuple(name for name, each in zip(methods, row_keys(settings, job)) if each not in done)
            if missing:
                yield Job(domain, episode, missing)


def row_keys(settings: Settings, job: Job) -> list[tuple[str, ...]]:
    """Of each method of a job, the key of its row."""
    about = row_key(settings, job.domain, job.episode)
    return [key({**about, "method": name, "learning_rate": settings.method(name).learning_rate}) for name in job.methods]


def row_key(settings: Settings, domain: str, episode: int) -> dict:
    """The fields that identify a row, except the method."""
    return {
        "backbone": settings.backbone,
        "pretrained": _stem(settings.weights or find_network(settings.backbone).weights),
        "domain": _stem(domain),
        "task": str(settings.shape),
        "seed": settings.seed,
        "episode": episode,
        "iterations": settings.iterations,
        "budget": f"{settings.chosen_budget.memory_bytes} B {settings.chosen_budget.compute:g}",
    }


def _stem(name):
    """A file's or folder's name without path and suffix; "dtd" of "tfds:dtd"; "signs (odd classes)" of "odd:data/signs.npz"."""
    which, _, all_of_it = name.partition(":")
    if which in ("even", "odd"):
        return f"{_stem(all_of_it)} ({which} classes)"
    return name.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".npz").removesuffix(".pkl")
