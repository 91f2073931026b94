"""Runs methods on tasks: what one worker of `benchmark accuracy` does, wherever it is."""

import dataclasses
import functools
import time

import numpy as np

from keras_tinytrain import cost, planner
from keras_tinytrain.benchmark.methods import Method, find_method
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.benchmark.tiny_tl import lite_residual_network, tiny_tl_plan
from keras_tinytrain.benchmark.transductive import TransductiveTuner
from keras_tinytrain.device_cost import DeviceAccounting
from keras_tinytrain.domains import load_domain
from keras_tinytrain.fewshot.adapt import adapt, prototype_classifier
from keras_tinytrain.fewshot.augmentation import default_shifts, shift_views
from keras_tinytrain.layers import layer_table
from keras_tinytrain.plan import Budget
from keras_tinytrain.selection import full_plan
from keras_tinytrain.strategies import make_task, static_plan

STATIC_TASKS = 3  # tasks per domain from which the static plan is made


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a worker must know to give the same figures as another.

    Args:
        backbone: a key of `networks.NETWORKS`.
        weights: a file, or "" for the backbone's own.
        domains: as `domains.load_domain` takes them.
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
    iterations: int = 20
    budget: Budget | None = None
    learning_rates: tuple[tuple[str, float], ...] = ()

    def method(self, name: str) -> Method:
        """`methods.find_method` with these settings."""
        return find_method(name, self.backbone, dict(self.learning_rates))


@dataclasses.dataclass(frozen=True)
class Job:
    """One task and the methods to run on it."""

    domain: str
    episode: int
    methods: tuple[str, ...]


class Runner:
    """A backbone, its domains and what they share between tasks."""

    def __init__(self, settings: Settings):
        self.settings = settings
        network = find_network(settings.backbone)
        self.budget = settings.budget or network.budget
        self.backbone = network.build(settings.weights)
        self.table = layer_table(self.backbone)
        self.shifts = default_shifts(*self.backbone.input_shape[1:3])
        self._domain = functools.lru_cache(load_domain)

    def run(self, job: Job) -> list[dict]:
        """A row per method, with the fields of `results.FIELDS`."""
        task = self._task(job.domain, job.episode, self.settings.seed)
        about = row_key(self.settings, job.domain, job.episode)
        rows = []
        for name in job.methods:
            method, start = self.settings.method(name), time.perf_counter()
            found = self._learn(method, task)
            seconds = round(time.perf_counter() - start, 3)
            rows.append({**about, "method": name, "learning_rate": method.learning_rate, **found, "seconds": seconds})
        return rows

    @functools.cached_property
    def static_plan(self):
        """The plan by the mean Fisher information over tasks of all domains that are drawn with another seed."""
        tasks = [
            self._scored(self._task(name, episode, seed=self.settings.seed + 1))
            for name in self.settings.domains
            for episode in range(STATIC_TASKS)
        ]
        return static_plan(tasks)

    def _task(self, domain, episode, seed):
        shape = self.backbone.input_shape[1:]
        return draw_task(self._domain(domain), self.settings.shape, shape, seed=seed, episode=episode)

    def _learn(self, method, task):
        if method.strategy == "none":
            classifier = prototype_classifier(self.backbone, task.support_x, task.support_y)
            return {"accuracy": classifier.evaluate(task.query_x, task.query_y), **self._costs(self.table, None, task)}
        if method.strategy == "transductive":
            return self._transductive(method, task)
        if method.strategy == "tinytl":
            return self._tiny_tl(method, task)
        return self._adapt(self.backbone, method, task, self._choice(method))

    def _choice(self, method):
        if method.strategy == "static":
            return {"plan": self.static_plan}
        options = {"strategy": method.strategy, "rule": method.rule, "kinds": method.kinds}
        return {"budget": self.budget, "accounting": cost.PaperAccounting(), **options}

    def _adapt(self, backbone, method, task, choice):
        classifier = adapt(
            backbone,
            task.support_x,
            task.support_y,
            iterations=self.settings.iterations,
            learning_rate=method.learning_rate,
            shifts=self.shifts,
            average=method.average,
            leave_one_out=method.leave_one_out,
            **choice,
        )
        table = self.table if backbone is self.backbone else layer_table(backbone)
        accuracy = classifier.evaluate(task.query_x, task.query_y)
        return {"accuracy": accuracy, **self._costs(table, classifier.plan, task)}

    def _tiny_tl(self, method, task):
        network = self._lite_residual_network(method.drop)
        return self._adapt(network, method, task, {"plan": tiny_tl_plan(network)})

    @functools.cache
    def _lite_residual_network(self, drop):
        return lite_residual_network(self.backbone, drop=drop)

    def _transductive(self, method, task):
        tuner = self._tuner(method.learning_rate)
        views = shift_views(task.support_x, self.shifts)
        accuracy = tuner.accuracy(task.support_x, task.support_y, views, task.query_x, task.query_y)
        return {"accuracy": accuracy, **self._costs(self.table, full_plan(self.table), task)}

    @functools.cache
    def _tuner(self, learning_rate):
        return TransductiveTuner(self.backbone, iterations=self.settings.iterations, learning_rate=learning_rate)

    def _scored(self, task):
        """What a strategy may look at, for a task that is not measured."""
        classifier = prototype_classifier(self.backbone, task.support_x, task.support_y)
        view = shift_views(task.support_x, self.shifts[:1])[0]
        loss = planner.summed_cross_entropy(task.support_y)
        return make_task(classifier.model, view, loss, self.budget, accounting=cost.PaperAccounting())

    def _costs(self, table, plan, task):
        """What training `plan` costs at batch 1. The device's bytes are left empty for what its runtime has no kernels for."""
        if plan is None:
            return {"trained_weights": 0, "memory_bytes": 0, "device_bytes": 0, "backward_macs": 0}
        choice, on_device = cost.num_channels(plan), table is self.table
        device = DeviceAccounting(
            num_samples=len(task.support_x), num_views=len(self.shifts), num_classes=int(np.max(task.support_y)) + 1
        )
        return {
            "trained_weights": cost.num_trained_weights(table, choice),
            "memory_bytes": cost.PaperAccounting().memory_bytes(table, choice),
            "device_bytes": device.memory_bytes(table, choice) if on_device else "",
            "backward_macs": cost.backward_macs(table, choice),
        }


def row_key(settings: Settings, domain: str, episode: int) -> dict:
    """The fields that say what a row is about, but for the method."""
    return {
        "backbone": settings.backbone,
        "pretrained": _stem(settings.weights or find_network(settings.backbone).weights),
        "domain": _stem(domain),
        "task": str(settings.shape),
        "seed": settings.seed,
        "episode": episode,
        "iterations": settings.iterations,
    }


def _stem(name):
    """A file's or folder's name without path and suffix; "dtd" of "tfds:dtd"."""
    return name.rpartition(":")[2].rstrip("/").rpartition("/")[2].removesuffix(".npz").removesuffix(".pkl")
