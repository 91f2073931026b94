"""The private API of Keras is used in one module, so that a new version of Keras has one place to break."""

import ast
import pathlib
import sys

import pytest

from keras_tinytrain.model import private_keras

PACKAGE = pathlib.Path(private_keras.__file__).parents[1]
EXPORT = PACKAGE.parent / "export" if (PACKAGE.parent / "export").is_dir() else PACKAGE / "export"
SOURCES = sorted({*PACKAGE.rglob("*.py"), *EXPORT.rglob("*.py")} - {pathlib.Path(private_keras.__file__)})
KERAS_OBJECTS = {"backbone", "functional", "layer", "model", "optimizer"}  # names of variables that hold them
NOT_OF_KERAS = {  # private or underscored names of others
    "_actions",  # argparse
    "_experimental_disable_per_channel_quantization_for_dense_layers",  # TensorFlow Lite's converter
    "_fields_",  # ctypes
    "_length_",  # ctypes
    "_tab",  # flatbuffers
    "_type_",  # ctypes
}


def own_names(trees):
    """Private names that the package itself defines: functions, classes, fields and attributes of self."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and _of(node) in ("self", "cls") and isinstance(node.ctx, ast.Store):
            yield node.attr


def foreign_uses(tree, own):
    """Private attributes that are read from, or written to, an object of another library."""
    for node in ast.walk(tree):
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if private and (_of(node) in KERAS_OBJECTS or node.attr not in own | NOT_OF_KERAS) and not _of_standard_library(node):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _of_standard_library(attribute):
    return _of(attribute) in sys.stdlib_module_names


def _of(attribute):
    return attribute.value.id if isinstance(attribute.value, ast.Name) else None


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def test_private_attributes_of_keras_are_used_in_one_module(trees):
    own = set(own_names(trees.values()))
    found = {str(path): uses for path, tree in trees.items() if (uses := list(foreign_uses(tree, own)))}
    assert not found, "use a function of model/private_keras.py, or add one"


def test_keras_src_is_named_in_one_module():
    found = [str(path) for path in SOURCES if "keras.src" in path.read_text(encoding="utf-8")]
    assert not found, "use a function of model/private_keras.py, or add one"


@pytest.mark.parametrize(
    "code", ["model._functional", "layer._anything = 1", "thing._flatten_layers()", "a.b()._run_through_graph"]
)
def test_private_use_would_be_found(code):
    assert list(foreign_uses(ast.parse(code), {"_functional"}))
