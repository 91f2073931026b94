"""How the device trains, unless the sketch says otherwise."""

import dataclasses
import math

_OPTIMIZERS = ("sgd", "momentum", "adam")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The C++ struct of the same name; defaults are those of the paper's few-shot setting on a microcontroller.

    Args:
        optimizer: "sgd", "momentum" or "adam": 0, 1 or 2 float32 of state a trained weight.
        learning_rate: step size.
        momentum: decay of the velocity, or Adam's beta 1.
        beta_2, epsilon: Adam's.
        logit_scale: logits are logit_scale * cosine (head "prototypes").
        iterations: optimizer steps that `Train` takes.
        num_classes: at most 255. None: the model's logits with head "softmax", else 5.
        max_samples: labelled samples that are kept.

    Raises:
        ValueError: a setting is out of range; it is named.
    """

    optimizer: str = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    logit_scale: float = 10.0
    iterations: int = 40
    num_classes: int | None = None
    max_samples: int = 25

    def __post_init__(self):
        if self.optimizer not in _OPTIMIZERS:
            raise ValueError(f"optimizer expects one of {', '.join(_OPTIMIZERS)}. Received: {self.optimizer!r}")
        for name, low, high in (
            ("learning_rate", 0, math.inf),
            ("momentum", 0, 1),
            ("beta_2", 0, 1),
            ("iterations", 0, 2**31),
            ("num_classes", 1, 256),
            ("max_samples", 1, 65536),
        ):
            value = getattr(self, name)
            if not (value is None and name == "num_classes") and not low <= value < high:
                raise ValueError(f"{name} expects a value in [{low}, {high}). Received: {value!r}")
        for name in ("epsilon", "logit_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} expects a positive number. Received: {getattr(self, name)!r}")
