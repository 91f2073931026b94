"""A .tflite file in TensorFlow Lite Micro's own interpreter on this machine."""

import ctypes
import typing

import numpy as np

from keras_tinytrain.export.tflite.arena import new_interpreter
from keras_tinytrain.export.tflite.flatbuffer import constant, constant_offset, read_model
from keras_tinytrain.export.tflite.verify import verified


class MicroModel:
    """A .tflite file in `tflite_micro`'s interpreter, with constants that can be replaced.

    The interpreter reads constants from the bytes object that it was given. It gets the verified model, which nobody else
    holds, and arrays that are bound to a tensor are copied into it before each run.

    Args:
        model_bytes: the .tflite file.
        arena_bytes: for the interpreter's tensors, see `smallest_arena`.

    Raises:
        ValueError: the file is damaged, or TFLM cannot run it in so many bytes.
    """

    def __init__(self, model_bytes: bytes, arena_bytes: int):
        self._bytes = verified(model_bytes)
        self._interpreter = new_interpreter(self._bytes, arena_bytes)
        self._model = read_model(self._bytes)
        self._num_outputs = len(self._model.subgraphs[0].outputs)
        self._input_shape = self._interpreter.get_input_details(0)["shape"]  # asked once: each answer leaks in tflite_micro
        self._bound: dict[int, np.ndarray] = {}

    @property
    def num_inputs(self) -> int:
        """int8 values of the input."""
        return int(np.prod(self._input_shape))

    def bind(self, tensor_index: int, array: np.ndarray) -> None:
        """Read a constant tensor from `array` from now on. It replaces an array that was bound before.

        Raises:
            ValueError: the model has no constant tensor of this number, or one of another size.
        """
        value = constant(self._model, tensor_index) if tensor_index < len(self._model.subgraphs[0].tensors) else None
        if value is None or value.nbytes != array.nbytes:
            raise ValueError(
                f"The tables bind {array.nbytes} B to tensor {tensor_index} of the model, which is no such constant."
            )
        address = _address(self._bytes) + constant_offset(self._bytes, tensor_index)
        self._bound[address] = array

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """int8 outputs of an int8 input, one array per output."""
        for address, array in self._bound.items():
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self._interpreter.set_input(x.reshape(self._input_shape), 0)
        self._interpreter.invoke()
        return [self._interpreter.get_output(index) for index in range(self._num_outputs)]


def _address(data: bytes) -> int:
    """Of the contents of a bytes object."""
    return typing.cast(int, ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value)
