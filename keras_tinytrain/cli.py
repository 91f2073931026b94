"""The command line: `keras-tinytrain demo | plan | export | check | emulate | device | benchmark | metatrain`."""

import argparse
import json
import sys

import keras_tinytrain
from keras_tinytrain.cli_benchmark import benchmark_arguments
from keras_tinytrain.cli_options import device_arguments, model_arguments, positive, value_arguments, view_argument
from keras_tinytrain.quiet import load_tensorflow

_EXAMPLES = """examples:
  keras-tinytrain demo
  keras-tinytrain demo --tasks 20 --json
  keras-tinytrain plan backbone.keras --samples task.npz --board nano33ble --compute 0.15 --out plan.json
  keras-tinytrain export backbone.keras --plan plan.json --calibration task.npz --board nano33ble --out bundle/
  keras-tinytrain metatrain --data omniglot_background.npz --out weights.npz --seed 0
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 a step did not hold, 2 the input was wrong."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"keras-tinytrain: {_first_paragraph(error)}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-tinytrain",
        description="Train the few channels of a Keras model that matter for a task; export the trainer to a microcontroller.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras-tinytrain {keras_tinytrain.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary, add_arguments, example in (
        ("demo", "learn handwritten digits, in Keras and in the exported C++, and compare", _demo_arguments, "demo --tasks 3"),
        ("plan", "choose layers and channels for a model and labelled samples", _plan_arguments,
         "plan model.keras --samples task.npz --board nano33ble --out plan.json"),
        ("export", "write the firmware bundle for a model and a plan", _export_arguments,
         "export model.keras --plan plan.json --calibration task.npz --out bundle/"),
        ("check", "verify that a bundle is as it was exported", _check_arguments, "check bundle/"),
        ("emulate", "learn a task on an emulated Cortex-M4F: bytes and instructions", _emulate_arguments, "emulate demo"),
        ("device", "teach a board that runs a bundle's sketch, over its serial port", _device_command_arguments,
         "device --port /dev/ttyACM0 teach --samples task.npz"),
        ("benchmark", "the paper's tables, computed", benchmark_arguments, "benchmark cost --json"),
        ("metatrain", "meta-train a backbone: the demo's on glyphs, GestureNet on motion, an ImageNet one on domains", _metatrain_arguments,
         "metatrain --data omniglot_background.npz --out weights.npz"),
    ):
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=f"example:\n  keras-tinytrain {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
    return parser


def _demo_arguments(parser):
    parser.add_argument("--board", default="nano33ble", help="board whose memory is the budget (%(default)s)")
    parser.add_argument("--tasks", type=positive, default=1, help="number of tasks to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks (%(default)s)")
    parser.add_argument("--out", help="keep the bundle of the last task in this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=_run_demo)


def _run_demo(args):
    load_tensorflow()
    from keras_tinytrain.demo import run

    return run(board=args.board, num_tasks=args.tasks, seed=args.seed, out=args.out, as_json=args.json)


def _plan_arguments(parser):
    model_arguments(parser)
    parser.add_argument("--samples", required=True, help="labelled samples: an .npz with x and y, or a folder of class folders")
    parser.add_argument("--board", default="nano33ble", help="board whose memory is the budget (%(default)s)")
    parser.add_argument("--memory", help="memory budget (what the board has to give)")
    parser.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    parser.add_argument("--inspect", type=positive, default=6, help="choose among the last so many blocks (%(default)s)")
    parser.add_argument("--strategy", default="fisher", help="how to choose (%(default)s); 'l2', 'random', 'fisher P/W', ...")
    parser.add_argument("--seed", type=int, default=0, help="of strategies that draw (%(default)s)")
    device_arguments(parser)
    view_argument(parser)
    parser.add_argument("--explain", action="store_true", help="say why, and what more memory would add")
    parser.add_argument("--figure", help="draw scores, channels and memory into this file, .png or .svg")
    parser.add_argument("--out", help="write the plan to this JSON file")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON instead of a table")
    parser.set_defaults(run=_run_plan)


def _run_plan(args):
    load_tensorflow()
    from rich import print as rich_print

    from keras_tinytrain.device_cost import DeviceAccounting
    from keras_tinytrain.export import board
    from keras_tinytrain.fewshot.task_plan import choose_for_task
    from keras_tinytrain.plan import Budget
    from keras_tinytrain.report import plan_table
    from keras_tinytrain.samples import load_samples
    from keras_tinytrain.views import checked_views

    budget = Budget(args.memory or board(args.board).available_sram_bytes, args.compute)
    model = _load_model(args.model)
    x, y = load_samples(args.samples, model.input_shape[1:], scale=args.scale, offset=args.offset)
    with _spinner("scoring layers and channels"):
        num_views = len(checked_views(args.view))
        accounting = DeviceAccounting(args.optimizer, args.trained_weights, num_views=num_views, features=args.features)
        choice = {"strategy": args.strategy, "seed": args.seed, "inspect": args.inspect, "accounting": accounting}
        plan = choose_for_task(model, x, y, budget, **choice)
    if args.figure:
        from keras_tinytrain.figure import write_figure

        write_figure(plan, args.figure)
    if args.out:
        plan.save(args.out)
    if args.json or plan.explanation is None:
        print(plan.to_json())
    else:
        print(plan.explain()) if args.explain else rich_print(plan_table(plan))
    return 0


def _export_arguments(parser):
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
    parser.add_argument("--split", action=argparse.BooleanOptionalAction, default=True,
                        help="two models, the first run once per sample; --no-split: one, run as a whole in each iteration")
    parser.add_argument("--weights-in-ram", default="cheapest", choices=("cheapest", "selected", "whole"),
                        help="of each trained layer: its trained channels, all of it, or what takes fewer bytes (%(default)s)")
    device_arguments(parser)
    view_argument(parser)
    parser.add_argument("--sketch", choices=("serial", "imu"), default="serial",
                        help="samples of the Arduino sketch: over its port, or from a Nano 33 BLE Sense's motion sensor (%(default)s)")
    parser.add_argument("--out", required=True, help="folder to write; must not exist, or --overwrite")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder")
    parser.add_argument("--json", action="store_true", help="print the promised bytes as JSON")
    parser.set_defaults(run=_run_export)


def _run_export(args):
    load_tensorflow()
    from rich import print as rich_print

    from keras_tinytrain.export import TrainingSettings, export_tflm
    from keras_tinytrain.fewshot.task_plan import head_for
    from keras_tinytrain.plan import Plan
    from keras_tinytrain.report import bytes_table, flat_bytes, weights_table
    from keras_tinytrain.samples import load_samples

    model, plan = _load_model(args.model), _candidates(args) if args.adaptive else Plan.load(args.plan)
    x, y = load_samples(args.calibration, model.input_shape[1:], scale=args.scale, offset=args.offset)
    num_classes = int(y.max()) + 1
    with _spinner("converting to int8 and asking TensorFlow Lite Micro for its memory"):
        bundle = export_tflm(
            model,
            plan,
            calibration=x,
            out=args.out,
            board=args.board,
            head=head_for(model, num_classes),
            training=TrainingSettings(args.optimizer, args.trained_weights, num_classes=num_classes, max_samples=args.max_samples),
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
    return Candidates(inspect=args.inspect, budget=Budget(args.memory or budget.memory, args.compute))


def _check_arguments(parser):
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote")
    parser.set_defaults(run=_run_check)


def _run_check(args):
    load_tensorflow()
    from keras_tinytrain.export import Bundle

    bundle = Bundle.load(args.bundle)
    num_bytes = bundle.promised_bytes["sram"]["total"]
    print(f"{bundle.path}: {len(bundle.manifest['files'])} files as exported, {num_bytes:,} B of SRAM promised")
    return 0


def _emulate_arguments(parser):
    parser.add_argument("bundle", help="folder that `keras-tinytrain export` wrote; or `demo`: the demo's own bundle and task")
    parser.add_argument("--samples", help="labelled samples to learn: an .npz with x and y, or a folder of class folders")
    parser.add_argument("--queries", help="labelled samples to answer afterwards, likewise")
    parser.add_argument("--iterations", type=positive, help="of training (as exported)")
    parser.add_argument("--memory", help="of an adaptive bundle: SRAM within which the board chooses (as exported)")
    parser.add_argument("--compute", type=float, help="and share of a full backward pass, or MACs (as exported)")
    parser.add_argument("--profile", action="store_true", help="count instructions by function, too; needs a C compiler")
    parser.add_argument("--serial", action="store_true", help="wait at a port for `keras-tinytrain device`")
    value_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=_run_emulate)


def _run_emulate(args):
    load_tensorflow()
    from keras_tinytrain import emulate

    return emulate.run(args)


def _device_command_arguments(parser):
    parser.add_argument("action", choices=("status", "teach", "train", "predict", "save", "revert", "reset"),
                        help="teach and predict want --samples, or make a motion where the board records it; save: keep in flash "
                        "what was learned; revert: forget what was learned; reset: and the samples")
    parser.add_argument("--port", required=True, help="such as /dev/ttyACM0, COM3, or a URL of pyserial")
    parser.add_argument("--label", type=int, help="class that `teach` records, on a board with a sensor")
    parser.add_argument("--samples", help="labelled samples: an .npz with x and y, or a folder of class folders")
    value_arguments(parser)
    parser.set_defaults(run=_run_device)


def _run_device(args):
    from keras_tinytrain import device

    return device.run(args)


def _metatrain_arguments(parser):
    from keras_tinytrain.fewshot import metatrain_arguments

    metatrain_arguments.add_arguments(parser)
    parser.set_defaults(run=_run_metatrain)


def _run_metatrain(args):
    load_tensorflow()
    import importlib

    module = {"nano": "metatrain", "gesture": "metatrain_motions"}.get(args.backbone, "metatrain_episodes")
    return importlib.import_module(f"keras_tinytrain.fewshot.{module}").run(args)


def _load_model(path):
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"{path} is not a model that Keras can load: {_first_paragraph(error)}") from error


def _spinner(text):
    from rich.console import Console

    return Console(stderr=True).status(text)


def _first_paragraph(error):
    return str(error).strip().split("\n\n")[0]
