"""Public names stand in each package's `__init__`; a module whose name begins with `_` is its own folder's business."""

import ast
import importlib
import pathlib

import pytest

import keras_tinytrain

ROOT = pathlib.Path(keras_tinytrain.__file__).parent
EXPORT = ROOT / "export" if (ROOT / "export").is_dir() else ROOT.parent / "export"
PACKAGES = ["", ".choose", ".data", ".delta", ".export", ".fewshot", ".fit", ".model", ".run"]


def source_of(package):
    return pathlib.Path(importlib.import_module(f"keras_tinytrain{package}").__file__)


def imported_for_type_checkers(path):
    """Names under `if typing.TYPE_CHECKING:`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "typing.TYPE_CHECKING":
            yield from (alias.name for line in node.body for alias in line.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_there_and_known_to_type_checkers(package):
    module = importlib.import_module(f"keras_tinytrain{package}")
    assert sorted(module.__all__) == sorted(module._HOMES) == sorted(imported_for_type_checkers(source_of(package)))
    for name in module.__all__:
        assert getattr(module, name) is not None


def imports_of_private_modules():
    """(file, folder, module) of every import of a module that begins with `_` in a folder of the package."""
    for folder in (ROOT, EXPORT):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_tinytrain."):
                    parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                    if len(parts) > 3 and parts[2].startswith("_"):
                        yield path, parts[1], parts[2]


def test_private_modules_are_imported_by_their_own_folder_only():
    found = [
        f"{path}: {folder}.{module}" for path, folder, module in imports_of_private_modules() if path.parent.name != folder
    ]
    assert not found
