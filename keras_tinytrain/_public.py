"""Public names of a package that load when they are first used: TensorFlow takes seconds, and a Raspberry Pi may not have it."""

import importlib
from collections.abc import Callable


def lazy_names(package: str, homes: dict[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package's `__init__` (PEP 562).

    Args:
        package: its `__name__`.
        homes: {public name: the module that defines it, below the package or, with a leading ".", relative to it}.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        return sorted(homes)

    return get, names
