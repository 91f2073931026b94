"""How do I get a model and a plan onto a device? A firmware bundle for TensorFlow Lite Micro."""

import typing

from keras_tinytrain._old_paths import old_names
from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.export.adaptive import Candidates
    from keras_tinytrain.export.boards import BOARDS, Board, board
    from keras_tinytrain.export.bundle import export_tflm
    from keras_tinytrain.export.bundle_folder import Bundle
    from keras_tinytrain.export.settings import TrainingSettings

_HOMES = {
    "BOARDS": "boards",
    "Board": "boards",
    "Bundle": "bundle_folder",
    "Candidates": "adaptive",
    "TrainingSettings": "settings",
    "board": "boards",
    "export_tflm": "bundle",
}
__all__ = ["BOARDS", "Board", "Bundle", "Candidates", "TrainingSettings", "board", "export_tflm"]
_get, __dir__ = lazy_names(__name__, _HOMES)
__getattr__ = old_names(__name__, {"HostRuntime": "keras_tinytrain.run"}, _get)
