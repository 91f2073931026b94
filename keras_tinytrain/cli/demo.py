"""`keras-tinytrain demo`: learn handwritten digits, in Keras and in the exported C++, and compare."""

import argparse

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.options import board_argument, json_argument, positive

SUMMARY = "learn handwritten digits, in Keras and in the exported C++, and compare"
EXAMPLE = "demo --tasks 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain demo`."""
    board_argument(parser, "board whose memory is the budget")
    parser.add_argument("--tasks", type=positive, default=1, help="number of tasks to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks (%(default)s)")
    parser.add_argument("--out", help="keep the bundle of the last task in this folder")
    json_argument(parser, "one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0 where every step held, else 1."""
    load_tensorflow()
    from keras_tinytrain.cli import demo_task

    return demo_task.run(board=args.board, num_tasks=args.tasks, seed=args.seed, out=args.out, as_json=args.json)
