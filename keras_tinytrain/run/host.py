"""Run a bundle on the host: the same tables, the same C++ trainer and TensorFlow Lite Micro's own kernels."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from keras_tinytrain.choose.training_memory import TrainingMemory
from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.limits import flash_bytes
from keras_tinytrain.export.tables import render
from keras_tinytrain.export.tflite.arena import new_interpreter, smallest_arena
from keras_tinytrain.export.tflite.flatbuffer import constant_offset, read_model
from keras_tinytrain.run.bundle_runtime import BundleRuntime, checked_bundle, runtime_module
from keras_tinytrain.run.nor_flash import NorFlash
from keras_tinytrain.tflm_runtime.rounding import whole_pages

_COMPILERS = ("c++", "g++", "clang++")


class HostRuntime(BundleRuntime):
    """A bundle's trainer on the host; it computes what the device computes.

    What the trainer keeps where the frozen part runs on the device is overwritten here, too, whenever the frozen part runs;
    flash is a `NorFlash`: `feature_flash` holds the samples' features (None: they are in RAM), `slots` two deltas (None: the
    board's page size is not known).

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
        bundle = checked_bundle(bundle)
        self._library = compile_tables(bundle)
        frozen, trainable = bundle.frozen, bundle.trainable
        self._arenas = {
            "frozen_arena": smallest_arena(frozen) if frozen else 0,
            "trainable_arena": smallest_arena(trainable),
        }
        self._trainable = MicroModel(trainable, self._arenas["trainable_arena"])
        self._frozen = MicroModel(frozen, self._arenas["frozen_arena"]) if frozen else None
        tables, page_bytes = self._library.tinytrain_tables(), bundle.manifest["board"]["flash_page_bytes"]
        self.feature_flash = None
        if bundle.manifest["features"]["memory"] == "flash":
            num_bytes = whole_pages(runtime_module().flash_samples_bytes(tables, settings), page_bytes)
            self.feature_flash = NorFlash(num_bytes, page_bytes=page_bytes)
        super().__init__(
            bundle,
            tables,
            self._trainable,
            self._frozen,
            settings=settings,
            owner=self._library,
            flash=self.feature_flash,
        )
        slot_bytes = whole_pages(self.trainer.delta_bytes(), page_bytes)
        self.slots = NorFlash(2 * slot_bytes, page_bytes=page_bytes) if page_bytes else None

    def save_to_flash(self) -> None:
        """Write what was learned into the older of the two slots, as the device does.

        Raises:
            RuntimeError: nothing was learned yet, or the board's flash is not known.
        """
        self.trainer.save_to_flash(self._slots())

    def load_from_flash(self) -> None:
        """Take over the newer of the two slots. Raises ValueError where neither holds a delta of this base model."""
        self.trainer.load_from_flash(self._slots())

    def bytes_used(self) -> dict[str, dict[str, int]]:
        """What is in use, with the keys of `Bundle.promised_bytes`: the trainer's report, arenas that were run, file sizes."""
        memory = TrainingMemory.of(self.trainer.memory_parts())
        flash = flash_bytes(
            self.bundle.frozen,
            self.bundle.trainable,
            tables=self._library.tinytrain_tables_bytes(),
            features=self.feature_flash.data.size if self.feature_flash else 0,
            deltas=self.slots.data.size if self.slots else 0,
        )
        return {"sram": memory.sram(**self._arenas), "scratch": memory.scratch, "flash": flash}

    def _slots(self):
        if self.slots is None:
            name = self.bundle.manifest["board"]["name"]
            raise RuntimeError(f"Board {name!r} has no slots in flash: export with Board.flash_page_bytes set.")
        return self.slots


class MicroModel:
    """A .tflite file in `tflite_micro`'s interpreter, with constants that can be replaced.

    The interpreter reads constants from the bytes object it was given. This one gets a copy that nobody else holds, and
    what is bound to a tensor is copied into it before each run.
    """

    def __init__(self, model_bytes: bytes, arena_bytes: int):
        self._bytes = bytes(bytearray(model_bytes))  # a copy: bytes(model_bytes) would be the same object
        self._interpreter = new_interpreter(self._bytes, arena_bytes)
        self._num_outputs = len(read_model(model_bytes).subgraphs[0].outputs)
        self._bound = {}

    def bind(self, tensor_index: int, array: np.ndarray) -> None:
        """Read a constant tensor from `array` from now on, in place of what was bound to it before."""
        address = _address(self._bytes) + constant_offset(self._bytes, tensor_index)
        self._bound[address] = array

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """int8 outputs of an int8 input, one array per output."""
        for address, array in self._bound.items():
            ctypes.memmove(address, array.ctypes.data, array.nbytes)
        shape = self._interpreter.get_input_details(0)["shape"]
        self._interpreter.set_input(x.reshape(shape), 0)
        self._interpreter.invoke()
        return [self._interpreter.get_output(index) for index in range(self._num_outputs)]


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


def _address(data):
    """Where the contents of a bytes object lie."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
