"""`DeviceSettings`: the limits and habits of a device, a value that a plan carries from its choice to the board."""

import dataclasses
import math

AUTO = "auto"  # as a head: the closed-form head or the prototypes, whichever gets more samples right that are left out
_UNSAID = {"ridge": (10, True), "prototypes": (40, False), "softmax": (40, False)}


def unsaid(head: str, *, chosen: bool = False, in_time: bool = False) -> tuple[int, bool]:
    """(iterations, whether prototypes are late) where nobody says.

    With the closed-form head, 10 iterations with late prototypes answer as well as 40 without. The prototypes alone need 40, which
    are the paper's (Kwon et al., ICML 2024). Where `AUTO` chose them, images lose nothing by 10; windows in time do
    (docs/results/savings.md).

    Args:
        head: what answers: "ridge", "prototypes" or "softmax".
        chosen: whether it was chosen, by `AUTO`.
        in_time: whether the network reads windows in time.
    """
    return _UNSAID["ridge" if chosen and not in_time else head]


@dataclasses.dataclass(frozen=True)
class DeviceSettings:
    """What a device keeps and how it trains. `export_tflm` takes from a plan's settings all that its caller does not say.

    Args:
        board: a key of `export.BOARDS`, or the path of a .toml file that describes one.
        max_samples: labelled samples that the device keeps.
        num_classes: that it tells apart, at most 255.
        class_names: one for each class; () where they have no names.
        head: "auto", "prototypes", "ridge" or "softmax", as for `export_tflm`.
        optimizer, weights: as in `export.TrainingSettings`.
        features: "ram" or "flash": where the device keeps the frozen part's outputs.
        views: (shift down, shift right, mirrored) of each copy of a sample that it keeps.
        scale, offset: stored values become the model's inputs as value * scale + offset, see `data.load_samples`.
        kernels: those that are linked on the board, see `export.Board`; "": as the board says.
        reject_unknown: of head "ridge": the rate at which a sample of no class may be taken for one, below 0.5, as for
            `FewShotClassifier.reject_unknown`; 0: every sample is of a class.
        maps: names of the layers that a closed-form head reads beside the embedding; (): those that `model.maps` finds.

    Raises:
        ValueError: there is not one name for each class, two are the same, or scale or offset is not finite.
        TypeError: a value is of another type.
    """

    board: str = "nano33ble"
    max_samples: int = 25
    num_classes: int = 5
    class_names: tuple[str, ...] = ()
    head: str = AUTO
    optimizer: str = "adam"
    weights: str = "float_masters"
    features: str = "ram"
    views: tuple[tuple[int, int, bool], ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    kernels: str = ""
    reject_unknown: float = 0.0
    maps: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "maps", tuple(self.maps))
        object.__setattr__(self, "views", tuple((int(down), int(right), bool(mirror)) for down, right, mirror in self.views))
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "offset", float(self.offset))
        object.__setattr__(self, "reject_unknown", float(self.reject_unknown))
        for field in dataclasses.fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind:
                raise TypeError(f"DeviceSettings({field.name}=...) expects {kind.__name__}. Received: {value!r}")
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError(f"DeviceSettings expects numbers as scale and offset. Received: {self.scale} and {self.offset}")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(
                f"DeviceSettings expects a name for each of its {self.num_classes} classes. Received: {self.class_names}"
            )
        if len(set(self.class_names)) < len(self.class_names) or "" in self.class_names:
            raise ValueError(
                f"DeviceSettings expects class names that differ, and none that is empty. Received: {self.class_names}"
            )
