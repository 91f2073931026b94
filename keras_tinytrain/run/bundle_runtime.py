"""The C++ trainer over a bundle's tables: all that the ways of running a bundle have in common, except the forward pass."""

import collections.abc
import dataclasses
import importlib
import os
import pathlib
import types
import typing

import numpy as np

from keras_tinytrain._files import write_file
from keras_tinytrain.data.labels import check_labels
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.fewshot.unknown import UNKNOWN
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run.answering_head import answering_head, load_delta
from keras_tinytrain.run.nor_flash import NorFlash
from keras_tinytrain.run.quantise import quantise, quantise_samples

Settings = collections.abc.Mapping[str, bool | int | float | str]
Progress = collections.abc.Callable[[int, float], bool | None]


class ForwardModel(typing.Protocol):
    """A thing that runs a .tflite file, and lets its constants be replaced."""

    def __call__(self, x: np.ndarray, /) -> list[np.ndarray]:
        """int8 outputs of an int8 input, one array per output."""

    def bind(self, tensor_index: int, array: np.ndarray, /) -> None:
        """Read a constant tensor from `array` from now on."""


def stored_sample(outputs: list[np.ndarray]) -> np.ndarray:
    """What a device keeps of a sample: the frozen part's outputs, one after the other."""
    return outputs[0] if len(outputs) == 1 else np.concatenate([output.ravel() for output in outputs])


class BundleRuntime:
    """A bundle's trainer. Classes that know how to run its models derive from it.

    Calls from several threads wait for each other. A call from within `progress` is a RuntimeError.

    Args:
        bundle: as `checked_bundle` returns it.
        tables: address of its `Tables`.
        trainable: runs trainable.tflite.
        frozen: runs frozen.tflite; None where nothing is frozen.
        settings: values to use instead of the bundle's own, such as {"iterations": 10}.
        owner: the object that the tables' memory belongs to.
        flash: keeps the samples' features; None: they are in RAM.
        maps: address of the `Maps` of a closed-form head; 0: the bundle has none.
    """

    def __init__(
        self,
        bundle: Bundle,
        tables: int,
        trainable: ForwardModel,
        frozen: ForwardModel | None,
        *,
        settings: Settings | None,
        owner: object,
        flash: NorFlash | None = None,
        maps: int = 0,
    ):
        self.bundle = bundle
        self._num_classes = {**bundle.manifest["training"], **(settings or {})}["num_classes"]
        self._rejects = bundle.manifest.get("closed_form", {}).get("reject_unknown", 0) > 0
        room = bundle.manifest.get("adaptive") or bundle.manifest.get("closed_form") or {}
        self.trainer = runtime_module().Trainer(
            tables,
            trainable,
            run_frozen=(lambda image: stored_sample(frozen(image))) if frozen else None,
            bind=trainable.bind,
            settings=settings,
            owner=owner,
            flash=flash,
            arena_bytes=room.get("arena_bytes", 0),
            scratch_bytes=room.get("scratch_bytes", 0),
            maps=maps,
        )

    @property
    def plan(self) -> Plan:
        """The channels that are trained: as exported or, of a bundle with candidates, as chosen. No layers before a choice."""
        layers = tuple(LayerPlan(name, tuple(channels.tolist())) for name, channels in self.trainer.trained().items())
        strategy = "fisher" if self.bundle.manifest.get("adaptive") else self.bundle.plan.strategy
        return dataclasses.replace(self.bundle.plan, layers=layers, strategy=strategy)

    def select(self, budget: Budget | None = None) -> Plan:
        """Choose by the stored samples what to train. `train` does it by itself for a new task.

        Args:
            budget: SRAM in all and backward multiply-accumulates; None: all that the bundle was exported for.

        Returns:
            The plan.

        Raises:
            ValueError: the bundle was exported with a plan, or not one channel fits the budget.
            RuntimeError: there are not enough samples.
        """
        self.trainer.select(*selection_limits(self.bundle, budget))
        return self.plan

    def add_samples(self, x: np.ndarray, y: np.ndarray) -> None:
        """Store labelled samples: x (N, ...) in the model's own convention, y (N,) integers below num_classes.

        Raises:
            ValueError: a shape, a value or a label is none of the bundle's. Nothing is stored then.
            RuntimeError: there are not so many places left; `clear_samples` empties all of them.
        """
        images, labels = self._quantised(x), np.asarray(y)
        if labels.shape != (len(images),):
            raise ValueError(f"y expects one label per sample, shape ({len(images)},). Received shape: {labels.shape}")
        check_labels(labels.astype(int), len(images), self._num_classes, is_exported=True)
        self._store(images, labels)

    def add_unknown(self, x: np.ndarray) -> None:
        """Store samples (N, ...) of no class: the next `solve` tells the classes from them. Training leaves them out.

        Raises:
            ValueError: a shape or value is none of the bundle's, or it tells no unknown samples (`export_tflm(reject_unknown=...)`).
            RuntimeError: there are not so many places left.
        """
        images = self._quantised(x)
        self._store(images, np.full(len(images), self._num_classes))

    def _store(self, images: np.ndarray, labels: np.ndarray) -> None:
        settings, stored = self.trainer.settings, self.trainer.num_samples
        if stored + len(images) > settings["max_samples"]:
            raise RuntimeError(
                f"{stored} of at most {settings['max_samples']} samples (TrainingSettings.max_samples) are stored already, so "
                f"{len(images)} more have no place: {'call clear_samples() first, or ' if stored else ''}export the bundle for more."
            )
        for image, label in zip(images, labels):
            self.trainer.add_sample(image, int(label))

    def clear_samples(self) -> None:
        """Forget the stored samples, to make room for others. What was learned stays."""
        self.trainer.clear_samples()

    def train(self, progress: Progress | None = None) -> list[float]:
        """Train for the settings' iterations, or until `progress(iteration, loss)` returns False.

        Returns:
            The mean loss before each iteration.
        """
        losses: list[float] = []

        def report(iteration: int, loss: float) -> bool:
            losses.append(loss)
            return progress is None or progress(iteration, loss) is not False

        self.trainer.train(report)
        return losses

    def solve(self) -> np.ndarray:
        """Learn the stored samples by the closed-form head, without training: one pass of the trainable part for each.

        `train` ends with it. Deltas hold it.

        Returns:
            float32 (N, num_classes): the scores of each stored sample by the solution without it. Their argmax tells how well the
            task is learned, before any test. With samples of no class there is one more column, theirs.

        Raises:
            RuntimeError: the bundle has no such head (`export_tflm(..., head="ridge")`), or there are not samples of two classes (of
                one, where it tells unknown samples).
        """
        return self.trainer.solve()

    def add_class(self, x: np.ndarray) -> int:
        """Learn a further class from its samples x (N, ...): the first that has no sample. The closed-form head is solved anew for all
        stored samples, and nothing is trained.

        Returns:
            Its label.

        Raises:
            RuntimeError: every class has samples, there are not so many places left, or as `solve` does.
        """
        missing = set(range(self._num_classes)).difference(self.trainer.labels.tolist())
        if not missing:
            raise RuntimeError(
                f"All {self._num_classes} classes have samples: call remove_class(label), or export the bundle for more classes."
            )
        label = min(missing)
        self.add_samples(x, np.full(len(x), label))
        self.solve()
        return label

    def remove_class(self, label: int) -> None:
        """Forget a class and its samples; the closed-form head is solved anew for the others.

        Where features are in flash, the places of its samples are free again after `clear_samples` only.

        Raises:
            ValueError: there is no such class.
            RuntimeError: as `solve` does, such as where too few classes are left.
        """
        self.trainer.forget_class(label)
        self.solve()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, num_classes), float32, of x (N, ...) in the model's own convention."""
        return np.stack([self.trainer.predict(image)[1] for image in self._quantised(x)])

    def predict_classes(self, x: np.ndarray) -> np.ndarray:
        """Class of each sample, int64 (N,); -1 where it is of none, of bundles that tell unknown samples."""
        return np.array([self.trainer.predict(image)[0] for image in self._quantised(x)], np.int64)

    def predict_names(self, x: np.ndarray) -> list[str]:
        """The name of the class of each sample, as `Bundle.class_names` has it; its number where classes have no names; "unknown"."""
        return ["unknown" if label == UNKNOWN else self.bundle.class_name(label) for label in self.predict_classes(x)]

    def familiarity(self, x: np.ndarray) -> np.ndarray:
        """How much each sample is like those of the class that is answered, float (N,); below `threshold` it is unknown. With one
        class: the lower, the more of an anomaly.

        Raises:
            RuntimeError: the bundle tells no unknown samples, or was not solved.
        """
        self.predict_classes(x[:1])
        if not self.trainer.closed_form_answers or not self._rejects:
            raise RuntimeError(
                "A familiarity needs a solved closed-form head: export_tflm(head='ridge', reject_unknown=0.05), then solve()."
            )
        return np.array([self._familiarity(image) for image in self._quantised(x)], np.float64)

    @property
    def threshold(self) -> float | None:
        """Of the `familiarity`; None where every sample is of a class, such as with too few samples."""
        return self.trainer.threshold

    @property
    def head(self) -> str:
        """Which head answers, as the serial STATUS says it: "ridge", "prototypes" or "none" yet; "softmax" of a classifier."""
        return answering_head(self.bundle, self.trainer)

    def _familiarity(self, image: np.ndarray) -> float:
        self.trainer.predict(image)
        return self.trainer.familiarity

    def save_delta(self, path: str | os.PathLike, *, sequence: int = 0) -> None:
        """Write what was learned: changed channels and prototypes. `keras_tinytrain.Delta` reads the same file.

        The old file stays until the new one is whole.
        """
        write_file(path, self.trainer.save_delta(sequence))

    def load_delta(self, path: str | os.PathLike | bytes) -> None:
        """Take over what was learned, of a file or of its bytes.

        Raises:
            ValueError: the delta is damaged, of another base model, or of a missing head.
        """
        load_delta(self.bundle, self.trainer, path if isinstance(path, bytes) else pathlib.Path(path).read_bytes())

    def revert(self) -> None:
        """Go back to the weights as exported. Stored samples stay."""
        self.trainer.revert()

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8."""
        return quantise(self.bundle.input, x)

    def _quantised(self, x: np.ndarray) -> np.ndarray:
        return quantise_samples(self.bundle.input, x)


def selection_limits(bundle: Bundle, budget: Budget | None) -> tuple[int, int]:
    """The C++ struct `Budget`: bytes of the trainer's arena and backward multiply-accumulates; 0: all that the bundle has.

    Raises:
        ValueError: the bundle has no candidates, or the models' arena alone takes more than the budget.
    """
    room, sram = bundle.manifest.get("adaptive"), bundle.manifest["sram"]
    taken = sum(sram.get(part, 0) for part in ("model_arena", "closed_form", "variables"))
    if room is None:
        raise ValueError(
            f"Bundle {bundle.path} was exported with a plan. To choose on the device, export `Candidates` (on the command line: with "
            "--adaptive)."
        )
    if budget is None:
        return 0, 0
    budget.check_untimed()
    macs = min(budget.backward_macs(room["full_backward_macs"]), 2**32 - 1)
    if budget.memory is None:
        return 0, macs
    if budget.memory_bytes <= taken:
        raise ValueError(
            f"The models' arena and variables alone take {taken:,} B, the budget is {budget.memory_bytes:,} B: give a larger "
            "budget."
        )
    return budget.memory_bytes - taken, macs


def checked_bundle(bundle: Bundle | str | os.PathLike) -> Bundle:
    """A bundle that is as it was exported. Raises ValueError, naming the file, where it was altered."""
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    bundle.check()
    return bundle


def runtime_module() -> types.ModuleType:
    """The compiled extension. Raises ImportError where it is not installed."""
    try:
        return importlib.import_module("keras_tinytrain._runtime")
    except ImportError as error:
        raise ImportError(
            "The compiled runtime keras_tinytrain._runtime is missing: install keras-tinytrain from a wheel, or build it "
            "from source with a C++ compiler."
        ) from error
