"""The command line: `keras-tinytrain demo | plan | export | check | emulate | device | benchmark | metatrain`."""

import argparse
import sys

import keras_tinytrain
from keras_tinytrain.cli import benchmark, check, demo, device, emulate, export, metatrain, plan
from keras_tinytrain.cli.options import first_paragraph

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
        print(f"keras-tinytrain: {first_paragraph(error)}", file=sys.stderr)
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
    for name, summary, module, example in (
        ("demo", "learn handwritten digits, in Keras and in the exported C++, and compare", demo, "demo --tasks 3"),
        (
            "plan",
            "choose layers and channels for a model and labelled samples",
            plan,
            "plan model.keras --samples task.npz --board nano33ble --out plan.json",
        ),
        (
            "export",
            "write the firmware bundle for a model and a plan",
            export,
            "export model.keras --plan plan.json --calibration task.npz --out bundle/",
        ),
        ("check", "verify that a bundle is as it was exported", check, "check bundle/"),
        ("emulate", "learn a task on an emulated Cortex-M4F: bytes and instructions", emulate, "emulate demo"),
        (
            "device",
            "teach a board that runs a bundle's sketch, over its serial port",
            device,
            "device --port /dev/ttyACM0 teach --samples task.npz",
        ),
        ("benchmark", "the paper's tables, computed", benchmark, "benchmark cost --json"),
        (
            "metatrain",
            "meta-train a backbone: the demo's on glyphs, GestureNet on motion, an ImageNet one on domains",
            metatrain,
            "metatrain --data omniglot_background.npz --out weights.npz",
        ),
    ):
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  keras-tinytrain {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
