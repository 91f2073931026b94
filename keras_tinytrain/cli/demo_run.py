"""The demo: its tasks one after the other, each on an emulated board too while the next ones are learned here; what came out."""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.cli import demo_report
from keras_tinytrain.cli.demo_settings import DEMOS
from keras_tinytrain.cli.demo_task import STEPS_PER_TASK, Exported, TaskResult, compare, draw_task, learn_and_export
from keras_tinytrain.cli.report.page import check_report, write_report
from keras_tinytrain.export.boards import board as find_board
from keras_tinytrain.run.emulation import EmulatedTask, emulate_task
from keras_tinytrain.run.firmware import CPU, build_firmware, check_tools, compile_library


def run(args: argparse.Namespace) -> int:
    """Run the demo and print it.

    Returns:
        0 where every step held on every task, else 1.
    """
    start = time.monotonic()
    if args.out is not None and pathlib.Path(args.out).exists():
        raise ValueError(f"{args.out} exists already. Name a folder that does not, or remove it.")
    if args.report:
        check_report(args.report)
    console, backbone = Console(stderr=args.json), NanoNet()
    no_board = _why_no_board(args.board)
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        results, boards = _run_tasks(args, backbone, pathlib.Path(folder), console, emulate=no_board is None)
        demo = demo_report.Demo(DEMOS[args.task], backbone, results, boards, no_board, time.monotonic() - start)
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


def _run_tasks(
    args: argparse.Namespace, backbone: keras.Model, folder: pathlib.Path, console: Console, *, emulate: bool
) -> tuple[list[TaskResult], list[EmulatedTask]]:
    results: list[TaskResult] = []
    futures: list[concurrent.futures.Future[EmulatedTask]] = []
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    with _short_turns(), pool, _progress(console, args.tasks, emulate) as step:
        library = pool.submit(compile_library, _made(folder / "library")) if emulate else None  # begins before its first reader
        for number in range(args.tasks):
            last = number == args.tasks - 1
            out = pathlib.Path(args.out) if args.out is not None and last else folder / f"task_{number}"
            episode = draw_task(DEMOS[args.task], args.seed, number)
            exported = learn_and_export(backbone, DEMOS[args.task], args.board, episode, out, step)
            if library:
                futures.append(pool.submit(_emulate, exported, library, _made(folder / f"firmware_{number}")))
            results.append(compare(backbone, DEMOS[args.task], exported, step))
        boards = []
        for number, future in enumerate(futures):
            step(f"the emulated board: task {number + 1} of {args.tasks}")
            boards.append(future.result())
    return results, boards


def _emulate(exported: Exported, library: concurrent.futures.Future[list[pathlib.Path]], folder: pathlib.Path) -> EmulatedTask:
    program, episode = build_firmware(exported.bundle, folder, library=library.result()), exported.episode
    return emulate_task(exported.bundle, episode.support_x, episode.support_y, queries=episode.query_x, program=program)


@contextlib.contextmanager
def _short_turns():
    """Threads of Python take turns of 0.5 ms, not 5: a board that asks for a forward pass, thousands of times, waits less."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _made(folder):
    folder.mkdir()
    return folder


@contextlib.contextmanager
def _progress(console, num_tasks, emulate):
    """A bar over all steps of all tasks; the yielded function names the step that begins."""
    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), "{task.description}")
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=(STEPS_PER_TASK + emulate) * num_tasks, completed=-1)
        yield lambda step: bar.update(task, advance=1, description=step)
