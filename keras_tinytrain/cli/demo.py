"""`keras-tinytrain demo`: learn handwritten digits, in Keras, in the exported C++ and on an emulated board, and compare."""

import argparse

from keras_tinytrain.cli.demo_settings import DEMOS
from keras_tinytrain.cli.options import board_argument, json_argument, positive, report_argument

SUMMARY = "learn handwritten digits: in Keras, in the exported C++ and on an emulated board"
EXAMPLE = "demo --report demo.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain demo`."""
    text = "digits as a poor camera sees them, or the clean scans (%(default)s)"
    parser.add_argument("--task", choices=tuple(DEMOS), default="camera", help=text)
    board_argument(parser, "board whose memory is the budget")
    parser.add_argument("--tasks", type=positive, default=5, help="number of tasks to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks (%(default)s)")
    parser.add_argument("--out", help="keep the bundle of the last task in this folder")
    report_argument(parser)
    json_argument(parser, "one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0 where every step held, else 1."""
    from keras_tinytrain.cli import demo_run

    return demo_run.run(args)
