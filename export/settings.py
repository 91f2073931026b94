"""How the device trains, unless the sketch says otherwise."""

import dataclasses
import math

from keras_tinytrain._kinds import check_kinds
from keras_tinytrain.choose.training_memory import OPTIMIZERS, WEIGHTS
from keras_tinytrain.device_settings import DeviceSettings, unsaid
from keras_tinytrain.tflm_runtime.headers import names

_CHOICES = {"optimizer": tuple(OPTIMIZERS), "weights": WEIGHTS, "updates": tuple(names("tinytrain_tables.h", "Updates"))}
# Choices of an export, here because the command line lists them and this module loads no TensorFlow.
WEIGHTS_IN_RAM = {"cheapest": None, "selected": True, "whole": False}  # what `choose_split` is told
SKETCHES = ("serial", "imu", "camera")
PROJECTS = ("arduino", "platformio", "esp-idf", "zephyr", "cmake")
FLAGS = {  # of the fields of `DeviceSettings` that the command line sets
    "board": "--board",
    "kernels": "--kernels",
    "head": "--head",
    "max_samples": "--max-samples",
    "features": "--features",
    "optimizer": "--optimizer",
    "weights": "--trained-weights",
    "views": "--view",
    "scale": "--scale",
    "offset": "--offset",
    "reject_unknown": "--reject-unknown",
    "maps": "--maps",
}


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The C++ struct of the same name; defaults are those of the paper's few-shot setting on a microcontroller.

    Args:
        optimizer: one of `keras_tinytrain.choose.training_memory.OPTIMIZERS`, which says how much state each keeps. The formulas
            are those of Keras (tinytrain/trainer/optimizer.h). "adam_per_channel" is Adam with one second moment for all
            weights of a channel's kernel, and one for its bias.
        weights: "float_masters": a float32 of each trained weight beside the int8 of the forward pass; "int8": that alone,
            with stochastic rounding at each step (Philox keyed by seed, step and weight), right on average.
        updates: "accumulated": one optimizer step an iteration, by the mean gradient of all samples; "immediate": one after
            each sample, so that an iteration takes as many as there are samples.
        leave_one_out: a sample's own embedding is left out of its class's prototype in the loss (head "prototypes").
        learning_rate: step size.
        momentum: decay of the velocity, or of Adam's first moment (beta 1).
        beta_2: decay of the second moment.
        epsilon: added to the denominator.
        logit_scale: logits are logit_scale * cosine (head "prototypes").
        average: the share of the original network in a prediction, 0 to 1 (head "prototypes"): logits = (1 - average) *
            adapted + average * original, each by prototypes of its own. 0: the adapted network alone, without the second run.
        iterations: times that `Train` goes through the samples. None: as few as the head needs, see `for_head`.
        num_classes: at most 255. None: the model's logits with head "softmax", else 5.
        max_samples: labelled samples that are kept.
        seed: of the rounding of weights "int8", 32 bits.
        stop_loss, skip_loss: as for `fewshot.adapt`; 0 leaves nothing out.
        late_prototypes: as for `fewshot.adapt`. None: where the head loses nothing by it, see `for_head`.
        only_if_needed: as for `fewshot.adapt`, by the present weights: of bundles with head "ridge".

    Raises:
        ValueError: a setting is of another kind or out of range; it is named.
    """

    optimizer: str = "adam"
    weights: str = "float_masters"
    updates: str = "accumulated"
    leave_one_out: bool = True
    learning_rate: float = 3e-3
    momentum: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    logit_scale: float = 10.0
    average: float = 0.5
    iterations: int | None = None
    num_classes: int | None = None
    max_samples: int = 25
    seed: int = 0
    stop_loss: float = 0.0
    skip_loss: float = 0.0
    late_prototypes: bool | None = None
    only_if_needed: bool = False

    def __post_init__(self):
        check_kinds(self)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} expects one of {', '.join(choices)}. Received: {getattr(self, name)!r}")
        if not 0 <= self.average <= 1:
            raise ValueError(f"average expects a number in [0, 1]. Received: {self.average!r}")
        for name, low, high in (
            ("learning_rate", 0, math.inf),
            ("momentum", 0, 1),
            ("beta_2", 0, 1),
            ("iterations", 0, 2**31),
            ("num_classes", 1, 256),
            ("max_samples", 1, 65536),
            ("seed", 0, 2**32),
            ("stop_loss", 0, math.inf),
            ("skip_loss", 0, math.inf),
        ):
            value = getattr(self, name)
            if not (value is None and name in ("iterations", "num_classes")) and not low <= value < high:
                raise ValueError(f"{name} expects a value in [{low}, {high}). Received: {value!r}")
        for name in ("epsilon", "logit_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} expects a positive number. Received: {getattr(self, name)!r}")

    def for_head(self, head: str, *, chosen: bool = False, in_time: bool = False) -> "TrainingSettings":
        """These settings, with iterations and late prototypes as `device_settings.unsaid` has them where nothing was said."""
        iterations, late = unsaid(head, chosen=chosen, in_time=in_time)
        return dataclasses.replace(
            self,
            iterations=iterations if self.iterations is None else self.iterations,
            late_prototypes=late if self.late_prototypes is None else self.late_prototypes,
        )

    def on(self, device: DeviceSettings) -> "TrainingSettings":
        """These settings on a device: its samples and classes, its optimizer and weights."""
        return dataclasses.replace(
            self,
            optimizer=device.optimizer,
            weights=device.weights,
            num_classes=device.num_classes,
            max_samples=device.max_samples,
        )
