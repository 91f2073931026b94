"""One task of the demo, step by step: choose and train in Keras, export, train again in the exported C++, compare."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from keras_tinytrain.choose import selection
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.cli.demo_settings import COMPUTE, METHODS, SHIFTS, DemoSettings
from keras_tinytrain.cli.tables import flat_bytes
from keras_tinytrain.data import Domain, load_digits, seen_by_camera
from keras_tinytrain.data.episodes import Episode, sample_episode
from keras_tinytrain.delta import Delta
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run import HostRuntime

STEPS_PER_TASK = 8
NUM_COMPARED = 50  # samples on which the reloaded C++ is compared
Step = Callable[[str], None]  # called with the name of the step that begins


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A task that Keras has learned and that any board can learn again.

    Args:
        episode: the task.
        device: what it was chosen for.
        learned: TinyTrain's classifier.
        plan: what it trained, chosen here.
        bundle: what was exported.
    """

    episode: Episode
    device: DeviceSettings
    learned: FewShotClassifier
    plan: Plan
    bundle: Bundle


@dataclasses.dataclass(frozen=True, eq=False)
class TaskResult:
    """One task as it went in Keras and in C++ on this machine.

    Args:
        exported: the task, its classifier and its bundle.
        answers: by method, the class that it gives each query.
        bytes_used: by part, as the running C++ reports them.
        delta: what the C++ learned.
        losses: of its iterations.
        checks: steps, and whether they held.
    """

    exported: Exported
    answers: dict[str, np.ndarray]
    bytes_used: dict[str, int]
    delta: bytes
    losses: list[float]
    checks: dict[str, bool]

    @property
    def episode(self) -> Episode:
        """The task."""
        return self.exported.episode

    @property
    def bundle(self) -> Bundle:
        """What was exported."""
        return self.exported.bundle

    @property
    def plan(self) -> Plan:
        """What TinyTrain trained, chosen here."""
        return self.exported.plan

    def accuracy_percent(self, method: str) -> float:
        """Share of the queries that a method answers right."""
        return 100 * float(np.mean(self.answers[method] == self.episode.query_y))


@functools.lru_cache
def digits(by_camera: bool) -> Domain:
    """The domain that tasks are drawn from."""
    return seen_by_camera(load_digits()) if by_camera else load_digits()


def draw_task(settings: DemoSettings, seed: int, number: int) -> Episode:
    """Task `number` of a seed."""
    return sample_episode(
        digits(settings.by_camera),
        ways=settings.ways,
        shots=settings.shots,
        queries=settings.queries,
        rng=np.random.default_rng([seed, number]),
    )


def device_for(settings: DemoSettings, board: str, episode: Episode | None = None) -> DeviceSettings:
    """What the demo's device keeps; its classes have the names of the digits."""
    in_flash = settings.features_in_flash and find_board(board).flash_page_bytes > 0
    return DeviceSettings(
        board=board,
        max_samples=settings.ways * settings.shots,
        num_classes=settings.ways,
        class_names=() if episode is None else tuple(map(str, episode.classes)),
        head="prototypes",  # trained, they are 3 points better here than the closed form
        features="flash" if in_flash else "ram",
        views=tuple((down, right, False) for down, right in SHIFTS),
    )


def accounting_of(device: DeviceSettings) -> DeviceAccounting:
    """The bytes that count on the demo's device."""
    return DeviceAccounting(
        num_samples=device.max_samples,
        num_views=len(device.views),
        num_classes=device.num_classes,
        features=device.features,
        kernels=find_board(device.board).kernels,
    )


def learn_and_export(
    backbone: keras.Model, settings: DemoSettings, board: str, episode: Episode, folder: pathlib.Path, step: Step
) -> Exported:
    """Choose and train in Keras; the bundle is written to `folder`."""
    device = device_for(settings, board, episode)
    step(f"{METHODS['tiny_train']}: {settings.iterations} iterations")
    learned = adapt_task(backbone, settings, device, episode)
    plan = learned.plan
    assert plan is not None  # it trained something
    step("export: int8 models, tables, sketch")
    bundle = export_task(backbone, plan, settings, device, episode, folder)
    return Exported(episode, device, learned, plan, bundle)


def compare(backbone: keras.Model, settings: DemoSettings, exported: Exported, step: Step) -> TaskResult:
    """All other steps of a task on this machine: other methods in Keras, the exported C++, what was saved."""
    episode, bundle, learned = exported.episode, exported.bundle, exported.learned
    classifiers = {"tiny_train": learned, **learn_otherwise(backbone, settings, exported.device, episode, step)}
    answers = {method: each.predict(episode.query_x) for method, each in classifiers.items()}
    step("the bundle's C++ on this machine: learning")
    runtime = HostRuntime(bundle)
    runtime.add_samples(episode.support_x, episode.support_y)
    losses = runtime.train()
    step("the bundle's C++ on this machine: answering")
    logits = runtime.predict(episode.query_x)
    answers["runtime"] = logits.argmax(axis=1)
    delta, used = runtime.trainer.save_delta(0), flat_bytes(runtime.bytes_used())
    checks = {
        "promised bytes are the bytes used": used == flat_bytes(bundle.promised_bytes),
        "a fresh copy of the C++ answers the same from the saved delta": _loads_in_cpp(delta, bundle, episode, logits),
        "a fresh copy in Keras answers the same from the saved delta": _loads_in_keras(backbone, learned, episode),
    }
    return TaskResult(exported, answers, used, delta, losses, checks)


def learn_otherwise(
    backbone: keras.Model, settings: DemoSettings, device: DeviceSettings, episode: Episode, step: Step
) -> dict[str, FewShotClassifier]:
    """{method: classifier} of the other methods that run in Keras."""
    step("prototypes and closed-form head of the untrained network")
    support = episode.support_x, episode.support_y
    before = prototype_classifier(backbone, *support)
    classifiers = {"none": before, "ridge": before.with_ridge_head(*support)}
    table = layer_table(backbone)
    for method, plan in (("last_layer", selection.last_layer_plan(table)), ("full_train", selection.full_plan(table))):
        step(f"{METHODS[method]}: {settings.iterations} iterations")
        classifiers[method] = adapt_task(backbone, settings, device, episode, plan=plan, method=method)
    return classifiers


def adapt_task(
    backbone: keras.Model,
    settings: DemoSettings,
    device: DeviceSettings,
    episode: Episode,
    *,
    plan: Plan | None = None,
    method: str = "tiny_train",
    iterations: int | None = None,
) -> FewShotClassifier:
    """Learn the task in Keras, by `plan` or within the device's memory."""
    budget = Budget(memory=find_board(device.board).available_sram_bytes, compute=COMPUTE)
    return adapt(
        backbone,
        episode.support_x,
        episode.support_y,
        plan=plan,
        budget=None if plan else budget,
        iterations=iterations or settings.iterations,
        learning_rate=settings.learning_rates[method],
        shifts=SHIFTS,
        head="prototypes",  # as the device answers
        accounting=accounting_of(device),
    )


def export_task(
    backbone: keras.Model, plan: Plan, settings: DemoSettings, device: DeviceSettings, episode: Episode, folder: pathlib.Path
) -> Bundle:
    """Export a task with the demo's views and training."""
    training = TrainingSettings(learning_rate=settings.learning_rates["tiny_train"], iterations=settings.iterations)
    planned, views = dataclasses.replace(plan, device=device), shift_views(episode.support_x, SHIFTS)
    samples = np.concatenate([episode.support_x, *views])
    return export_tflm(backbone, planned, calibration=samples, out=folder, training=training.on(device))


def _loads_in_cpp(delta, bundle, episode, logits):
    fresh = HostRuntime(Bundle.load(bundle.path))
    fresh.trainer.load_delta(delta)
    return np.array_equal(fresh.predict(episode.query_x[:NUM_COMPARED]), logits[:NUM_COMPARED])


def _loads_in_keras(backbone, learned, episode):
    restored = classifier_from_delta(backbone, Delta.from_bytes(learned.delta.to_bytes()))
    return np.array_equal(restored.logits(episode.query_x), learned.logits(episode.query_x))
