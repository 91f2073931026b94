"""`keras-tinytrain benchmark`: the paper's tables, computed."""

import argparse
import importlib
import os

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.backbones.names import IMAGENET_BACKBONES
from keras_tinytrain.cli import accuracy_options
from keras_tinytrain.cli.options import (
    backbone_argument,
    board_argument,
    device_arguments,
    json_argument,
    kernels_argument,
    last_blocks_argument,
    positive,
)

SUMMARY = "the paper's tables, computed"
EXAMPLE = "benchmark cost --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks, each a command of its own, in a module of `keras_tinytrain.benchmark` of the same name."""
    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for name, add, summary in (
        ("cost", _cost, "memory and compute of every method beside the paper's figures"),
        ("accuracy", accuracy_options.add_arguments, "methods side by side on the same few-shot tasks"),
        (
            "unknown",
            accuracy_options.add_unknown_arguments,
            "samples of classes that were not learned, told from those that were",
        ),
        ("classes", accuracy_options.add_classes_arguments, "what is forgotten while classes are added one by one"),
        ("fit", accuracy_options.add_fit_arguments, "ordinary transfer learning: head alone, TinyTrainCallback, full training"),
        ("device", _device, "the exported C++ in int8 beside Keras in float, on the same tasks and plans"),
        ("emulated", _emulated, "bytes and instructions of a network's task on an emulated Cortex-M4F"),
        ("tflm", _tflm, "what bundles promise beside what they take over your TensorFlow Lite Micro"),
        ("models", _models, "networks as people bring them, each run from fit to the emulated board; writes a page"),
        ("claims", _claims, "the paper's abstract, claim by claim: published, computed, measured"),
        ("rungs", _rungs, "how far to climb: accuracy of each method beside its time, energy and memory on a board"),
        ("timing", _timing, "time of choosing a plan beside one step of full training"),
        ("step", _step, "time and memory of a sparse training step beside full fine-tuning"),
    ):
        command = benchmarks.add_parser(name, help=summary, description=summary)
        add(command)
        command.set_defaults(run=run, benchmark=name)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    if getattr(args, "threads", None):  # TensorFlow reads it when it starts
        os.environ.update(TF_NUM_INTRAOP_THREADS=str(args.threads), TF_NUM_INTEROP_THREADS=str(args.threads))
    load_tensorflow()
    return importlib.import_module(f"keras_tinytrain.benchmark.{args.benchmark}").run(args)


def _cost(parser):
    json_argument(parser, "the rows of the paper's table as JSON")
    parser.add_argument("--equal-batch", action="store_true", help="only the second table: batch 1, nothing left out")


def _device(parser):
    backbone_argument(parser)
    parser.add_argument("--weights", help="a file of weights (the network's public ones)")
    parser.add_argument("--domains", nargs="+", required=True, help=".npz files with images and labels")
    parser.add_argument("--episodes", type=positive, default=4, help="tasks per domain (%(default)s)")
    parser.add_argument("--iterations", type=positive, help="training steps of a task (as many as the head needs)")
    text = "what answers: cosine to prototypes, the closed-form head, solved after training, or the one that is chosen (%(default)s)"
    parser.add_argument("--head", choices=("prototypes", "ridge", "auto"), default="prototypes", help=text)
    accuracy_options.result_arguments(parser)


def _emulated(parser):
    parser.add_argument("--backbone", default="mcunet", choices=IMAGENET_BACKBONES, help="(%(default)s)")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file of weights (%(default)s)")
    parser.add_argument("--domain", required=True, help=".npz file with images and labels")
    text = "a plan that is chosen beforehand, one that the board chooses, or all layers (tinytrain)"
    parser.add_argument("--methods", nargs="+", default=["tinytrain"], choices=("tinytrain", "adaptive", "full"), help=text)
    _on_a_board(parser, iterations=1)


def _tflm(parser):
    names = ["mcunet", "proxylessnas", "mobilenet_v2", "nanonet", "gesturenet"]
    parser.add_argument("--networks", nargs="+", default=names, choices=names, help="(all of them)")
    parser.add_argument("--weights", default="", help="a file of weights, or none: random ones (each network's own)")
    text = "samples for the networks of images, see benchmark accuracy (%(default)s); gesturenet gets invented motions"
    parser.add_argument("--domain", default="digits", help=text)
    parser.add_argument("--code", action="store_true", help="instead: bytes of code of each operator in that library, as JSON")
    _on_a_board(parser, iterations=40)


def _on_a_board(parser, *, iterations):
    """The plan and the training that an emulated board runs."""
    last_blocks_argument(parser)
    parser.add_argument("--iterations", type=positive, default=iterations, help="that are emulated (%(default)s)")
    device_arguments(parser, features="flash", optimizer="adam_per_channel", weights="int8")
    parser.add_argument("--memory", help="memory budget of a plan, such as 200KB (the board's)")
    kernels_argument(parser, "as Arduino's libraries have them")
    parser.add_argument("--seed", type=int, default=0, help="of the task (%(default)s)")
    json_argument(parser, "the figures as JSON")


def _models(parser):
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these again (those that the page does not have yet)")
    text = "page to write; its rows are kept beside it, as .json, and are not run again (%(default)s)"
    parser.add_argument("--out", default="docs/models.md", help=text)
    parser.add_argument("--files", default="", help="folder with the reference models of MLPerf Tiny (none)")
    parser.add_argument("--jobs", type=positive, default=1, help="networks that run at one time (%(default)s)")
    parser.add_argument("--timeout", type=positive, default=900, help="seconds after which a network is ended (%(default)s)")


def _claims(parser):
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="that are measured (the paper's three)")
    text = "results of benchmark accuracy, with the methods tinytrain and full (those of a few small tasks)"
    parser.add_argument("--accuracy", metavar="CSV", help=text)
    text = "weights in the column 'pretrained' of these results that were meta-trained (none)"
    parser.add_argument("--meta-trained", default="", metavar="NAME", help=text)
    parser.add_argument("--domain", default="digits", help="samples of the tasks, see benchmark accuracy (%(default)s)")
    parser.add_argument("--episodes", type=positive, default=1, help="small tasks where there is no --accuracy (%(default)s)")
    parser.add_argument("--iterations", type=positive, default=1, help="that are emulated (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="measure NanoNet alone, by FullTrain and TinyTrain")
    parser.add_argument("--out", required=True, help="CSV of measurements; one that it holds already is not made again")
    parser.add_argument("--page", help="write the claims into this file, as Markdown")
    json_argument(parser, "the figures of each claim as JSON")


def _rungs(parser):
    backbone_argument(parser)
    text = "results of benchmark accuracy, of the same tasks; 'none' is among the methods, and each has its --iterations"
    parser.add_argument("--accuracy", nargs="+", required=True, metavar="CSV", help=text)
    text = "to show, beside none (all that were run on every task and that a device can run)"
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help=text)
    board_argument(parser, "a Cortex-M4F that learns")
    text = "samples of the task whose cost is computed, see benchmark accuracy (%(default)s)"
    parser.add_argument("--domain", default="digits", help=text)
    parser.add_argument("--seed", type=int, default=0, help="of that task (%(default)s)")
    parser.add_argument("--out", required=True, help="CSV of the rungs")
    parser.add_argument("--figure", help="draw accuracy beside time into this file, .png or .svg")
    parser.add_argument("--page", help="write the table into this file, as Markdown")


def _timing(parser):
    parser.add_argument("--repeats", type=positive, default=7, help="medians over so many runs (%(default)s)")
    json_argument(parser, "the seconds as JSON")


def _step(parser):
    parser.add_argument("--repeats", type=positive, default=15, help="medians over so many steps of each (%(default)s)")
    json_argument(parser, "seconds, bytes and counts as JSON")
