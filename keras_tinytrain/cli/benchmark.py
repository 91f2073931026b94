"""`keras-tinytrain benchmark`: the paper's tables, computed."""

import argparse
import importlib
import os

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.options import device_arguments, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks, each a command of its own."""
    from keras_tinytrain.cli import accuracy_options

    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    cost = benchmarks.add_parser("cost", help="memory and compute of every method beside the paper's figures")
    cost.add_argument("--json", action="store_true", help="print the rows of the paper's table as JSON")
    cost.add_argument("--equal-batch", action="store_true", help="only the second table: batch 1, nothing left out")
    cost.set_defaults(run=run, benchmark="cost")
    accuracy = benchmarks.add_parser("accuracy", help="methods side by side on the same few-shot tasks")
    accuracy_options.add_arguments(accuracy)
    accuracy.set_defaults(run=run, benchmark="accuracy")
    device = benchmarks.add_parser("device", help="the exported C++ in int8 beside Keras in float, on the same tasks and plans")
    _task_arguments(device, num_episodes=4)
    device.add_argument("--iterations", type=positive, default=40, help="training steps of a task (%(default)s)")
    device.set_defaults(run=run, benchmark="device")
    emulated = benchmarks.add_parser("emulated", help="bytes and instructions of a network's task on an emulated Cortex-M4F")
    networks = ("mcunet", "mobilenet_v2", "proxylessnas")
    emulated.add_argument("--backbone", default="mcunet", choices=networks, help="(%(default)s)")
    emulated.add_argument("--weights", default="imagenet", help="imagenet, or a file of weights (%(default)s)")
    emulated.add_argument("--domain", required=True, help=".npz file with images and labels")
    emulated.add_argument(
        "--methods",
        nargs="+",
        default=["tinytrain"],
        choices=("tinytrain", "adaptive", "full"),
        help="a plan chosen beforehand, one that the board chooses, or everything (tinytrain)",
    )
    emulated.add_argument("--inspect", type=positive, default=6, help="choose among the last so many blocks (%(default)s)")
    emulated.add_argument("--iterations", type=positive, default=1, help="that are emulated (%(default)s)")
    device_arguments(emulated, features="flash", optimizer="adam_per_channel", weights="int8")
    emulated.add_argument("--memory", help="memory budget of the plan (what the board's core leaves)")
    emulated.add_argument("--seed", type=int, default=0, help="of the task (%(default)s)")
    emulated.add_argument("--json", action="store_true", help="print the figures as JSON")
    emulated.set_defaults(run=run, benchmark="emulated")
    timing = benchmarks.add_parser("timing", help="time of choosing a plan beside one step of full training")
    timing.add_argument("--repeats", type=positive, default=7, help="medians over so many runs (%(default)s)")
    timing.add_argument("--json", action="store_true", help="print the seconds as JSON")
    timing.set_defaults(run=run, benchmark="timing")
    step = benchmarks.add_parser("step", help="time and memory of a sparse training step beside full fine-tuning")
    step.add_argument("--repeats", type=positive, default=15, help="medians over so many steps of each (%(default)s)")
    step.add_argument("--json", action="store_true", help="print seconds, bytes and counts as JSON")
    step.set_defaults(run=run, benchmark="step")


def _task_arguments(parser, *, num_episodes):
    text = "mcunet, mobilenet_v2, proxylessnas, nanonet or gesturenet (%(default)s)"
    parser.add_argument("--backbone", default="mcunet", help=text)
    parser.add_argument("--weights", help="a file of weights (those of the network that are public)")
    parser.add_argument("--domains", nargs="+", required=True, help=".npz files with images and labels")
    parser.add_argument("--episodes", type=positive, default=num_episodes, help="tasks per domain (%(default)s)")
    parser.add_argument("--queries", type=positive, default=15, help="query samples per class (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks (%(default)s)")
    parser.add_argument("--out", required=True, help="CSV of results; what it holds already is not run again")


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    if getattr(args, "threads", None):  # TensorFlow reads it when it starts
        os.environ.update(TF_NUM_INTRAOP_THREADS=str(args.threads), TF_NUM_INTEROP_THREADS=str(args.threads))
    load_tensorflow()
    return importlib.import_module(f"keras_tinytrain.benchmark.{args.benchmark}").run(args)
