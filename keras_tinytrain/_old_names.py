"""Keyword arguments and attributes of version 0.1 that still work, each with a DeprecationWarning that names the new one."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Thing = TypeVar("_Thing", bound=Callable)


def old_keywords(**new_of_old: str | Callable[[Any], dict[str, Any]]) -> Callable[[_Thing], _Thing]:
    """Decorator: a function, or a class, that also takes some keyword arguments by their old names.

    Args:
        new_of_old: {old name: the new name}; or, where it depends on the value, {old name: value -> {new name: value}}.
    """

    def decorate(thing: Any) -> Any:
        is_class = isinstance(thing, type)
        function = thing.__init__ if is_class else thing

        @functools.wraps(function)
        def call(*args, **kwargs):
            for old in new_of_old.keys() & kwargs.keys():
                new, value = new_of_old[old], kwargs.pop(old)
                renamed = {new: value} if isinstance(new, str) else new(value)
                warn_renamed(f"{old}=", " and ".join(f"{name}=" for name in renamed))
                kwargs.update(renamed)
            return function(*args, **kwargs)

        if is_class:
            thing.__init__ = call
        return thing if is_class else call

    return decorate


def last_blocks_or_layers(inspect: Any) -> dict[str, Any]:
    """`inspect=` of version 0.1 by its new name: a number of blocks, or names of layers."""
    return {"last_blocks": inspect} if isinstance(inspect, int) else {"layers": tuple(inspect)}


def warn_renamed(old: str, new: str) -> None:
    """Tell the caller's caller that `old` is called `new` now."""
    warnings.warn(f"{old} is called {new} now; the old name goes with version 0.3.", DeprecationWarning, stacklevel=3)
