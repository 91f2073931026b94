"""Options of `keras-tinytrain benchmark accuracy`, apart from `accuracy` so that --help does not load TensorFlow."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `accuracy.run` reads."""
    text = "mcunet, mobilenet_v2, proxylessnas, nanonet or gesturenet (%(default)s)"
    parser.add_argument("--backbone", default="mcunet", help=text)
    parser.add_argument("--weights", default="", help="a file of weights, meta-trained ones for instance (default: ImageNet's)")
    parser.add_argument(
        "--domains", nargs="+", required=True,
        help=".npz files, folders of class folders (drawings:FOLDER for ink on white), tfds:NAME of Meta-Dataset, or digits; "
        "odd: or even: before one leaves every second class of it, such as those that metatrain --classes did not see",
    )  # fmt: skip
    parser.add_argument(
        "--methods", nargs="+", default=["none", "last_layer", "tinytrain", "tinytrain_loo_avg"],
        help="names; _loo behind one leaves a sample out of its prototype while training, _avg averages its answers with the "
        "original network's (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--compare", nargs="+", default=["none", "last_layer"], help="references (%(default)s)")
    parser.add_argument("--episodes", type=_positive, default=10, help="tasks per domain (%(default)s)")
    parser.add_argument("--sampler", default="fixed", choices=("fixed", "meta-dataset"), help="of tasks (%(default)s)")
    parser.add_argument("--ways", type=_positive, default=5, help="classes of a fixed task (%(default)s)")
    parser.add_argument("--shots", type=_positive, default=5, help="support samples per class (%(default)s)")
    parser.add_argument("--queries", type=_positive, default=15, help="query samples per class (%(default)s)")
    parser.add_argument("--iterations", type=_positive, default=40, help="optimizer steps (%(default)s, the paper's)")
    parser.add_argument("--learning-rate", nargs="+", default=[], metavar="METHOD=RATE", help="in place of the built-in rates")
    parser.add_argument("--memory", help="memory budget in place of the paper's, such as 1MB; with --compute")
    parser.add_argument("--compute", type=float, help="backward MACs, or their share of full training; with --memory")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks (%(default)s)")
    parser.add_argument("--out", required=True, help="CSV of results; what it holds already is not run again")
    parser.add_argument("--figure", help="draw the gains into this file, .png or .svg")
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help="where tasks run (%(default)s)")
    parser.add_argument("--ray-address", help="of a running Ray cluster; else one is found or started here")
    parser.add_argument("--threads", type=_positive, help="of TensorFlow's operators (default: as many as there are)")


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, received {text}")
    return number
