"""The classes that TensorFlow has generated from the .tflite schema, without a start of TensorFlow, which takes seconds."""

import importlib.util
import pathlib
import types
import typing

_MODULE = "tensorflow.lite.python.schema_py_generated"  # it needs numpy and flatbuffers, and nothing of TensorFlow


def _generated() -> types.ModuleType:
    """The module, from its file. Raises ImportError where TensorFlow is not installed."""
    package, *path = _MODULE.split(".")
    found = importlib.util.find_spec(package)
    for folder in (found and found.submodule_search_locations) or ():
        spec = importlib.util.spec_from_file_location(__name__ + "_generated", pathlib.Path(folder, *path).with_suffix(".py"))
        if spec and spec.loader and pathlib.Path(spec.origin or "").is_file():
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module(_MODULE)


if typing.TYPE_CHECKING:
    from tensorflow.lite.python import schema_py_generated as schema
else:
    schema = _generated()
