"""A bundle's tables by this machine's C++ compiler, as a board's compiler sees them."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.templates import render
from keras_tinytrain.run._tables_version import check_current
from keras_tinytrain.tflm_runtime import source_dir

_COMPILERS = ("c++", "g++", "clang++")


class CompiledTables:
    """The `Tables` of a bundle and everything that they point to, for as long as this object lives.

    Attributes:
        address: of the `Tables` struct.
        num_bytes: size of the tables, kernels and biases not counted; kTablesBytes of tables.cpp.

    Raises:
        ValueError: the tables are for another version of the runtime.
        RuntimeError: there is no C++ compiler, or the tables do not compile.
    """

    def __init__(self, bundle: Bundle):
        check_current(bundle.path / "tables.cpp")
        self._library = _compiled(bundle)
        self._library.tinytrain_tables.restype = ctypes.c_void_p
        self._library.tinytrain_tables_bytes.restype = ctypes.c_size_t
        self.address: int = self._library.tinytrain_tables()
        self.num_bytes: int = self._library.tinytrain_tables_bytes()


def _compiled(bundle: Bundle) -> ctypes.CDLL:
    """tables.cpp and models.cpp of a bundle as a shared library."""
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        entry, library = pathlib.Path(folder, "host.cpp"), pathlib.Path(folder, "tables.so")
        entry.write_text(render("host.cpp.j2", namespace=bundle.manifest["namespace"]), encoding="utf-8")
        sources = [str(bundle.path / "tables.cpp"), str(bundle.path / "models.cpp"), str(entry)]
        includes = [f"-I{bundle.path}", f"-I{source_dir()}"]
        command = [_compiler(), "-std=c++14", "-shared", "-fPIC", *includes, *sources, "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"The bundle's tables do not compile: {' '.join(command)}\n{done.stderr[-2000:]}")
        return ctypes.CDLL(str(library))


def _compiler() -> str:
    chosen = os.environ.get("CXX")
    for compiler in [chosen] if chosen else _COMPILERS:
        if shutil.which(compiler):
            return compiler
    raise RuntimeError(
        f"Running a bundle on the host needs a C++ compiler; looked for: {chosen or ', '.join(_COMPILERS)}. Install one "
        "(Debian: apt install g++), or name it in the environment variable CXX."
    )
