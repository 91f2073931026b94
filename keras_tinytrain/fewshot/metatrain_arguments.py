"""Options of `keras-tinytrain metatrain`, apart from `metatrain` so that --help does not load TensorFlow."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `metatrain.run` reads."""
    parser.add_argument("--data", required=True, help=".npz of training classes, e.g. omniglot_background.npz")
    parser.add_argument("--out", required=True, help=".npz of weights to write; a .json beside it tells how they came about")
    parser.add_argument("--evaluate", help=".npz of other classes on which prototypes are tried at the end")
    parser.add_argument("--seed", type=int, default=0, help="fixes every random draw (%(default)s)")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the data in stage 1 (%(default)s)")
    parser.add_argument("--episodes", type=int, default=2000, help="steps of stage 2 (%(default)s)")
    parser.add_argument("--checkpoint", help=".npz to resume from where it exists, written after every round")
