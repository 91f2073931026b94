"""Labelled samples of a command, and a remark where their values do not suit the model."""

import argparse
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from keras_tinytrain.cli.options import remark
from keras_tinytrain.data.samples import model_inputs, read_samples

if typing.TYPE_CHECKING:
    import keras

_SMALL_SHARE, _LARGE_SHARE = 1 / 16, 4  # of the range that a model expects; values beyond are a mistake


def command_samples(args: argparse.Namespace, path: str, input_shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels from a file or a folder, by --scale and --offset; see `data.load_samples`."""
    stored = read_samples(path, input_shape)
    if stored.are_pixels and args.scale is None:
        remark(f"the pixels of {path} are read as 0..1 (version 0.1: 0..255). For a model that takes 0..255 add --scale 255.")
    return model_inputs(stored, path, scale=1.0 if args.scale is None else args.scale, offset=args.offset)


def samples_of_model(args: argparse.Namespace, path: str, model: "keras.Model") -> tuple[np.ndarray, np.ndarray]:
    """As `command_samples`. Raises ValueError where the model begins with a Rescaling that leaves next to nothing of them."""
    x, y = command_samples(args, path, model.input_shape[1:])
    factor, largest = _first_rescaling(model), float(np.abs(x).max())
    if largest * factor < _SMALL_SHARE:
        raise ValueError(
            f"The model begins with Rescaling({factor:.3g}), so it takes values up to {1 / factor:.0f}, but those of {path} "
            f"reach {largest:.3g}: add --scale {1 / factor:.0f}."
        )
    return x, y


def remark_on_range(x: np.ndarray, quantised_input: Mapping, path: str) -> None:
    """Say so where samples are far from those that the exported model was calibrated with.

    Args:
        x: inputs.
        quantised_input: scale and zero_point of the int8 input, as `Bundle.input` and a board's STATUS tell.
        path: of the samples.
    """
    ends = ((end - quantised_input["zero_point"]) * quantised_input["scale"] for end in (-128, 127))
    expected, largest = max(map(abs, ends)), float(np.abs(x).max())
    if not _SMALL_SHARE * expected <= largest <= _LARGE_SHARE * expected:
        remark(f"the values of {path} reach {largest:.3g}, the exported model takes up to {expected:.3g}. Is --scale right?")


def _first_rescaling(model):
    """The factor of a Rescaling before the first layer with weights; 1 where there is none."""
    import keras

    from keras_tinytrain.model.graph import flatten, walk

    for node in walk(flatten(model)):
        if isinstance(node.layer, keras.layers.Rescaling):
            return float(np.max(np.abs(node.layer.scale)))
        if node.layer.weights:
            break
    return 1.0
