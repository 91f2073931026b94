"""The backbones by the names that a command line knows. Loads no TensorFlow until one is built."""

import importlib
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    import keras

IMAGENET_BACKBONES = ("mcunet", "mobilenet_v2", "proxylessnas")
_HOMES = {  # {name: (module, function)}
    "mcunet": ("mcunet", "MCUNet"),
    "mobilenet_v2": ("mobilenet_v2", "MobileNetV2"),
    "proxylessnas": ("proxylessnas", "ProxylessNASNet"),
    "nanonet": ("nano", "NanoNet"),
    "gesturenet": ("gesture", "GestureNet"),
}
BACKBONES = tuple(_HOMES)


def find_backbone(name: str) -> "Callable[..., keras.Model]":
    """The function that builds the backbone `name`, one of BACKBONES. Raises ValueError where there is none."""
    if name not in _HOMES:
        raise ValueError(f"Known backbones: {', '.join(BACKBONES)}. Received: {name}")
    module, function = _HOMES[name]
    return getattr(importlib.import_module(f"keras_tinytrain.backbones.{module}"), function)
