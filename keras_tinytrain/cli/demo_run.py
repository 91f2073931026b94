"""The demo: its tasks one after the other in Keras, each on devices too while the next ones are learned; what came out."""

import argparse
import contextlib
import json
import pathlib
import tempfile
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

from keras_tinytrain._quiet import load_tensorflow
from keras_tinytrain.cli.demo_device import Devices
from keras_tinytrain.cli.demo_settings import DEMOS, STEPS_PER_TASK
from keras_tinytrain.cli.report.page import check_report, write_report
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.run.firmware import CPU, check_tools


def run(args: argparse.Namespace) -> int:
    """Run the demo and print it.

    Returns:
        0 where every step held on every task, else 1.
    """
    start, settings = time.monotonic(), DEMOS[args.task]
    if args.out is not None and pathlib.Path(args.out).exists():
        raise ValueError(f"{args.out} exists already. Name a folder that does not, or remove it.")
    if args.report:
        check_report(args.report)
    console, no_board = Console(stderr=args.json), _why_no_board(args.board)
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as name:
        folder = pathlib.Path(name)
        with _progress(console, args.tasks) as step, Devices(folder, emulate=no_board is None) as devices:
            step("TensorFlow starts")
            load_tensorflow()  # beside the devices' first work, which needs none
            from keras_tinytrain.cli import demo_report
            from keras_tinytrain.cli.demo_task import run_tasks

            folders = [folder / f"task_{number}" for number in range(args.tasks)]
            if args.out is not None:
                folders[-1] = pathlib.Path(args.out)
            backbone, results = run_tasks(settings, args.board, args.seed, folders, devices, step)
        demo = demo_report.Demo(settings, backbone, results, no_board, time.monotonic() - start)
        if args.report:
            write_report(args.report, demo_report.report_values(demo, args.command_line))
        if args.json:
            print(json.dumps(demo.to_json()))
        else:
            demo_report.show(console, demo)
            if args.out is not None:
                console.print(f"The bundle is in {args.out}: see its README.md.")
            if args.report:
                console.print(f"The report is {args.report}: open it in a browser.")
    return 0 if all(demo.checks.values()) else 1


def _why_no_board(board):
    """Why no board is emulated, in a sentence; None where one can be."""
    cpu = find_board(board).cpu
    if cpu != CPU:
        return f"The emulated processor is a {CPU}, and board {board} has a {cpu}."
    try:
        check_tools()
    except RuntimeError as error:
        return str(error)
    return None


@contextlib.contextmanager
def _progress(console, num_tasks):
    """A bar over all steps of all tasks; the yielded function names the step that begins."""
    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), "{task.description}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1 + STEPS_PER_TASK * num_tasks, completed=-1)
        yield lambda step: bar.update(task, advance=1, description=step)
