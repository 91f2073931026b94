"""`keras-tinytrain demo`: learn handwritten digits, in Keras and in the exported C++, and compare."""

import argparse

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.options import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain demo`."""
    parser.add_argument("--board", default="nano33ble", help="board whose memory is the budget (%(default)s)")
    parser.add_argument("--tasks", type=positive, default=1, help="number of tasks to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks (%(default)s)")
    parser.add_argument("--out", help="keep the bundle of the last task in this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0 where every step held, else 1."""
    load_tensorflow()
    from keras_tinytrain.cli import demo_task

    return demo_task.run(board=args.board, num_tasks=args.tasks, seed=args.seed, out=args.out, as_json=args.json)
