"""Run a bundle on the host: the same tables, the same C++ trainer and TensorFlow Lite Micro's own kernels."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from .arena import new_interpreter, smallest_arena
from .bundle import Bundle, flash_bytes, model_arena, with_total
from .flatbuffer import constant_offset, read_model
from .tables import render

_COMPILERS = ("c++", "g++", "clang++")


class HostRuntime:
    """A bundle's trainer on the host; it computes what the device computes.

    Args:
        bundle: a `Bundle`, or the path of one.
        settings: values to use instead of the bundle's own, such as {"iterations": 10}.

    Raises:
        ValueError: the bundle was altered, or the runtime refuses its tables.
        RuntimeError: there is no C++ compiler, or the tables do not compile.
        ImportError: tflite-micro or the compiled runtime is not installed.

    Example:
        >>> host = HostRuntime("build/faces")  # doctest: +SKIP
        >>> host.add_samples(x_support, y_support)  # doctest: +SKIP
        >>> losses = host.train()  # doctest: +SKIP
        >>> labels = host.predict(x_query).argmax(axis=1)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle | str | os.PathLike, *, settings: dict | None = None):
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        bundle.check()
        self.bundle = bundle
        self._library = compile_tables(bundle)
        frozen, trainable = bundle.frozen, bundle.trainable
        self._arenas = {
            "frozen_arena": smallest_arena(frozen) if frozen else 0,
            "trainable_arena": smallest_arena(trainable),
        }
        self._trainable = MicroModel(trainable, self._arenas["trainable_arena"])
        self._frozen = MicroModel(frozen, self._arenas["frozen_arena"]) if frozen else None
        self.trainer = _runtime().Trainer(
            self._library.tinytrain_tables(),
            self._trainable,
            run_frozen=(lambda image: self._frozen(image)[0]) if frozen else None,
            bind=self._trainable.bind,
            settings=settings,
            owner=self._library,
        )

    def add_samples(self, x: np.ndarray, y: np.ndarray) -> None:
        """Store labelled samples: x (N, ...) in the model's own convention, y (N,) integers below num_classes."""
        images, labels = self._quantised(x), np.asarray(y)
        if labels.shape != (len(images),):
            raise ValueError(f"y expects one label per sample, shape ({len(images)},). Received shape: {labels.shape}")
        for image, label in zip(images, labels):
            self.trainer.add_sample(image, int(label))

    def train(self, progress=None) -> list[float]:
        """Train for the settings' iterations, or until `progress(iteration, loss)` returns False.

        Returns:
            The mean loss before each iteration.
        """
        losses = []

        def report(iteration, loss):
            losses.append(loss)
            return progress is None or progress(iteration, loss) is not False

        self.trainer.train(report)
        return losses

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, num_classes), float32, of x (N, ...) in the model's own convention."""
        return np.stack([self.trainer.predict(image)[1] for image in self._quantised(x)])

    def save_delta(self, path: str | os.PathLike, *, sequence: int = 0) -> None:
        """Write what was learned: changed channels and prototypes. `keras_tinytrain.Delta` reads the same file."""
        pathlib.Path(path).write_bytes(self.trainer.save_delta(sequence))

    def load_delta(self, path: str | os.PathLike) -> None:
        """Take over what was learned. Raises ValueError where the file is damaged or of another base model."""
        self.trainer.load_delta(pathlib.Path(path).read_bytes())

    def revert(self) -> None:
        """Back to the weights as exported; stored samples stay."""
        self.trainer.revert()

    def bytes_used(self) -> dict[str, dict[str, int]]:
        """What is in use, with the keys of `Bundle.promised_bytes`: the trainer's report, arenas that were run, file sizes."""
        parts = {name: num_bytes for name, num_bytes in self.trainer.memory_parts().items() if name != "total"}
        tables = self._library.tinytrain_tables_bytes()
        return {
            "sram": with_total({**parts, "model_arena": model_arena(self._arenas)}),
            "flash": flash_bytes(self.bundle.frozen, self.bundle.trainable, tables),
        }

    def quantise(self, x: np.ndarray) -> np.ndarray:
        """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8."""
        return quantise(self.bundle, x)

    def _quantised(self, x):
        return quantise_samples(self.bundle, x)


class MicroModel:
    """A .tflite file in `tflite_micro`'s interpreter, with constants that can be replaced.

    The interpreter reads constants from the bytes object it was given. This one gets a copy that nobody else holds, and
    what is bound to a tensor is copied into it before each run.
    """

    def __init__(self, model_bytes: bytes, arena_bytes: int):
        self._bytes = bytes(bytearray(model_bytes))  # a copy: bytes(model_bytes) would be the same object
        self._interpreter = new_interpreter(self._bytes, arena_bytes)
        self._num_outputs = len(read_model(model_bytes).subgraphs[0].outputs)
        self._bound = []

    def bind(self, tensor_index: int, array: np.ndarray) -> None:
        """Read a constant tensor from `array` from now on."""
        address = _address(self._bytes) + constant_offset(self._bytes, tensor_index)
        self._bound.append((address, array))

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """int8 outputs of an int8 input, one array per output."""
        for address, array in self._bound:
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
        shape = self._interpreter.get_input_details(0)["shape"]
        self._interpreter.set_input(x.reshape(shape), 0)
        self._interpreter.invoke()
        return [self._interpreter.get_output(index) for index in range(self._num_outputs)]


def quantise(bundle: Bundle, x: np.ndarray) -> np.ndarray:
    """x as the device sees it: q = round(x / scale) + zero_point, half to even, clipped to int8."""
    entry = bundle.input
    q = np.rint(np.asarray(x, np.float32) / np.float32(entry["scale"])) + entry["zero_point"]
    return np.clip(q, -128, 127).astype(np.int8)


def quantise_samples(bundle: Bundle, x: np.ndarray) -> np.ndarray:
    """`quantise` of samples (N, ...). Raises ValueError where they are not of the shape of the bundle's input."""
    x, entry = np.asarray(x, np.float32), bundle.input
    shape = (entry["height"], entry["width"], entry["channels"])
    if x.ndim < 2 or len(x) and x[0].size != np.prod(shape):
        raise ValueError(f"x expects samples of shape {shape}, with a batch axis. Received shape: {x.shape}")
    return quantise(bundle, x)


def compile_tables(bundle: Bundle) -> ctypes.CDLL:
    """Compile the bundle's own tables.cpp and models.cpp into a shared library and load it."""
    from keras_tinytrain.tflm_runtime import source_dir

    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        entry, library = pathlib.Path(folder, "host.cpp"), pathlib.Path(folder, "tables.so")
        entry.write_text(render("host.cpp.j2", namespace=bundle.manifest["namespace"]), encoding="utf-8")
        sources = [str(bundle.path / "tables.cpp"), str(bundle.path / "models.cpp"), str(entry)]
        includes = [f"-I{bundle.path}", f"-I{source_dir()}"]
        command = [_compiler(), "-std=c++14", "-shared", "-fPIC", *includes, *sources, "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"The bundle's tables do not compile: {' '.join(command)}\n{done.stderr[-2000:]}")
        loaded = ctypes.CDLL(str(library))
    loaded.tinytrain_tables.restype = ctypes.c_void_p
    loaded.tinytrain_tables_bytes.restype = ctypes.c_size_t
    return loaded


def _compiler():
    chosen = os.environ.get("CXX")
    for compiler in [chosen] if chosen else _COMPILERS:
        if shutil.which(compiler):
            return compiler
    raise RuntimeError(
        f"Running a bundle on the host needs a C++ compiler; looked for: {chosen or ', '.join(_COMPILERS)}. Install one "
        "(Debian: apt install g++), or name it in the environment variable CXX."
    )


def _runtime():
    try:
        from keras_tinytrain import _runtime as module
    except ImportError as error:
        raise ImportError(
            "The compiled runtime keras_tinytrain._runtime is missing: install keras-tinytrain from a wheel, or build it "
            "from source with a C++ compiler."
        ) from error
    return module


def _address(data):
    """Where the contents of a bytes object lie."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
