"""`keras-tinytrain export`: write the firmware bundle for a model and a plan."""

import argparse
import json

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.options import device_arguments, load_model, model_arguments, positive, spinner, view_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `keras-tinytrain export`."""
    model_arguments(parser)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--plan", help="plan.json, as `keras-tinytrain plan --out` writes it")
    chosen.add_argument("--adaptive", action="store_true", help="let the device choose what to train, for each task anew")
    adaptive = parser.add_argument_group("--adaptive")
    adaptive.add_argument("--inspect", type=positive, default=6, help="choose among the last so many blocks (%(default)s)")
    adaptive.add_argument("--memory", help="SRAM in all (what the board has to give)")
    adaptive.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    parser.add_argument("--calibration", required=True, help="samples that show the model's range: as --samples of `plan`")
    parser.add_argument("--board", default="nano33ble", help="board that the bundle must fit (%(default)s)")
    parser.add_argument("--max-samples", type=positive, default=25, help="samples that the device keeps (%(default)s)")
    parser.add_argument(
        "--split",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="two models, the first run once per sample; --no-split: one, run as a whole in each iteration",
    )
    parser.add_argument(
        "--weights-in-ram",
        default="cheapest",
        choices=("cheapest", "selected", "whole"),
        help="of each trained layer: its trained channels, all of it, or what takes fewer bytes (%(default)s)",
    )
    device_arguments(parser)
    view_argument(parser)
    parser.add_argument(
        "--sketch",
        choices=("serial", "imu"),
        default="serial",
        help="samples of the Arduino sketch: over its port, or from a Nano 33 BLE Sense's motion sensor (%(default)s)",
    )
    parser.add_argument("--out", required=True, help="folder to write; must not exist, or --overwrite")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    parser.add_argument("--json", action="store_true", help="print the promised bytes as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    from rich import print as rich_print

    from keras_tinytrain.cli.tables import bytes_table, flat_bytes, weights_table
    from keras_tinytrain.data.samples import load_samples
    from keras_tinytrain.export import TrainingSettings, export_tflm
    from keras_tinytrain.fewshot.task_loss import head_for
    from keras_tinytrain.plan import Plan

    model, plan = load_model(args.model), _candidates(args) if args.adaptive else Plan.load(args.plan)
    x, y = load_samples(args.calibration, model.input_shape[1:], scale=args.scale, offset=args.offset)
    num_classes = int(y.max()) + 1
    with spinner("converting to int8 and asking TensorFlow Lite Micro for its memory"):
        bundle = export_tflm(
            model,
            plan,
            calibration=x,
            out=args.out,
            board=args.board,
            head=head_for(model, num_classes),
            training=TrainingSettings(
                args.optimizer, args.trained_weights, num_classes=num_classes, max_samples=args.max_samples
            ),
            views=args.view,
            split=args.split,
            weights_in_ram=args.weights_in_ram,
            features=args.features,
            sketch=args.sketch,
            overwrite=args.overwrite,
        )
    if args.json:
        print(json.dumps(bundle.promised_bytes))
    else:
        weights = [] if args.adaptive else [weights_table(bundle.manifest["weights_in_ram"])]
        rich_print(*weights, bytes_table(flat_bytes(bundle.promised_bytes)))
    return 0


def _candidates(args):
    from keras_tinytrain.export import Candidates
    from keras_tinytrain.plan import Budget

    budget = Candidates().budget
    return Candidates(last_blocks=args.inspect, budget=Budget(args.memory or budget.memory, args.compute))
