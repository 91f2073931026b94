"""The command line: `keras-tinytrain demo | profile | plan | export | check | emulate | page | device | benchmark | metatrain`."""

import argparse
import contextlib
import io
import os
import shlex
import sys

import keras_tinytrain
from keras_tinytrain._text import first_paragraph
from keras_tinytrain.cli import benchmark, check, demo, device, emulate, export, metatrain, page, plan, profile
from keras_tinytrain.cli.options import remark
from keras_tinytrain.cli.warnings_shown import warnings_as_remarks
from keras_tinytrain.cli.words import in_options

_COMMANDS = (demo, profile, plan, export, check, emulate, page, device, benchmark, metatrain)
_EXAMPLES = """examples:
  keras-tinytrain demo
  keras-tinytrain demo --tasks 20 --json
  keras-tinytrain profile model.keras
  keras-tinytrain plan backbone.keras --samples task.npz --board nano33ble --compute 0.15 --out plan.json
  keras-tinytrain export backbone.keras --plan plan.json --calibration task.npz --board nano33ble --out bundle/
  keras-tinytrain metatrain --data omniglot_background.npz --out weights.npz --seed 0
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 a step did not hold, 2 the input was wrong or a file cannot be read or written, 130 interrupted.
        Any other error is a fault of this package, and keeps its traceback.
    """
    args = _parser().parse_args(argv)
    args.command_line = shlex.join(["keras-tinytrain", *(sys.argv[1:] if argv is None else argv)])
    try:
        with warnings_as_remarks(args):
            code = args.run(args)
        sys.stdout.flush()  # a reader that has gone is noticed here, not when Python ends
        return code
    except KeyboardInterrupt:
        remark("interrupted.")
        return 130
    except BrokenPipeError as error:
        _close_output()
        remark(f"the output was closed before all of it was written: {error}")
    except EOFError as error:
        remark(f"the input ended before it was expected to: {first_paragraph(error)}")
    except MemoryError as error:
        remark(f"there is not enough memory on this computer: {first_paragraph(error)}")
    except FileNotFoundError as error:
        remark(f"There is no file {error.filename}." if error.filename else first_paragraph(error))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        remark(in_options(first_paragraph(error), args))
    return 2


def _close_output():
    """Let nothing more be written to a pipe that nobody reads, when Python ends."""
    with open(os.devnull, "w") as sink, contextlib.suppress(io.UnsupportedOperation):
        os.dup2(sink.fileno(), sys.stdout.fileno())


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-tinytrain",
        description="Train the few channels of a Keras model that matter for a task; export the trainer to a microcontroller.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras-tinytrain {keras_tinytrain.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _COMMANDS:
        command = commands.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.SUMMARY,
            description=module.SUMMARY,
            epilog=f"example:\n  keras-tinytrain {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser
