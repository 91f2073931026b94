"""Run a bundle on a Linux board, such as a Raspberry Pi: LiteRT goes forwards, the C++ that is flashed elsewhere goes backwards.

Neither TensorFlow nor Keras is imported, and no compiler is needed: numpy and one of `ai-edge-litert` and `tflite-runtime` are
enough.
"""

import importlib
import os
import types

import numpy as np

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.run._checked_tables import checked_tables
from keras_tinytrain.run.bundle_runtime import BundleRuntime, Settings, checked_bundle

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")


class EdgeRuntime(BundleRuntime):
    """A bundle's trainer on a Linux board; the methods are those of `keras_tinytrain.run.HostRuntime`.

    Calls from several threads wait for each other; a call from within `progress` is a RuntimeError.

    Args:
        bundle: a `Bundle`, or the path of one.
        settings: values to use instead of the bundle's own, such as {"iterations": 10}.
        exact: True computes with the reference kernels, whose int8 results equal TensorFlow Lite Micro's bit for bit, except
            dense layers in ai-edge-litert: they are off by one in one value of a thousand. False takes the optimised kernels,
            which are several times as fast and differ in more values.
        num_threads: of the interpreters.

    Raises:
        ValueError: the bundle was altered, or was exported for another version of the runtime. The error names the release
            of keras-tinytrain that runs it.
        ImportError: no interpreter, or no compiled runtime, is installed.

    Example:
        >>> edge = EdgeRuntime("faces", exact=False)  # doctest: +SKIP
        >>> edge.add_samples(x_support, y_support)  # doctest: +SKIP
        >>> losses = edge.train()  # doctest: +SKIP
        >>> labels = edge.predict(x_query).argmax(axis=1)  # doctest: +SKIP
    """

    def __init__(
        self, bundle: Bundle | str | os.PathLike, *, settings: Settings | None = None, exact: bool = True, num_threads: int = 1
    ):
        bundle = checked_bundle(bundle)
        tables = checked_tables(bundle)
        frozen = LiteModel(bundle.frozen, exact=exact, num_threads=num_threads) if bundle.frozen else None
        trainable = LiteModel(bundle.trainable, exact=exact, num_threads=num_threads)
        super().__init__(bundle, tables.address, trainable, frozen, settings=settings, owner=tables, maps=tables.maps)

    def bytes_used(self) -> dict[str, int]:
        """RAM of the trainer by part, and "total". The interpreters' own memory is not known."""
        return self.trainer.memory_parts()


class LiteModel:
    """A .tflite file in LiteRT's interpreter, with constants that can be replaced.

    The interpreter reads constants from the bytes that it was given, unless a delegate has packed them anew. It gets a copy that
    nobody else holds, and arrays that are bound to a tensor are copied into it before each run.
    """

    def __init__(self, model_bytes: bytes, *, exact: bool, num_threads: int):
        module = _interpreter_module()
        kinds = module.OpResolverType
        self._interpreter = module.Interpreter(
            model_content=bytes(bytearray(model_bytes)),  # a copy: bytes(model_bytes) would be the same object
            experimental_op_resolver_type=kinds.BUILTIN_REF if exact else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            num_threads=num_threads,
        )
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]
        tensors = self._interpreter.get_tensor_details()
        self._sizes = {each["index"]: int(np.prod(each["shape"])) * np.dtype(each["dtype"]).itemsize for each in tensors}
        self._bound: dict[int, np.ndarray] = {}

    def bind(self, tensor_index: int, array: np.ndarray) -> None:
        """Read a constant tensor from `array` from now on. Raises ValueError where the model has no such tensor of this size."""
        size = self._sizes.get(tensor_index)
        if size != array.nbytes:
            raise ValueError(f"The tables bind {array.nbytes} B to tensor {tensor_index} of the model, which has {size} B.")
        self._bound[tensor_index] = array

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """int8 outputs of an int8 input, one array per output."""
        for tensor, array in self._bound.items():
            constant = self._interpreter.tensor(tensor)()  # a view; none may be left over when the interpreter runs
            constant[...] = array.reshape(constant.shape)
            del constant
        self._interpreter.set_tensor(self._input["index"], x.reshape(self._input["shape"]))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output) for output in self._outputs]


def _interpreter_module() -> types.ModuleType:
    for package in INTERPRETERS:
        try:
            return importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
    raise ImportError(
        f"Running a bundle needs one of {', '.join(INTERPRETERS)}, and neither can be imported. Install one with: "
        "pip install ai-edge-litert"
    )
