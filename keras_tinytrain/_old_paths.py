"""Import paths of version 0.1 that still work, each with a DeprecationWarning that names the new one."""

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable

_MOVED = {  # below keras_tinytrain
    "cost": "choose.paper_cost",
    "device": "run.serial_port",
    "domains": "data",
    "edge": "run.edge",
    "export.on_grid": "run.on_grid",
    "fewshot.task_plan": "fewshot.task_loss",
    "layers": "model.layers",
    "sparse": "fit.sparse",
    "strategies": "choose.strategies",
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers an import of a moved module, or of one below it, with the module at its new path."""

    def find_spec(self, fullname, path=None, target=None):
        return importlib.util.spec_from_loader(fullname, self) if _new_path(fullname) else None

    def create_module(self, spec):
        new = _new_path(spec.name)
        _warn(spec.name, new)
        module = importlib.import_module(new)
        self._kept = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self._kept  # the import system has just set it to the old path's


def install() -> None:
    """Let the import system know of the moved modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # before an empty folder that an older checkout left would count as a package


def old_names(package: str, moved: dict[str, str], get: Callable[[str], object]) -> Callable[[str], object]:
    """A package's `__getattr__` that also knows names that moved elsewhere.

    Args:
        package: its `__name__`.
        moved: {name: the package that has it now}.
        get: answers for all other names.
    """

    def get_or_warn(name: str) -> object:
        if name not in moved:
            return get(name)
        _warn(f"{package}.{name}", f"{moved[name]}.{name}")
        return getattr(importlib.import_module(moved[name]), name)

    return get_or_warn


def _new_path(fullname):
    root, _, rest = fullname.partition(".")
    if root != __package__:
        return None
    for old, new in _MOVED.items():
        if rest == old or rest.startswith(f"{old}."):
            return f"{root}.{new}{rest.removeprefix(old)}"
    return None


def _warn(old, new):
    warnings.warn(f"{old} has moved to {new}; the old path goes with version 0.3.", DeprecationWarning, stacklevel=3)
