"""Whether a setting is of its kind, so that text in a number's place is told in a sentence."""

import dataclasses
import numbers
import typing

import numpy as np

_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "True or False"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "text"),
    type(None): ((type(None),), "None"),
}


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Raise ValueError, naming the setting and what it takes, where `value` is of none of the kinds bool, int, float, str, None.

    True and False are no numbers; integers are floats; NumPy's numbers are numbers.
    """
    if not any(_is(value, kind) for kind in kinds):
        expected = " or ".join(_KINDS[kind][1] for kind in kinds)
        raise ValueError(f"{name} expects {expected}. Received: {value!r}")


def check_kinds(settings: object) -> None:
    """`check_kind` of every field of a dataclass, by its annotation."""
    for field in dataclasses.fields(typing.cast(typing.Any, settings)):
        kinds = typing.get_args(field.type) or (field.type,)
        check_kind(field.name, getattr(settings, field.name), *typing.cast(tuple[type, ...], kinds))


def _is(value, kind):
    types, _ = _KINDS[kind]
    return isinstance(value, types) and (kind is bool or not isinstance(value, (bool, np.bool_)))
