"""How do I run a bundle? On this machine, on a Linux board, on an emulated board, or over a serial port."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.run.edge import EdgeRuntime
    from keras_tinytrain.run.emulation import EmulatedTask, emulate_task
    from keras_tinytrain.run.emulator import EmulatedBoard
    from keras_tinytrain.run.from_device import classifier_from_device
    from keras_tinytrain.run.host import HostRuntime
    from keras_tinytrain.run.on_grid import on_grid_model
    from keras_tinytrain.run.serial_port import Device

_HOMES = {
    "Device": "serial_port",
    "EdgeRuntime": "edge",
    "EmulatedBoard": "emulator",
    "EmulatedTask": "emulation",
    "HostRuntime": "host",
    "classifier_from_device": "from_device",
    "emulate_task": "emulation",
    "on_grid_model": "on_grid",
}
__all__ = [
    "Device",
    "EdgeRuntime",
    "EmulatedBoard",
    "EmulatedTask",
    "HostRuntime",
    "classifier_from_device",
    "emulate_task",
    "on_grid_model",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
