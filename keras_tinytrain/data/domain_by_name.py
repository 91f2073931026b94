"""Every kind of domain by a name, as the command line accepts it."""

import pathlib

from keras_tinytrain.data.digits import load_digits
from keras_tinytrain.data.domain import Domain, every_second_class
from keras_tinytrain.data.folder import load_folder
from keras_tinytrain.data.npz import load_npz


def load_domain(name: str, *, size: int | None = None) -> Domain:
    """The domain that `name` stands for.

    Args:
        name: "digits"; "tfds:<one of `tfds.META_DATASET`>"; an .npz file (see `load_npz`); a folder of class folders, with
            "drawings:" before it where they are dark ink on a light background (see `load_folder`). "even:" or "odd:" before any
            of these keeps every second class of it (see `every_second_class`).
        size: images are resized to size x size pixels; None keeps those of an .npz and gives the others 128.

    Raises:
        ValueError, FileNotFoundError, ImportError: as the loaders do.
    """
    which, _, all_of_it = name.partition(":")
    if which in ("even", "odd"):
        return every_second_class(load_domain(all_of_it, size=size), which)
    if name == "digits":
        return load_digits(size=size or 128)
    if name.startswith("tfds:"):
        from keras_tinytrain.data.tfds import load_tfds

        return load_tfds(name.removeprefix("tfds:"), size=size or 128)
    folder = name.removeprefix("drawings:")
    if folder != name or pathlib.Path(name).is_dir():
        return load_folder(folder, size=size or 128, drawings=folder != name)
    if not pathlib.Path(name).exists():
        known = "an .npz file, a folder of class folders (drawings:<folder>), tfds:<name> or digits"
        raise FileNotFoundError(f"There is no domain {name!r}: expected {known}, perhaps with even: or odd: before it.")
    return load_npz(name, size=size)
