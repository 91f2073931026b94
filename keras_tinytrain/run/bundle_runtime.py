"""What every way of running a bundle has in common: the C++ trainer over its tables, whatever computes the forward pass."""

import os
import pathlib

import numpy as np

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.plan import Budget, LayerPlan, Plan


class BundleRuntime:
    """A bundle's trainer, to be derived from by classes that know how to run its models.

    Args:
        bundle: as `checked_bundle` returns it.
        tables: address of its `Tables`.
        trainable: int8 input -> list of int8 outputs of trainable.tflite; its method bind(tensor_index, array) has a constant
            tensor read from `array` from then on.
        frozen: the same of frozen.tflite; None where nothing is frozen.
        settings: values to use instead of the bundle's own, such as {"iterations": 10}.
        owner: what the tables live in.
        flash: a `NorFlash` that keeps the samples' features; None: they are in RAM.
    """

    def __init__(self, bundle: Bundle, tables: int, trainable, frozen, *, settings: dict | None, owner, flash=None):
        self.bundle = bundle
        room = bundle.manifest.get("adaptive") or {}
        self.trainer = runtime_module().Trainer(
            tables,
            trainable,
            run_frozen=(lambda image: frozen(image)[0]) if frozen else None,
            bind=trainable.bind,
            settings=settings,
            owner=owner,
            flash=flash,
            arena_bytes=room.get("arena_bytes", 0),
            scratch_bytes=room.get("scratch_bytes", 0),
        )

    @property
    def plan(self) -> Plan:
        """What is trained: as exported or, of a bundle with candidates, as chosen; no layers where nothing was chosen yet."""
        layers = tuple(LayerPlan(name, tuple(channels.tolist())) for name, channels in self.trainer.trained().items())
        exported = self.bundle.plan
        return Plan(layers, exported.budget, "fisher" if self.bundle.manifest.get("adaptive") else exported.strategy)

    def select(self, budget: Budget | None = None) -> Plan:
        """Choose, from the stored samples, what to train; `train` does so by itself for a new task.

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
        """Store labelled samples: x (N, ...) in the model's own convention, y (N,) integers below num_classes."""
        images, labels = self._quantised(x), np.asarray(y)
        if labels.shape != (len(images),):
            raise ValueError(f"y expects one label per sample, shape ({len(images)},). Received shape: {labels.shape}")
        for image, label in zip(images, labels):
            self.trainer.add_sample(image, int(label))

    def train(self, progress=None) -> list[float]:
        """Train for the settings' iterations, or until `progress(iteration, loss)` returns False.

        Returns:
            The mean loss before each iteration.
        """
        losses = []

        def report(iteration, loss):
            losses.append(loss)
            return progress is None or progress(iteration, loss) is not False

        self.trainer.train(report)
        return losses

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, num_classes), float32, of x (N, ...) in the model's own convention."""
        return np.stack([self.trainer.predict(image)[1] for image in self._quantised(x)])

    def save_delta(self, path: str | os.PathLike, *, sequence: int = 0) -> None:
        """Write what was learned: changed channels and prototypes. `keras_tinytrain.Delta` reads the same file."""
        pathlib.Path(path).write_bytes(self.trainer.save_delta(sequence))

    def load_delta(self, path: str | os.PathLike) -> None:
        """Take over what was learned. Raises ValueError where the file is damaged or of another base model."""
        self.trainer.load_delta(pathlib.Path(path).read_bytes())

    def revert(self) -> None:
        """Back to the weights as exported; stored samples stay."""
        self.trainer.revert()

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8."""
        return quantise(self.bundle.input, x)

    def _quantised(self, x):
        return quantise_samples(self.bundle.input, x)


def selection_limits(bundle: Bundle, budget: Budget | None) -> tuple[int, int]:
    """The C++ struct `Budget`: bytes of the trainer's arena and backward multiply-accumulates; 0 for all that there is.

    Raises:
        ValueError: the bundle has no candidates, or the models' arena alone takes more than the budget.
    """
    room, model_arena = bundle.manifest.get("adaptive"), bundle.manifest["sram"]["model_arena"]
    if room is None:
        raise ValueError(
            f"Bundle {bundle.path} was exported with a plan. To choose on the device, export Candidates (--adaptive)."
        )
    if budget is None:
        return 0, 0
    if budget.memory_bytes <= model_arena:
        raise ValueError(f"The models' arena alone takes {model_arena:,} B, the budget is {budget.memory_bytes:,} B.")
    return budget.memory_bytes - model_arena, min(budget.backward_macs(room["full_backward_macs"]), 2**32 - 1)


def quantise(entry: dict, x: np.ndarray) -> np.ndarray:
    """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8; `entry`: `Bundle.input`."""
    q = np.rint(np.asarray(x, np.float32) / np.float32(entry["scale"])) + entry["zero_point"]
    return np.clip(q, -128, 127).astype(np.int8)


def quantise_samples(entry: dict, x: np.ndarray) -> np.ndarray:
    """`quantise` of samples (N, ...).

    Raises:
        ValueError: they are not of the shape that `entry`, a `Bundle.input`, says, or some value is NaN or infinite.
    """
    x, shape = np.asarray(x, np.float32), (entry["height"], entry["width"], entry["channels"])
    if x.ndim < 2 or (len(x) and x[0].size != np.prod(shape)):
        raise ValueError(f"x expects samples of shape {shape}, with a batch axis. Received shape: {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"x holds {int((~np.isfinite(x)).sum())} values that are NaN or infinite.")
    return quantise(entry, x)


def checked_bundle(bundle: Bundle | str | os.PathLike) -> Bundle:
    """A bundle that is as it was exported. Raises ValueError, naming the file, where it is not."""
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    bundle.check()
    return bundle


def runtime_module():
    """The compiled extension. Raises ImportError where it is not installed."""
    try:
        from keras_tinytrain import _runtime as module
    except ImportError as error:
        raise ImportError(
            "The compiled runtime keras_tinytrain._runtime is missing: install keras-tinytrain from a wheel, or build it "
            "from source with a C++ compiler."
        ) from error
    return module
