"""Which head answers, and which heads a bundle and a delta have: in the words of the device's STATUS."""

import typing

from keras_tinytrain.delta import Delta
from keras_tinytrain.export.bundle_folder import Bundle

_HEADS = ("ridge", "prototypes")  # a delta's record has its head's name


def answering_head(bundle: Bundle, trainer: typing.Any) -> str:
    """The head that answers now; "none" where nothing is learned yet.

    Args:
        bundle: that runs.
        trainer: the compiled runtime's `Trainer` of it.
    """
    if trainer.closed_form_answers:
        return "ridge"
    if bundle.manifest["head"] != "prototypes":
        return bundle.manifest["head"]
    has_all = trainer.prototypes() is not None and (
        not trainer.settings["average"] or trainer.original_prototypes() is not None
    )
    return "prototypes" if has_all else "none"


def head_of_delta(bundle: Bundle, data: bytes) -> str:
    """The head that answers by a delta of the bundle."""
    records = {record.name for record in Delta.from_bytes(data).records}
    return _HEADS[0] if _HEADS[0] in records else bundle.manifest["head"]


def load_delta(bundle: Bundle, trainer: typing.Any, data: bytes) -> None:
    """`Trainer.load_delta`, whose ValueError names the head that is missing where that is all that differs."""
    try:
        trainer.load_delta(data)
    except ValueError as error:
        raise ValueError(_missing_head(bundle, data) or str(error)) from error


def _missing_head(bundle, data):
    """What the delta holds and the bundle has, where a head is all that differs; else ""."""
    try:
        delta = Delta.from_bytes(data)
    except ValueError:
        return ""
    held = {record.name for record in delta.records}
    missing = [head for head in _HEADS if head in held and head not in _heads(bundle)]
    if not missing or delta.base_hash.hex() != bundle.manifest["base_hash"]:
        return ""
    return (
        f"The delta holds the head {missing[0]!r}, and bundle {bundle.path} has {' and '.join(map(repr, _heads(bundle)))} alone: "
        f"export the same model with head={missing[0]!r} to load it."
    )


def _heads(bundle):
    return (bundle.manifest["head"], *(["ridge"] if "closed_form" in bundle.manifest else []))
