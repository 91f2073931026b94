"""Options of `keras-tinytrain benchmark accuracy` and `benchmark fit`, apart from the benchmarks so that --help does not load TensorFlow."""

import argparse

from keras_tinytrain.cli.options import backbone_argument, positive

_DOMAINS = (
    ".npz files, folders of class folders (drawings:FOLDER for ink on white), tfds:NAME of Meta-Dataset, or digits; odd: or "
    "even: before one keeps every second class, such as those that metatrain --classes did not see"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `benchmark.accuracy.run` reads."""
    backbone_argument(parser)
    parser.add_argument("--weights", default="", help="a file of weights, for instance meta-trained ones (the network's own)")
    _method_arguments(parser)
    _task_arguments(parser)
    result_arguments(parser)
    parser.add_argument("--figure", help="draw the gains into this file, .png or .svg")
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help="where tasks run (%(default)s)")
    parser.add_argument("--ray-address", help="of a running Ray cluster (one that Ray finds, or one that starts here)")
    parser.add_argument("--threads", type=positive, help="of TensorFlow's operators (as many as there are cores)")


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `benchmark.fit.run` reads."""
    backbone_argument(parser)
    parser.add_argument("--weights", default="", help="a file of weights (the network's own)")
    parser.add_argument("--domains", nargs="+", required=True, help=_DOMAINS)
    parser.add_argument("--methods", nargs="+", help="names (all)")
    parser.add_argument("--epochs", type=positive, default=12, help="of fit (%(default)s)")
    parser.add_argument("--batch-size", type=positive, default=32, help="of fit (%(default)s)")
    text = "of the split into samples to train on and to test on, of the head and of the batches (%(default)s)"
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help=text)
    text = "in place of the built-in rates"
    parser.add_argument("--learning-rate", nargs="+", default=[], metavar="METHOD=RATE", help=text)
    text = "compare learning rates; for each domain, print the rate that is best on the other domains"
    parser.add_argument("--choose-rates", action="store_true", help=text)
    parser.add_argument("--out", required=True, help="CSV of results; a training that it holds already is not run again")
    parser.add_argument("--figure", help="draw accuracy, time and memory into this file, .png or .svg")
    parser.add_argument("--jobs", type=positive, default=1, help="trainings that run at one time (%(default)s)")
    parser.add_argument("--threads", type=positive, help="of TensorFlow's operators (as many as there are cores)")


def add_unknown_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `benchmark.unknown.run` reads."""
    backbone_argument(parser)
    parser.add_argument("--weights", default="", help="a file of weights (the network's own)")
    parser.add_argument("--domains", nargs="+", required=True, help=_DOMAINS)
    text = "what learns, as in benchmark accuracy (%(default)s)"
    parser.add_argument("--methods", nargs="+", default=["none", "tinytrain_loo_avg"], help=text)
    parser.add_argument("--episodes", type=positive, default=10, help="tasks per domain (%(default)s)")
    parser.add_argument("--ways", type=positive, default=5, help="classes of a task (%(default)s)")
    parser.add_argument("--shots", type=positive, default=5, help="support samples per class (%(default)s)")
    parser.add_argument("--negatives", type=int, default=10, help="samples of no class to learn from (%(default)s)")
    result_arguments(parser)
    parser.add_argument("--threads", type=positive, help="of TensorFlow's operators (as many as there are cores)")


def add_classes_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `benchmark.classes.run` reads."""
    backbone_argument(parser)
    parser.add_argument("--weights", default="", help="a file of weights (the network's own)")
    parser.add_argument("--domains", nargs="+", required=True, help=_DOMAINS)
    learners = ("cosine", "ridge", "device")
    text = "prototypes and the closed-form head in Keras, and that head in the exported C++ (%(default)s)"
    parser.add_argument("--learners", nargs="+", choices=learners, default=list(learners[:2]), help=text)
    parser.add_argument("--episodes", type=positive, default=10, help="tasks per domain (%(default)s)")
    parser.add_argument("--ways", type=positive, default=5, help="classes that are learned first (%(default)s)")
    parser.add_argument("--additions", type=positive, default=10, help="classes that are added, one by one (%(default)s)")
    parser.add_argument("--shots", type=positive, default=5, help="support samples per class (%(default)s)")
    result_arguments(parser)
    parser.add_argument("--threads", type=positive, help="of TensorFlow's operators (as many as there are cores)")


def result_arguments(parser: argparse.ArgumentParser) -> None:
    """Queries and seed of the tasks, and the file of results."""
    parser.add_argument("--queries", type=positive, default=15, help="query samples per class (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks (%(default)s)")
    parser.add_argument("--out", required=True, help="CSV of results; a task that it holds already is not run again")


def _method_arguments(parser):
    default = ["none", "last_layer", "tinytrain", "tinytrain_loo_avg"]
    text = (
        "names; with _loo at its end a method leaves each sample out of its own prototype while it trains, with _late, _skip and _stop it "
        "takes the options of adapt that save time, with _ridge it answers "
        "by the closed-form head, with _auto where its samples favour that, with _gated too and trains only where that head needs it, with _avg its answers are averaged with the original network's; in this order (%(default)s)"
    )
    parser.add_argument("--methods", nargs="+", default=default, help=text)
    text = "methods that the others are compared with (%(default)s)"
    parser.add_argument("--compare", nargs="+", default=["none", "last_layer"], help=text)
    parser.add_argument("--iterations", type=positive, default=40, help="optimizer steps (%(default)s, the paper's)")
    text = "in place of the built-in rates"
    parser.add_argument("--learning-rate", nargs="+", default=[], metavar="METHOD=RATE", help=text)
    parser.add_argument("--memory", help="memory budget in place of the paper's, such as 1MB; with --compute")
    parser.add_argument("--compute", type=float, help="backward MACs, or their share of full training; with --memory")


def _task_arguments(parser):
    parser.add_argument("--domains", nargs="+", required=True, help=_DOMAINS)
    parser.add_argument("--episodes", type=positive, default=10, help="tasks per domain (%(default)s)")
    parser.add_argument(
        "--sampler",
        default="fixed",
        choices=("fixed", "imbalanced", "meta-dataset"),
        help="of tasks; imbalanced: from 1 to --shots samples of a class (%(default)s)",
    )
    parser.add_argument("--ways", type=positive, default=5, help="classes of a fixed task (%(default)s)")
    parser.add_argument("--shots", type=positive, default=5, help="support samples per class (%(default)s)")
