"""`keras-tinytrain profile`: which boards could train a model, what they would train, bytes and seconds, on one page."""

import argparse
import json

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli import options
from keras_tinytrain.export.boards import BOARDS

SUMMARY = "which boards could train a model, what they would train, and what it takes"
EXAMPLE = "profile model.keras --samples task.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain profile`."""
    options.model_arguments(parser)
    options.head_argument(parser)
    text = "labelled samples to choose layers by: an .npz with x and y, or a folder of class folders (by the norm of weights)"
    parser.add_argument("--samples", help=text)
    known = f"{', '.join(BOARDS)}, or .toml files that describe one (all that are known)"
    parser.add_argument("--boards", nargs="+", default=list(BOARDS), metavar="BOARD", help=known)
    parser.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    options.json_argument(parser, "one JSON object instead of the page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    from keras_tinytrain.cli.samples import samples_of_model
    from keras_tinytrain.profiling import profile

    model = options.load_model(args)
    samples = samples_of_model(args, args.samples, model) if args.samples else None
    x, y = (samples.x, samples.y) if samples else (None, None)
    with options.spinner("converting to int8, and laying it out for each board"):
        found = profile(model, x, y, boards=args.boards, compute=args.compute, head=args.head)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0
