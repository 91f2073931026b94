"""`keras-tinytrain export`: write the firmware bundle for a model and a plan."""

import argparse
import json

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli import options
from keras_tinytrain.export.settings import SKETCHES, WEIGHTS_IN_RAM

SUMMARY = "write the firmware bundle for a model and a plan"
EXAMPLE = "export model.keras --plan plan.json --calibration task.npz --out bundle/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain export`."""
    options.model_arguments(parser)
    options.head_argument(parser)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--plan", help="plan.json, as `keras-tinytrain plan --out` writes it")
    chosen.add_argument("--adaptive", action="store_true", help="write candidates: the device chooses among them for each task")
    adaptive = parser.add_argument_group("--adaptive")
    options.candidate_arguments(adaptive)
    adaptive.add_argument("--memory", help="SRAM in all, such as 100KB (the board's)")
    adaptive.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    text = "labelled samples that show the range of the model's values: an .npz with x and y, or a folder of class folders"
    parser.add_argument("--calibration", required=True, help=text)
    options.board_argument(parser, "board that the bundle must fit")
    parser.add_argument("--max-samples", type=options.positive, default=25, help="samples that the device keeps (%(default)s)")
    parser.add_argument(
        "--split",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a frozen model, run once per sample, and a trainable one; --no-split: one model, run whole in each iteration",
    )
    parser.add_argument(
        "--weights-in-ram",
        default="cheapest",
        choices=tuple(WEIGHTS_IN_RAM),
        help="weights of a trained layer in RAM: its trained channels (selected), all (whole), or whichever is less (%(default)s)",
    )
    options.device_arguments(parser)
    options.view_argument(parser)
    parser.add_argument(
        "--sketch",
        choices=SKETCHES,
        default="serial",
        help="source of the Arduino sketch's samples: its serial port, or a Nano 33 BLE Sense's motion sensor (%(default)s)",
    )
    parser.add_argument("--out", required=True, help="folder to write; must not exist, or --overwrite")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    options.json_argument(parser, "the promised bytes as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    from keras_tinytrain.cli.samples import samples_of_model
    from keras_tinytrain.export import TrainingSettings, export_tflm
    from keras_tinytrain.fewshot.task_loss import head_for
    from keras_tinytrain.plan import Plan

    model, plan = options.load_model(args.model), _candidates(args) if args.adaptive else Plan.load(args.plan)
    x, y = samples_of_model(args, args.calibration, model)
    num_classes = int(y.max()) + 1
    counts = {"num_classes": num_classes, "max_samples": args.max_samples}
    with options.spinner("converting to int8 and asking TensorFlow Lite Micro for its memory"):
        bundle = export_tflm(
            model,
            plan,
            calibration=x,
            out=args.out,
            board=args.board,
            head=head_for(model, num_classes, args.head),
            training=TrainingSettings(args.optimizer, args.trained_weights, **counts),
            views=args.view,
            split=args.split,
            weights_in_ram=args.weights_in_ram,
            features=args.features,
            sketch=args.sketch,
            overwrite=args.overwrite,
        )
    _print(bundle, args)
    return 0


def _candidates(args):
    from keras_tinytrain.export import Candidates
    from keras_tinytrain.plan import Budget

    memory = args.memory or Candidates().budget.memory
    layers = args.layers and tuple(args.layers)
    return Candidates(last_blocks=args.last_blocks, layers=layers, kinds=args.kinds, budget=Budget(memory, args.compute))


def _print(bundle, args):
    from rich import print as rich_print

    from keras_tinytrain.cli.tables import bytes_table, flat_bytes, memory_bars, weights_table

    promised = bundle.promised_bytes
    if args.json:
        print(json.dumps(promised))
        return
    weights = [] if args.adaptive else [weights_table(bundle.manifest["weights_in_ram"])]
    bars = memory_bars(promised["sram"]["total"], promised["flash"]["total"], bundle.manifest["board"])
    rich_print(*weights, bytes_table(flat_bytes(promised)), bars)
