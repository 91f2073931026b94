"""The command line: `keras-tinytrain demo | plan | export | check | emulate | benchmark | metatrain`."""

import argparse
import json
import sys

import keras_tinytrain
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
        ("benchmark", "the paper's tables, computed", _benchmark_arguments, "benchmark cost --json"),
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
    parser.add_argument("--tasks", type=_positive, default=1, help="number of tasks to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks (%(default)s)")
    parser.add_argument("--out", help="keep the bundle of the last task in this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=_run_demo)


def _run_demo(args):
    load_tensorflow()
    from keras_tinytrain.demo import run

    return run(board=args.board, num_tasks=args.tasks, seed=args.seed, out=args.out, as_json=args.json)


def _plan_arguments(parser):
    _model_arguments(parser)
    parser.add_argument("--samples", required=True, help="labelled samples: an .npz with x and y, or a folder of class folders")
    parser.add_argument("--board", default="nano33ble", help="board whose memory is the budget (%(default)s)")
    parser.add_argument("--memory", help="memory budget (what the board has to give)")
    parser.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    parser.add_argument("--inspect", type=_positive, default=6, help="choose among the last so many blocks (%(default)s)")
    parser.add_argument("--strategy", default="fisher", help="how to choose (%(default)s); 'l2', 'random', 'fisher P/W', ...")
    _device_arguments(parser)
    _view_argument(parser)
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
        plan = choose_for_task(model, x, y, budget, inspect=args.inspect, strategy=args.strategy, accounting=accounting)
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
    _model_arguments(parser)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--plan", help="plan.json, as `keras-tinytrain plan --out` writes it")
    chosen.add_argument("--adaptive", action="store_true", help="let the device choose what to train, for each task anew")
    adaptive = parser.add_argument_group("--adaptive")
    adaptive.add_argument("--inspect", type=_positive, default=6, help="choose among the last so many blocks (%(default)s)")
    adaptive.add_argument("--memory", help="SRAM in all (what the board has to give)")
    adaptive.add_argument("--compute", type=float, default=0.15, help="share of a full backward pass, or MACs (%(default)s)")
    parser.add_argument("--calibration", required=True, help="samples that show the model's range: as --samples of `plan`")
    parser.add_argument("--board", default="nano33ble", help="board that the bundle must fit (%(default)s)")
    parser.add_argument("--max-samples", type=_positive, default=25, help="samples that the device keeps (%(default)s)")
    parser.add_argument("--split", action=argparse.BooleanOptionalAction, default=True,
                        help="two models, the first run once per sample; --no-split: one, run as a whole in each iteration")
    parser.add_argument("--weights-in-ram", default="cheapest", choices=("cheapest", "selected", "whole"),
                        help="of each trained layer: its trained channels, all of it, or what takes fewer bytes (%(default)s)")
    _device_arguments(parser)
    _view_argument(parser)
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
    parser.add_argument("--iterations", type=_positive, help="of training (as exported)")
    parser.add_argument("--memory", help="of an adaptive bundle: SRAM within which the board chooses (as exported)")
    parser.add_argument("--compute", type=float, help="and share of a full backward pass, or MACs (as exported)")
    parser.add_argument("--profile", action="store_true", help="count instructions by function, too; needs a C compiler")
    parser.add_argument("--serial", action="store_true", help="wait at a port for `keras-tinytrain device`")
    _value_arguments(parser)
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
    _value_arguments(parser)
    parser.set_defaults(run=_run_device)


def _run_device(args):
    from keras_tinytrain import device

    return device.run(args)


def _benchmark_arguments(parser):
    from keras_tinytrain.benchmark import accuracy_arguments

    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    cost = benchmarks.add_parser("cost", help="memory and compute of every method beside the paper's figures")
    cost.add_argument("--json", action="store_true", help="print the rows of the paper's table as JSON")
    cost.add_argument("--equal-batch", action="store_true", help="only the second table: batch 1, nothing left out")
    cost.set_defaults(run=_run_benchmark, benchmark="cost")
    accuracy = benchmarks.add_parser("accuracy", help="methods side by side on the same few-shot tasks")
    accuracy_arguments.add_arguments(accuracy)
    accuracy.set_defaults(run=_run_benchmark, benchmark="accuracy")
    device = benchmarks.add_parser("device", help="the exported C++ in int8 beside Keras in float, on the same tasks and plans")
    _task_arguments(device, num_episodes=4)
    device.add_argument("--iterations", type=_positive, default=40, help="training steps of a task (%(default)s)")
    device.set_defaults(run=_run_benchmark, benchmark="device")
    emulated = benchmarks.add_parser("emulated", help="bytes and instructions of a network's task on an emulated Cortex-M4F")
    networks = ("mcunet", "mobilenet_v2", "proxylessnas")
    emulated.add_argument("--backbone", default="mcunet", choices=networks, help="(%(default)s)")
    emulated.add_argument("--weights", default="imagenet", help="imagenet, or a file of weights (%(default)s)")
    emulated.add_argument("--domain", required=True, help=".npz file with images and labels")
    emulated.add_argument("--methods", nargs="+", default=["tinytrain"], choices=("tinytrain", "adaptive", "full"),
                          help="a plan chosen beforehand, one that the board chooses, or everything (tinytrain)")
    emulated.add_argument("--inspect", type=_positive, default=6, help="choose among the last so many blocks (%(default)s)")
    emulated.add_argument("--iterations", type=_positive, default=1, help="that are emulated (%(default)s)")
    _device_arguments(emulated, features="flash", optimizer="adam_per_channel", weights="int8")
    emulated.add_argument("--memory", help="memory budget of the plan (what the board's core leaves)")
    emulated.add_argument("--seed", type=int, default=0, help="of the task (%(default)s)")
    emulated.add_argument("--json", action="store_true", help="print the figures as JSON")
    emulated.set_defaults(run=_run_benchmark, benchmark="emulated")
    timing = benchmarks.add_parser("timing", help="time of choosing a plan beside one step of full training")
    timing.add_argument("--repeats", type=_positive, default=7, help="medians over so many runs (%(default)s)")
    timing.add_argument("--json", action="store_true", help="print the seconds as JSON")
    timing.set_defaults(run=_run_benchmark, benchmark="timing")
    step = benchmarks.add_parser("step", help="time and memory of a sparse training step beside full fine-tuning")
    step.add_argument("--repeats", type=_positive, default=15, help="medians over so many steps of each (%(default)s)")
    step.add_argument("--json", action="store_true", help="print seconds, bytes and counts as JSON")
    step.set_defaults(run=_run_benchmark, benchmark="step")


def _task_arguments(parser, *, num_episodes):
    text = "mcunet, mobilenet_v2, proxylessnas, nanonet or gesturenet (%(default)s)"
    parser.add_argument("--backbone", default="mcunet", help=text)
    parser.add_argument("--weights", help="a file of weights (those of the network that are public)")
    parser.add_argument("--domains", nargs="+", required=True, help=".npz files with images and labels")
    parser.add_argument("--episodes", type=_positive, default=num_episodes, help="tasks per domain (%(default)s)")
    parser.add_argument("--queries", type=_positive, default=15, help="query samples per class (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the tasks (%(default)s)")
    parser.add_argument("--out", required=True, help="CSV of results; what it holds already is not run again")


def _run_benchmark(args):
    import importlib
    import os

    if getattr(args, "threads", None):  # TensorFlow reads it when it starts
        os.environ.update(TF_NUM_INTRAOP_THREADS=str(args.threads), TF_NUM_INTEROP_THREADS=str(args.threads))
    load_tensorflow()

    return importlib.import_module(f"keras_tinytrain.benchmark.{args.benchmark}").run(args)


def _metatrain_arguments(parser):
    from keras_tinytrain.fewshot import metatrain_arguments

    metatrain_arguments.add_arguments(parser)
    parser.set_defaults(run=_run_metatrain)


def _run_metatrain(args):
    load_tensorflow()
    import importlib

    module = {"nano": "metatrain", "gesture": "metatrain_motions"}.get(args.backbone, "metatrain_episodes")
    return importlib.import_module(f"keras_tinytrain.fewshot.{module}").run(args)


def _model_arguments(parser):
    parser.add_argument("model", help="a .keras file: a backbone (images to embeddings) or a classifier")
    _value_arguments(parser)


def _value_arguments(parser):
    parser.add_argument("--scale", type=float, default=1.0, help="multiply stored sample values by this (%(default)s)")
    parser.add_argument("--offset", type=float, default=0.0, help="then add this (%(default)s)")


def _device_arguments(parser, features="ram", optimizer="adam", weights="float_masters"):
    """How the device trains and what it keeps where: the same for `plan`, which counts it, and `export`, which does it."""
    text = "where the device keeps what the frozen part made of the samples (%(default)s)"
    parser.add_argument("--features", choices=("ram", "flash"), default=features, help=text)
    text = "floats in RAM of each trained weight: sgd none, momentum and adam_per_channel 1, adam 2 (%(default)s)"
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "adam", "adam_per_channel"), default=optimizer, help=text)
    text = "trained weights with a float beside their int8, or int8 alone, rounded by chance (%(default)s)"
    parser.add_argument("--trained-weights", choices=("float_masters", "int8"), default=weights, help=text)


def _view_argument(parser):
    text = ("copy that the device keeps of each sample, shifted by pixels down and to the right (negative: up, left), 1 behind them: "
            "mirrored before; as often as wanted (none)")
    parser.add_argument("--view", type=int, nargs="+", action="append", default=[], metavar="PIXELS", help=text)


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


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, received {text}")
    return number
