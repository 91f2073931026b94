"""`keras-tinytrain emulate`: learn a task on an emulated Cortex-M4F, and print bytes and instructions."""

import argparse

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.options import json_argument, positive, report_argument, value_arguments

SUMMARY = "learn a task on an emulated Cortex-M4F: bytes and instructions"
EXAMPLE = "emulate demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain emulate`."""
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote; or `demo`: the demo's own bundle and task")
    parser.add_argument("--samples", help="labelled samples to learn: an .npz with x and y, or a folder of class folders")
    parser.add_argument("--queries", help="labelled samples to answer afterwards, in the same form")
    parser.add_argument("--iterations", type=positive, help="of training (as exported)")
    parser.add_argument("--memory", help="SRAM within which the board chooses, for an adaptive bundle (as exported)")
    parser.add_argument(
        "--compute", type=float, help="share of a full backward pass, or MACs, within which it chooses (as exported)"
    )
    parser.add_argument(
        "--profile", action="store_true", help="also count the instructions of each function; needs a C compiler"
    )
    parser.add_argument(
        "--solve",
        action="store_true",
        help="solve the closed-form head of a bundle exported with --head ridge, and train nothing",
    )
    parser.add_argument("--serial", action="store_true", help="wait at a port for `keras-tinytrain device`")
    parser.add_argument(
        "--page", action="store_true", help="serve the page from which a browser on this machine teaches the board"
    )
    value_arguments(parser)
    report_argument(parser)
    json_argument(parser, "one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    from keras_tinytrain.cli import emulated_task

    return emulated_task.run(args)
