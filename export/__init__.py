"""Export a Keras model and a plan to a firmware bundle for TensorFlow Lite Micro, and run that bundle on the host."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from .adaptive import Candidates
    from .boards import BOARDS, Board, board
    from .bundle import export_tflm
    from .bundle_folder import Bundle
    from .host import HostRuntime
    from .settings import TrainingSettings

_HOMES = {
    "BOARDS": "boards",
    "Board": "boards",
    "Bundle": "bundle_folder",
    "Candidates": "adaptive",
    "HostRuntime": "host",
    "TrainingSettings": "settings",
    "board": "boards",
    "export_tflm": "bundle",
}
__all__ = ["BOARDS", "Board", "Bundle", "Candidates", "HostRuntime", "TrainingSettings", "board", "export_tflm"]


def __getattr__(name):
    """Public names load when they are first used: a bundle is read and run where there is no TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
