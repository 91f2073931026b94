"""`Budget`, `LayerPlan` and `Plan`: the limits of training and the channels to train, plain values that are saved as JSON."""

import dataclasses
import json
import math
import operator
import os
import re
import sys
from collections.abc import Callable
from typing import Protocol

from keras_tinytrain._files import write_file
from keras_tinytrain.device_settings import DeviceSettings

_UNITS = {"": 1, "B": 1, "KB": 1024, "KIB": 1024, "MB": 1024**2, "MIB": 1024**2}
_MAX_BYTES = 2**63
_PLAN_VERSIONS = (1, 2, 3)  # 2 has "device", 3 a budget's "time"; a plan is written as the first version that has what it says
_SECONDS = {"": 1, "s": 1, "min": 60, "h": 3600}
_MAX_SECONDS = 7 * 24 * 3600


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits within which layers and channels are chosen.

    Args:
        memory: bytes, or text such as "256KB" (1 KB = 1024 bytes). `choose.sram` and `choose.paper_cost` say what is counted.
            None sets no memory limit; where a board is named, its memory is the limit.
        compute: a fraction in (0, 1] of the multiply-accumulates of a full backward pass, or, above 1, a number of
            multiply-accumulates per sample.
        time: seconds in which a board learns a task, or text such as "10s" or "2min". `export_tflm` and `keras-tinytrain plan`
            take the most training that fits: 40, 20, 10 or 5 iterations, else the closed-form head or the prototypes alone.

    Raises:
        ValueError: a limit is not positive or cannot be read.
    """

    memory: int | str | None = None
    compute: float = 0.15
    time: float | str | None = None

    def __post_init__(self):
        object.__setattr__(self, "memory", None if self.memory is None else parse_bytes(self.memory))
        object.__setattr__(self, "time", None if self.time is None else parse_seconds(self.time))
        if not (isinstance(self.compute, (int, float)) and 0 < self.compute < math.inf):
            raise ValueError(
                f"Budget(compute=...) expects a fraction in (0, 1] or a number of MACs above 1. Received: {self.compute!r}"
            )

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes; `sys.maxsize` where there is none."""
        return sys.maxsize if self.memory is None else int(self.memory)  # a number since __post_init__

    @property
    def seconds(self) -> float | None:
        """The time limit; None where there is none."""
        return None if self.time is None else float(self.time)  # a number since __post_init__

    def check_untimed(self) -> None:
        """Raise ValueError where there is a time limit and nobody knows a board."""
        if self.time is not None:
            raise ValueError(
                "Budget(time=...) is a time on a board: give it to export_tflm(budget=...) or to `keras-tinytrain plan --time`. Here "
                f"say how often to train, such as iterations=10 or epochs=10. Received: time={self.time!r}"
            )

    def backward_macs(self, full_backward_macs: int) -> int:
        """The compute limit in multiply-accumulates, given those of a full backward pass."""
        return int(self.compute * full_backward_macs if self.compute <= 1 else self.compute)


@dataclasses.dataclass(frozen=True)
class LayerPlan:
    """The output channels of one layer that are trained.

    Args:
        name: as in the user's model.
        channels: ascending.
        kernel: False trains the biases of these channels only.
    """

    name: str
    channels: tuple[int, ...]
    kernel: bool = True

    def __post_init__(self):
        if not isinstance(self.name, str) or not isinstance(self.kernel, bool):
            raise ValueError(
                f"LayerPlan expects a layer's name, and kernel True or False. Received: {self.name!r}, {self.kernel!r}"
            )
        channels = tuple(operator.index(channel) for channel in self.channels)
        if not channels or list(channels) != sorted(set(channels)) or channels[0] < 0:
            raise ValueError(
                f"LayerPlan({self.name!r}) expects at least one channel index, ascending and without repeats. "
                f"Received: {channels[:10]}"
            )
        object.__setattr__(self, "channels", channels)


class Explanation(Protocol):
    """The scores and costs that a plan was chosen by: `choose.explain.Explanation`."""

    @property
    def candidates(self) -> str:
        """How many of the model's layers are candidates, and why the others are not, in one line."""
        ...

    @property
    def choose(self) -> Callable[[Budget], "Plan"]:
        """budget -> the plan for it by the same scores."""
        ...

    def text(self, plan: "Plan") -> str:
        """See `Plan.explain`."""
        ...


@dataclasses.dataclass(frozen=True)
class Plan:
    """Layers to train, in the model's order; everything not named is frozen.

    Args:
        layers: one `LayerPlan` per trained layer.
        budget: the limits under which it was chosen, if any.
        strategy: name of the strategy that chose it.
        explanation: the scores and costs for `explain`; None for a plan that was not chosen in this process. It is not saved.
        device: what it was chosen for, which an export takes over; None for a plan that is for no board in particular.
    """

    layers: tuple[LayerPlan, ...]
    budget: Budget | None = None
    strategy: str = "manual"
    explanation: Explanation | None = dataclasses.field(default=None, compare=False, repr=False)
    device: DeviceSettings | None = None

    def __post_init__(self):
        layers = tuple(self.layers)
        names = [layer.name for layer in layers]
        if len(set(names)) != len(names):
            raise ValueError(f"Plan expects each layer once. Received: {names}")
        object.__setattr__(self, "layers", layers)

    def __getitem__(self, name: str) -> LayerPlan:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def __str__(self) -> str:
        """ "Plan by fisher: trains 150 channels of 2 layers, b5.pw2 6, b6.pw1 144"."""
        of_layers = f"{self.num_channels} channels of {len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        named = ", ".join(f"{layer.name} {len(layer.channels)}{'' if layer.kernel else ' biases'}" for layer in self.layers)
        return f"Plan by {self.strategy}: trains {of_layers}, {named}" if named else f"Plan by {self.strategy}: trains nothing"

    @property
    def num_channels(self) -> int:
        return sum(len(layer.channels) for layer in self.layers)

    def explain(self) -> str:
        """A table of the candidate layers: potential, size, score, why each was taken or left, and what more memory would add.

        Raises:
            ValueError: the plan was read from a file or written by hand, so its scores are not known.
        """
        if self.explanation is None:
            raise ValueError(unexplained(self))
        return self.explanation.text(self)

    def save(self, path: str | os.PathLike) -> None:
        """Write the plan as JSON: the old file stays until the new one is whole."""
        write_file(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Plan":
        """Read a plan that `save` wrote. Raises ValueError where the file is none."""
        with open(path, encoding="utf-8", errors="replace") as file:
            return cls.from_json(file.read(), source=os.fspath(path))

    def to_json(self) -> str:
        fields = {
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "budget": self.budget and {name: value for name, value in vars(self.budget).items() if name != "time"},
            "strategy": self.strategy,
        }
        if self.device is not None:
            fields["device"] = dataclasses.asdict(self.device)
        version = _PLAN_VERSIONS[self.device is not None]
        if self.budget is not None and self.budget.time is not None:
            version, fields["budget"] = _PLAN_VERSIONS[2], dataclasses.asdict(self.budget)
        return json.dumps({"keras_tinytrain_plan": version, **fields}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "text") -> "Plan":
        try:
            fields = json.loads(text)
            version = fields.pop("keras_tinytrain_plan")
            plan = cls._of(fields) if version in _PLAN_VERSIONS else None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{source} is not a plan written by Plan.save: {error}") from error
        if plan is None:
            read = f"{', '.join(map(str, _PLAN_VERSIONS[:-1]))} and {_PLAN_VERSIONS[-1]}"
            raise ValueError(f"{source} is a plan of version {version}, this release reads versions {read}.")
        return plan

    @classmethod
    def _of(cls, fields: dict) -> "Plan":
        """From a file's fields; an unknown one is refused."""
        layers = tuple(LayerPlan(**layer) for layer in fields.pop("layers"))
        budget, strategy, device = fields.pop("budget"), fields.pop("strategy"), fields.pop("device", None)
        if fields:
            raise ValueError(f"unknown fields {sorted(fields)}")
        return cls(layers, budget and Budget(**budget), strategy, device=device and DeviceSettings(**device))


def unexplained(plan: Plan) -> str:
    """The error's text where the scores of a plan are asked for and not known."""
    return (
        f"This plan (strategy '{plan.strategy}') was not chosen here, so its scores are not known. Choose it anew with "
        "TinyTrainCallback, or with `keras-tinytrain plan --explain`."
    )


def parse_bytes(amount: int | str, name: str = "memory") -> int:
    """Bytes from a positive number or from text such as "256KB", "0.5 MB" (1 KB = 1024 bytes); `name` is the parameter's, for the error."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", str(amount))
    num_bytes = float(match[1]) * _UNITS.get(match[2].upper(), 0) if match else 0.0
    if not 1 <= num_bytes < _MAX_BYTES:
        raise ValueError(
            f'{name} expects a positive number of bytes, at most 8 EiB, such as 262144, "256KB" or "1MB". Received: {amount!r}'
        )
    return int(num_bytes)


def parse_seconds(time: float | str) -> float:
    """Seconds from a positive number or from text such as "10s", "1.5 min" or "1h"; at most a week."""
    match = None if isinstance(time, bool) else re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(s|min|h|)", str(time).strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError(
            f'time expects seconds, such as 10, or a text with a unit, such as "10s", "2min" or "1h", at most a week. '
            f"Received: {time!r}"
        )
    return seconds
