"""`keras-tinytrain metatrain`: pre-train a backbone."""

import argparse
import importlib
import pathlib

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.backbones.names import IMAGENET_BACKBONES
from keras_tinytrain.cli.options import not_negative, positive

SUMMARY = "meta-train a backbone: the demo's on glyphs, GestureNet on motion, an ImageNet one on domains"
EXAMPLE = "metatrain --data omniglot_background.npz --out weights.npz"
_OWN = {"nano": "glyphs", "gesture": "motions"}  # {backbone: its module of keras_tinytrain.metatrain}; all others: images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the `run` of `metatrain.glyphs`, `metatrain.motions` and `metatrain.images` read."""
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        help="training classes: an .npz; for an ImageNet backbone domains as `benchmark accuracy` takes them; "
        "none for invented motions",
    )
    parser.add_argument("--out", required=True, help=".npz of weights to write; a .json beside it holds their provenance")
    parser.add_argument(
        "--backbone",
        choices=(*_OWN, *IMAGENET_BACKBONES),
        default="nano",
        help="nano: the demo's recipe for glyphs; gesture: windows of motion (%(default)s)",
    )
    parser.add_argument(
        "--evaluate", nargs="+", default=[], help="files of other classes, on which prototypes are measured at the end"
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="fixes every random draw (%(default)s)")
    parser.add_argument(
        "--episodes",
        type=not_negative,
        help="steps of nano's second stage (2000), of gesture (1000); episodes of the others (1000)",
    )
    parser.add_argument("--checkpoint", help=".npz to resume from where it exists, written as the training goes on")
    nano = parser.add_argument_group("nano")
    nano.add_argument("--epochs", type=not_negative, default=16, help="passes over the data in stage 1 (%(default)s)")
    gesture = parser.add_argument_group("gesture")
    gesture.add_argument("--rate", type=float, default=50.0, help="samples a second of --data (%(default)s)")
    gesture.add_argument(
        "--motions",
        choices=("both", "recorded", "invented"),
        default="invented",
        help="learn from windows of --data, from invented motions, or from as many of both (%(default)s)",
    )
    others = parser.add_argument_group(f"{', '.join(IMAGENET_BACKBONES)}: PMF's episodes, from ImageNet weights on")
    others.add_argument("--weights", default="imagenet", help="to begin with: imagenet, or an .npz (%(default)s)")
    others.add_argument(
        "--classes",
        choices=("all", "even", "odd"),
        default="all",
        help="every second class of --data; the others then remain to measure on (%(default)s)",
    )
    others.add_argument(
        "--mix",
        type=_share,
        default=0.5,
        help="weights to write: this share of the meta-trained ones and the rest of those it began with; 1: the meta-trained "
        "ones alone, which lose more where the data is unlike --data (%(default)s)",
    )
    others.add_argument("--size", type=positive, default=128, help="pixels of the network's input (%(default)s)")
    others.add_argument(
        "--distribute",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="the devices of this machine; or several machines, each with its TF_CONFIG (%(default)s)",
    )
    others.add_argument("--log-dir", help="folder for TensorBoard")
    parser.set_defaults(run=run, command_of=command_of)


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expects a number above 0 and up to 1. Received: {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    return importlib.import_module(f"keras_tinytrain.metatrain.{_OWN.get(args.backbone, 'images')}").run(args)


def command_of(args: argparse.Namespace) -> str:
    """The command line that gives `args`, with files by their names only: their folders mean nothing to others."""
    return " ".join(["keras-tinytrain metatrain", *_options(args)])


def _options(args):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for action in parser._actions[1:]:
        values = getattr(args, action.dest)
        if values != action.default and action.dest not in ("checkpoint", "log_dir"):
            values = values if isinstance(values, list) else [values]
            yield " ".join([action.option_strings[0], *map(_without_folder, map(str, values))])


def _without_folder(name):
    """ "odd:signs.npz" of "odd:data/signs.npz"."""
    prefix, colon, path = name.rpartition(":")
    return f"{prefix}{colon}{pathlib.Path(path).name}"
