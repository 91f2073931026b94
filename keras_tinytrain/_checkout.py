"""A clear sentence where Python started in the root of a checkout, whose folder `keras_tinytrain` hides the installed package."""

import importlib.abc
import pathlib
import sys

_ONLY_INSTALLED = ("keras_tinytrain._runtime", "keras_tinytrain.export", "keras_tinytrain.tflm_runtime")


class _Finder(importlib.abc.MetaPathFinder):
    """The last to be asked. It finds nothing, and says why."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname in _ONLY_INSTALLED:
            raise ImportError(
                f"{fullname} is not in {pathlib.Path(__file__).parent}. That folder belongs to a checkout, which hides the "
                "installed package: start Python in another folder, or run `pip install -e .` in the checkout.",
                name=fullname,
            )


def install() -> None:
    """Ask the finder after all others."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
