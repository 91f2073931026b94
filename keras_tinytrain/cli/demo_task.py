"""The demo's tasks, step by step: choose and train in Keras, export, train again on devices, compare."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import keras
import numpy as np

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.choose import selection
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.cli.demo_device import Devices, HostTask
from keras_tinytrain.cli.demo_settings import COMPUTE, HEAD, ITERATIONS, METHODS, SHIFTS, DemoSettings
from keras_tinytrain.cli.tables import flat_bytes
from keras_tinytrain.data import Domain, load_digits, seen_by_camera
from keras_tinytrain.data.episodes import Episode, sample_episode
from keras_tinytrain.delta import Delta
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.export.head import CLOSED_FORM
from keras_tinytrain.fewshot.adaptation import adapt, classifier_from_delta, prototype_classifier
from keras_tinytrain.fewshot.augmentation import shift_views
from keras_tinytrain.fewshot.classifier import FewShotClassifier
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run.emulation import EmulatedTask

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
    """One task as it went in Keras, in C++ on this machine and on an emulated board.

    Args:
        exported: the task, its classifier and its bundle.
        host: how the exported C++ learned it.
        board: how the emulated board did; None where there is none.
        answers: by method, the class that it gives each query.
        checks: steps, and whether they held.
    """

    exported: Exported
    host: HostTask
    board: EmulatedTask | None
    answers: dict[str, np.ndarray]
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


def run_tasks(
    settings: DemoSettings, board: str, seed: int, folders: Sequence[pathlib.Path], devices: Devices, step: Step
) -> tuple[keras.Model, list[TaskResult]]:
    """(the network, a result a task); the bundle of each is written to one of `folders`.

    Each task goes to an emulated board as soon as it is exported. What is shorter, or only Keras can do, comes after.
    """
    backbone = NanoNet()
    tasks: list[Exported] = []
    boards: list[Future[EmulatedTask] | None] = []
    results: list[TaskResult] = []
    for number, folder in enumerate(folders):
        tasks.append(learn_and_export(backbone, settings, board, draw_task(settings, seed, number), folder, step))
        boards.append(devices.learn_on_board(tasks[-1].bundle, tasks[-1].episode))
    hosts = [devices.learn_on_host(each.bundle, each.episode) for each in tasks]
    answers = [answer_in_keras(backbone, settings, each, step) for each in tasks]
    for exported, host, emulated, by_keras in zip(tasks, hosts, boards, answers, strict=True):
        step(f"devices: task {len(results) + 1} of {len(tasks)}")
        results.append(_result(backbone, exported, host.result(), emulated and emulated.result(), by_keras))
    return backbone, results


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
        head=HEAD,
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
        closed_form=device.head == CLOSED_FORM,
    )


def learn_and_export(
    backbone: keras.Model, settings: DemoSettings, board: str, episode: Episode, folder: pathlib.Path, step: Step
) -> Exported:
    """Choose and train in Keras; the bundle is written to `folder`."""
    device = device_for(settings, board, episode)
    step(f"{METHODS['tiny_train']}: {ITERATIONS} iterations")
    learned = adapt_task(backbone, settings, device, episode)
    plan = learned.plan
    assert plan is not None  # it trained something
    step("export: int8 models, tables, sketch")
    bundle = export_task(backbone, plan, settings, device, episode, folder)
    return Exported(episode, device, learned, plan, bundle)


def answer_in_keras(backbone: keras.Model, settings: DemoSettings, exported: Exported, step: Step) -> dict[str, np.ndarray]:
    """By method that runs in Keras, the class that it gives each query."""
    episode = exported.episode
    others = learn_otherwise(backbone, settings, exported.device, episode, step)
    return {name: each.predict(episode.query_x) for name, each in {"tiny_train": exported.learned, **others}.items()}


def _result(backbone, exported, host, board, answers):
    """A task's result; what must hold is checked."""
    answers = answers | {"runtime": host.logits.argmax(axis=1)}
    checks = {
        "promised bytes are the bytes used": flat_bytes(host.bytes_used) == flat_bytes(exported.bundle.promised_bytes),
        "a fresh copy of the C++ answers the same from the saved delta": host.reloads,
        "a fresh copy in Keras answers the same from the saved delta": _loads_in_keras(backbone, exported),
    }
    if board is not None:
        answers["board"] = board.logits.argmax(axis=1)
        checks["the emulated board learns the same, bit for bit"] = board.delta == host.delta
    return TaskResult(exported, host, board, answers, checks)


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
        step(f"{METHODS[method]}: {ITERATIONS} iterations")
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
        iterations=iterations or ITERATIONS,
        learning_rate=settings.learning_rates[method],
        shifts=SHIFTS,
        head=HEAD,
        accounting=accounting_of(device),
    )


def export_task(
    backbone: keras.Model, plan: Plan, settings: DemoSettings, device: DeviceSettings, episode: Episode, folder: pathlib.Path
) -> Bundle:
    """Export a task with the demo's views and training."""
    training = TrainingSettings(learning_rate=settings.learning_rates["tiny_train"], iterations=ITERATIONS)
    planned, views = dataclasses.replace(plan, device=device), shift_views(episode.support_x, SHIFTS)
    samples = np.concatenate([episode.support_x, *views])
    return export_tflm(backbone, planned, calibration=samples, out=folder, training=training.on(device))


def _loads_in_keras(backbone, exported):
    learned, queries = exported.learned, exported.episode.query_x
    restored = classifier_from_delta(backbone, Delta.from_bytes(learned.delta.to_bytes()))
    return np.array_equal(restored.logits(queries), learned.logits(queries))
