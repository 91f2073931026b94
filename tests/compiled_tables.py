"""A bundle's tables as a compiler makes them, to compare with what is read."""

import ctypes
import os
import subprocess

from keras_tinytrain.tflm_runtime import source_dir

ENTRY = """#include "models.h"
#include "tables.h"
extern "C" const void* tinytrain_tables() {{ return &{namespace}::kTables; }}
extern "C" std::size_t tinytrain_tables_bytes() {{ return {namespace}::kTablesBytes; }}
"""


def entry_file(bundle, folder):
    """A source that finds the bundle's tables by a fixed name."""
    entry = folder / "entry.cpp"
    entry.write_text(ENTRY.format(namespace=bundle.manifest["namespace"]))
    return entry


class CompiledTables:
    """Attributes: address of the `Tables`, num_bytes as the compiler counts them."""

    def __init__(self, bundle, folder):
        sources = [bundle.path / "tables.cpp", bundle.path / "models.cpp", entry_file(bundle, folder)]
        command = [os.environ.get("CXX", "c++"), "-std=c++14", "-shared", "-fPIC", f"-I{bundle.path}", f"-I{source_dir()}"]
        subprocess.run([*command, *sources, "-o", folder / "tables.so"], check=True)
        self._library = ctypes.CDLL(str(folder / "tables.so"))
        self._library.tinytrain_tables.restype = ctypes.c_void_p
        self._library.tinytrain_tables_bytes.restype = ctypes.c_size_t
        self.address, self.num_bytes = self._library.tinytrain_tables(), self._library.tinytrain_tables_bytes()
