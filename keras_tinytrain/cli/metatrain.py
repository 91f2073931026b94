"""`keras-tinytrain metatrain`: pre-train a backbone."""

import argparse
import importlib
import pathlib

from keras_tinytrain._quiet import load_tensorflow

BACKBONES = ("nano", "gesture", "mcunet", "mobilenet_v2", "proxylessnas")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `metatrain.run`, `metatrain_motions.run` and `metatrain_episodes.run` read."""
    parser.add_argument(
        "--data",
        nargs="+",
        default=[],
        help="training classes: an .npz; for an ImageNet backbone domains as `benchmark accuracy` takes them; "
        "none for motions that are invented",
    )
    parser.add_argument("--out", required=True, help=".npz of weights to write; a .json beside it tells how they came about")
    parser.add_argument(
        "--backbone",
        choices=BACKBONES,
        default="nano",
        help="nano: the demo's recipe for glyphs; gesture: windows of motion (%(default)s)",
    )
    parser.add_argument("--evaluate", nargs="+", default=[], help="other classes, on which prototypes are tried at the end")
    parser.add_argument("--seed", type=int, default=0, help="fixes every random draw (%(default)s)")
    parser.add_argument(
        "--episodes", type=int, help="steps of nano's second stage (2000), of gesture (1000); episodes of the others (1000)"
    )
    parser.add_argument("--checkpoint", help=".npz to resume from where it exists, written as the training goes on")
    nano = parser.add_argument_group("nano")
    nano.add_argument("--epochs", type=int, default=16, help="passes over the data in stage 1 (%(default)s)")
    gesture = parser.add_argument_group("gesture")
    gesture.add_argument("--rate", type=float, default=50.0, help="samples a second of --data (%(default)s)")
    gesture.add_argument(
        "--motions",
        choices=("both", "recorded", "invented"),
        default="invented",
        help="learn from windows of --data, from motions that are made up, or from both alike (%(default)s)",
    )
    others = parser.add_argument_group("mcunet, mobilenet_v2, proxylessnas: PMF's episodes, from ImageNet weights on")
    others.add_argument("--weights", default="imagenet", help="to begin with: imagenet, or an .npz (%(default)s)")
    others.add_argument(
        "--classes",
        choices=("all", "even", "odd"),
        default="all",
        help="every second class of --data, so that the others are left to measure on (%(default)s)",
    )
    others.add_argument("--size", type=int, default=128, help="pixels of the network's input (%(default)s)")
    others.add_argument(
        "--distribute",
        choices=("none", "mirrored", "multiworker"),
        default="none",
        help="the devices of this machine; or several machines, each with its TF_CONFIG (%(default)s)",
    )
    others.add_argument("--log-dir", help="folder for TensorBoard")
    parser.set_defaults(run=run, command_of=command_of)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    module = {"nano": "glyphs", "gesture": "motions"}.get(args.backbone, "images")
    return importlib.import_module(f"keras_tinytrain.metatrain.{module}").run(args)


def command_of(args: argparse.Namespace) -> str:
    """The command line that gives `args`, files by their names only: where they lay is of no use to others."""
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
