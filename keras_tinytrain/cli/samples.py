"""Labelled samples of a command, and a remark where their values do not suit the model."""

import argparse
import typing
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_tinytrain.cli.options import remark
from keras_tinytrain.data.samples import model_inputs, read_samples
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.bundle_folder import Bundle

if typing.TYPE_CHECKING:
    import keras

_SMALL_SHARE, _LARGE_SHARE = 1 / 16, 4  # of the range that a model expects; values beyond are a mistake


class LabelledSamples(NamedTuple):
    """Inputs float32 (N, ...), labels int32 (N,), and the names of the classes; () where they have none."""

    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]


def command_samples(
    args: argparse.Namespace,
    path: str,
    input_shape: Sequence[int],
    *,
    values: tuple[float, float] | None = None,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
) -> LabelledSamples:
    """Samples of a file or a folder, by --scale and --offset; see `data.load_samples`.

    Args:
        values: (scale, offset) where the command line does not say; None: 1 and 0, with a remark on pixels.
        num_classes, class_names: of the classes that are known, as for `read_samples`.
    """
    stored = read_samples(path, input_shape, num_classes=num_classes, class_names=class_names)
    if stored.are_pixels and args.scale is None and values is None:
        remark(f"the pixels of {path} are read as 0..1. For a model that takes 0..255 add --scale 255.")
    scale, offset = values or (1.0, 0.0)
    scale, offset = scale if args.scale is None else args.scale, offset if args.offset is None else args.offset
    return LabelledSamples(*model_inputs(stored, path, scale=scale, offset=offset), stored.class_names)


def samples_of_model(
    args: argparse.Namespace, path: str, model: "keras.Model", *, planned: DeviceSettings | None = None
) -> LabelledSamples:
    """As `command_samples`, with the values that a plan has. Raises ValueError where the model begins with a scaling that leaves
    next to nothing of them."""
    values = None if planned is None else (planned.scale, planned.offset)
    samples = command_samples(args, path, model.input_shape[1:], values=values)
    factor, largest = _first_scaling(model, samples.x), float(np.abs(samples.x).max())
    if largest * factor < _SMALL_SHARE:
        expected = 255 if 100 < 1 / factor < 256 else round(1 / factor)  # pixels, which may become 0..1 or -1..1
        raise ValueError(
            f"The model begins with a scaling by {factor:.3g}, so it takes values up to {expected}, but those of {path} "
            f"reach {largest:.3g}: add --scale {expected}."
        )
    return samples


def samples_of_bundle(args: argparse.Namespace, path: str, bundle: Bundle) -> LabelledSamples:
    """As `command_samples`, for an exported model: its values and classes are known. A remark says where they are far off."""
    shape = [bundle.input["height"], bundle.input["width"], bundle.input["channels"]]
    known = {"num_classes": bundle.manifest["training"]["num_classes"], "class_names": bundle.class_names}
    samples = command_samples(args, path, shape, values=bundle.sample_values, **known)
    remark_on_range(samples.x, bundle.input, path)
    return samples


def spread(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices, ascending, of at most `count` samples: the first of each class, then the second of each, and so on."""
    rank = np.empty(len(labels), int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.sum(labels == label))
    return np.sort(np.argsort(rank, kind="stable")[:count])


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


def _first_scaling(model, x):
    """The factor by which the model scales its input before the first layer with weights: Rescaling, or arithmetic on tensors."""
    import keras

    from keras_tinytrain.model.graph import flatten, walk

    flat = flatten(model)
    nodes = walk(flat)
    first = next((node for node in nodes if getattr(node.layer, "weights", [])), None)
    if first is None or first.inputs == (0,) or not np.ptp(x):
        return 1.0
    scaled = keras.Model(flat.inputs[0], nodes[first.inputs[0]].output)(x[:8], training=False)
    return float(np.ptp(scaled) / np.ptp(x[:8]))
