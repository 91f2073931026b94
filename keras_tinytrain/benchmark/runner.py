"""Runs methods on tasks: what one worker of `benchmark accuracy` does, wherever it is."""

import dataclasses
import functools
import time

import numpy as np

from keras_tinytrain.benchmark.jobs import Job, Settings, row_key
from keras_tinytrain.benchmark.methods import Method
from keras_tinytrain.benchmark.networks import find_network
from keras_tinytrain.benchmark.tasks import NumberedTask, draw_task
from keras_tinytrain.benchmark.tiny_tl import lite_residual_network, tiny_tl_plan
from keras_tinytrain.benchmark.transductive import TransductiveTuner
from keras_tinytrain.choose import paper_cost, planner
from keras_tinytrain.choose.schemes import scheme_plan
from keras_tinytrain.choose.selection import full_plan, last_layer_plan
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.choose.strategies import make_task, static_plan
from keras_tinytrain.data import Episode, load_domain
from keras_tinytrain.fewshot.adaptation import adapt, prototype_classifier
from keras_tinytrain.fewshot.augmentation import fixed_views
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.model.layers import layer_table

ACCOUNTING = paper_cost.PaperAccounting()
COSTS = ("trained_weights", "memory_bytes", "device_bytes", "backward_macs")
NUM_VIEWS = 4  # fixed augmented copies of each support sample
STATIC_TASKS = 3  # tasks per domain from which the static plan is made


class Runner:
    """A backbone, its domains and what they share between tasks."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.budget = settings.chosen_budget

    @functools.cached_property
    def domains(self):
        return {name: load_domain(name) for name in self.settings.domains}

    @functools.cached_property
    def backbone(self):
        return _backbone(self.settings.backbone, self.settings.weights)

    @functools.cached_property
    def table(self):
        return layer_table(self.backbone)

    def run(self, job: Job) -> list[dict]:
        """A row per method, with the fields of `results.FIELDS`. Methods that differ only in their answers learn once."""
        domain = self.domains[job.domain]
        task = self._task(domain, job.episode, self.settings.seed)
        about, learned, rows = row_key(self.settings, job.domain, job.episode), {}, []
        for name in job.methods:
            method = self.settings.method(name)
            same = dataclasses.replace(method, name="", average=0.0, ridge=False, auto=False)
            if same not in learned:
                learned[same] = self._timed(method, task)
            outcome, seconds = learned[same]
            found = {"accuracy": outcome.accuracy(task, method), "seconds": seconds}
            rows.append({**about, "method": name, "learning_rate": method.learning_rate, **outcome.costs, **found})
        return rows

    @functools.cached_property
    def static_plan(self):
        """The plan by the mean Fisher information over tasks of all domains that are drawn with another seed."""
        tasks = [self._scored(self.domains[name], episode) for name in self.settings.domains for episode in range(STATIC_TASKS)]
        return static_plan(tasks)

    def _task(self, domain, episode, seed):
        return draw_task(domain, self.settings.shape, self.backbone.input_shape[1:], seed=seed, episode=episode)

    def _timed(self, method, task):
        start = time.perf_counter()
        outcome = self.learn(method, task)
        return outcome, round(time.perf_counter() - start, 3)

    def learn(self, method: Method, task: NumberedTask) -> "Outcome":
        """What a method learned from a task, and at which cost."""
        if method.strategy == "none":
            classifier = prototype_classifier(self.backbone, task.support_x, task.support_y)
            return Outcome(classifier, dict.fromkeys(COSTS, 0))
        if method.strategy == "transductive":
            return self._transductive(method, task)
        if method.strategy == "tinytl":
            network = self._lite_residual_network(method.drop)
            return self._adapt(network, method, task, {"plan": tiny_tl_plan(network)})
        fixed = self._fixed_plan(method.strategy)
        if fixed is not None:
            return self._adapt(self.backbone, method, task, {"plan": fixed})
        options = {"strategy": method.strategy, "rule": method.rule, "kinds": method.kinds}
        return self._adapt(self.backbone, method, task, {"budget": self.budget, "accounting": ACCOUNTING, **options})

    @functools.cache  # a runner lives as long as its process  # noqa: B019
    def _fixed_plan(self, strategy):
        """The plan of a strategy that does not look at the task; None of one that does."""
        if strategy == "static":
            return self.static_plan
        if strategy.startswith("sparse_update "):
            return scheme_plan(self.table, strategy.removeprefix("sparse_update "))
        return {"last_layer": last_layer_plan, "full": full_plan}.get(strategy, lambda table: None)(self.table)

    def _adapt(self, network, method, task, choice):
        classifier = adapt(
            network,
            task.support_x,
            task.support_y,
            iterations=self.settings.iterations,
            learning_rate=method.learning_rate,
            augment=task.style,
            num_views=NUM_VIEWS,
            seed=task.number,
            average=method.average,
            leave_one_out=method.leave_one_out,
            stop_loss=method.stop_loss,
            skip_loss=method.skip_loss,
            late_prototypes=method.late_prototypes,
            head="ridge" if method.gated else "prototypes",
            only_if_needed=method.gated,
            **choice,
        )
        return Outcome(classifier, self._costs(network, classifier.plan, task))

    @functools.cache  # a runner lives as long as its process  # noqa: B019
    def _lite_residual_network(self, drop):
        return lite_residual_network(self.backbone, drop=drop)

    def _transductive(self, method, task):
        views = fixed_views(task.support_x, task.style, num_views=NUM_VIEWS, seed=task.number)
        accuracy = self._tuner(method.learning_rate).accuracy(task.support_x, task.support_y, views, task.query_x, task.query_y)
        return Outcome(accuracy, self._costs(self.backbone, full_plan(self.table), task))

    @functools.cache  # a runner lives as long as its process  # noqa: B019
    def _tuner(self, learning_rate):
        return TransductiveTuner(self.backbone, iterations=self.settings.iterations, learning_rate=learning_rate)

    def _scored(self, domain, episode):
        """The task of a strategy, on samples that are not measured: they are drawn with another seed."""
        task = self._task(domain, episode, self.settings.seed + 1)
        classifier = prototype_classifier(self.backbone, task.support_x, task.support_y)
        view = fixed_views(task.support_x, task.style, num_views=1, seed=task.number)[0]
        loss = planner.summed_cross_entropy(task.support_y)
        return make_task(classifier.model, view, loss, self.budget, accounting=ACCOUNTING)

    def _costs(self, network, plan, task):
        """The cost of training `plan`, None for nothing, at batch 1. The device's bytes are empty where its runtime lacks the kernels."""
        if plan is None:
            return dict.fromkeys(COSTS, 0)
        table, choice = layer_table(network), paper_cost.num_channels(plan)
        device = DeviceAccounting(
            num_samples=len(task.support_x), num_views=NUM_VIEWS, num_classes=int(np.max(task.support_y)) + 1
        )
        on_device = network is self.backbone
        return {
            "trained_weights": paper_cost.num_trained_weights(table, choice),
            "memory_bytes": ACCOUNTING.memory_bytes(table, choice),
            "device_bytes": device.memory_bytes(table, choice) if on_device else "",
            "backward_macs": paper_cost.backward_macs(table, choice),
        }


@functools.lru_cache(maxsize=1)
def _backbone(name, weights):
    """One network per process, so that what `adapt` compiled for it serves the next `Runner` too."""
    return find_network(name).build(weights)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one method on one task.

    Args:
        learned: the classifier; or its accuracy, of a method that leaves nothing else.
        costs: the columns COSTS.
    """

    learned: FewShotClassifier | float
    costs: dict[str, int | str]

    def accuracy(self, task: Episode, method: Method) -> float:
        """Fraction of queries whose class is right, by the method's head, averaged with the original network's as it says."""
        if isinstance(self.learned, float):
            return self.learned
        learned = self.learned
        if method.ridge or method.auto:
            solved = learned.with_ridge_head(task.support_x, task.support_y)
            learned = solved if method.ridge or solved.closed_form_holds else learned
        learned.average = method.average
        return float(learned.evaluate(task.query_x, task.query_y))
