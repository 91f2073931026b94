"""`keras-tinytrain export`: write the firmware bundle for a model and a plan."""

import argparse
import dataclasses
import json

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli import options
from keras_tinytrain.device_settings import DeviceSettings
from keras_tinytrain.export.settings import FLAGS, PROJECTS, SKETCHES, WEIGHTS_IN_RAM

SUMMARY = "write the firmware bundle for a model and a plan"
EXAMPLE = "export model.keras --plan plan.json --calibration task.npz --out bundle/"


_CHOOSES = "Head: closed form or prototypes, whichever gets more of the board's samples right, each left out in turn (--head names one)."


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
    options.settings_arguments(parser, "board that the bundle must fit", unsaid="as planned")
    text = "times that the device goes through its samples when it trains (10 with a closed-form head, else 40)"
    parser.add_argument("--iterations", type=options.positive, help=text)
    options.time_argument(parser)
    parser.add_argument("--learning-rate", type=float, help="of the device's optimizer (0.003)")
    parser.add_argument("--stop-loss", type=float, help="training ends after an iteration whose mean loss is below (0: never)")
    parser.add_argument("--skip-loss", type=float, help="a sample whose loss is below has no backward pass (0: each has one)")
    text = "prototypes of the iteration before: half as many forward passes (with a closed-form head)"
    parser.add_argument("--late-prototypes", action=argparse.BooleanOptionalAction, help=text)
    text = "with --head ridge: train nothing where its solution gets every sample right that is left out of it"
    parser.add_argument("--only-if-needed", action="store_true", default=None, help=text)
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
    parser.add_argument(
        "--sketch",
        choices=SKETCHES,
        default="serial",
        help="source of the Arduino sketch's samples: its serial port, a Nano 33 BLE Sense's motion sensor, or a camera (%(default)s)",
    )
    parser.add_argument(
        "--for",
        dest="project",
        choices=PROJECTS,
        default="arduino",
        help="build system that the example in TinyTrain.zip is for (%(default)s)",
    )
    parser.add_argument("--out", required=True, help="folder to write; must not exist, or --overwrite")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    options.report_argument(parser)
    options.json_argument(parser, "the promised bytes as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    load_tensorflow()
    from keras_tinytrain.cli.samples import samples_of_model
    from keras_tinytrain.export import export_tflm
    from keras_tinytrain.plan import Budget, Plan

    if args.report:
        from keras_tinytrain.cli.report.page import check_report

        check_report(args.report)
    model, plan = options.load_model(args), None if args.adaptive else Plan.load(args.plan)
    planned = plan.device if plan else None
    samples = samples_of_model(args, args.calibration, model, planned=planned)
    device = dataclasses.replace(planned or _device_of(args, model, samples), **_given(args, planned))
    with options.spinner("converting to int8 and asking TensorFlow Lite Micro for its memory"):
        bundle = export_tflm(
            model,
            dataclasses.replace(plan or _candidates(args), device=device),
            calibration=samples.x,
            training=_training(args, device),
            out=args.out,
            split=args.split,
            weights_in_ram=args.weights_in_ram,
            sketch=args.sketch,
            project=args.project,
            overwrite=args.overwrite,
            budget=Budget(time=args.time) if args.time else None,
        )
    if args.report:
        from keras_tinytrain.cli.report.content import bundle_values
        from keras_tinytrain.cli.report.page import write_report

        write_report(args.report, bundle_values(bundle, args.command_line))
    _print(bundle, args)
    return 0


def _given(args, planned):
    """Settings of the command line. One that differs from the plan's takes its place, and is remarked on."""
    from keras_tinytrain.export.remedy import spelled

    given = options.given_settings(args)
    for field, value in given.items() if planned else ():
        before = getattr(planned, field)
        if before != type(before)(value):
            now, then = (" ".join(spelled(FLAGS[field], each)) for each in (value, before))
            options.remark(f"{now} in place of the plan's {then.removeprefix(f'{FLAGS[field]} ') or 'none'}.")
    return given


def _training(args, device):
    """Training on the device as the command line says; None where it says nothing."""
    from keras_tinytrain.export import TrainingSettings

    names = ("iterations", "learning_rate", "stop_loss", "skip_loss", "late_prototypes", "only_if_needed")
    named = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in named.items() if value is not None}
    return TrainingSettings(**given).on(device) if given else None


def _device_of(args, model, samples):
    """Settings for a plan without any, or for candidates: the classes are those of the samples."""
    from keras_tinytrain.fewshot.task_loss import device_head

    num_classes = int(samples.y.max()) + 1
    head = device_head(model, num_classes, args.head)
    return DeviceSettings(num_classes=num_classes, class_names=samples.class_names, head=head)


def _candidates(args):
    from keras_tinytrain.export import Candidates
    from keras_tinytrain.plan import Budget

    memory = args.memory or Candidates().budget.memory
    layers = args.layers and tuple(args.layers)
    return Candidates(last_blocks=args.last_blocks, layers=layers, kinds=args.kinds, budget=Budget(memory, args.compute))


def _print(bundle, args):
    from rich import print as rich_print

    from keras_tinytrain.cli.tables import bytes_table, flat_bytes, memory_bars, weights_table
    from keras_tinytrain.export.task_time import bundle_time

    promised = bundle.promised_bytes
    if args.json:
        print(json.dumps(promised))
        return
    weights = [] if args.adaptive else [weights_table(bundle.manifest["weights_in_ram"])]
    bars = memory_bars(promised["sram"]["total"], promised["flash"]["total"], bundle.manifest["board"])
    rich_print(*weights, bytes_table(flat_bytes(promised)), bars)
    if bundle.manifest.get("closed_form", {}).get("choice", "closed_form") != "closed_form":
        print(_CHOOSES)
    if (time := bundle_time(bundle)) is not None:
        print(time)
