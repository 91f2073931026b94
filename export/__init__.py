"""Export a Keras model and a plan to a firmware bundle for TensorFlow Lite Micro, and run that bundle on the host."""

from .boards import BOARDS, Board, board
from .bundle import Bundle, export_tflm
from .host import HostRuntime
from .settings import TrainingSettings

__all__ = ["BOARDS", "Board", "Bundle", "HostRuntime", "TrainingSettings", "board", "export_tflm"]
