"""A task on an emulated board, the user's own or the demo's, printed or as JSON; or an emulated board at a port."""

import argparse
import contextlib
import json
import pathlib
import signal
import tempfile
import threading

from rich.console import Console

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.cli import demo_task
from keras_tinytrain.cli.demo_settings import DEMOS
from keras_tinytrain.cli.emulated_report import report_values
from keras_tinytrain.cli.emulated_tables import show
from keras_tinytrain.cli.options import remark, spinner
from keras_tinytrain.cli.report.page import check_report, write_report
from keras_tinytrain.cli.samples import samples_of_bundle, spread
from keras_tinytrain.export import Bundle
from keras_tinytrain.export.page.teach_page import teach_page
from keras_tinytrain.plan import Budget
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.page_server import serve_page

NUM_QUERIES = 20  # of the demo's task, answered on the board


def run(args: argparse.Namespace) -> int:
    """Emulate and print. Returns 0."""
    with _ended_by_a_signal():
        return _serve(args) if args.serial or args.page else _emulate(args)


@contextlib.contextmanager
def _ended_by_a_signal():
    """SIGTERM ends the command as Ctrl-C does: the board ends with it, and its folder is removed."""

    def end(number, frame):
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _emulate(args):
    if args.report:
        check_report(args.report)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack, console.status("preparing") as status:
        if args.bundle == "demo":
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keras_tinytrain_")))
            bundle, task, queries = _demo_task(folder)
        else:
            bundle, task, queries = _own_task(args)
        x, budget = None if queries is None else queries[0], _budget(bundle, args)
        options = {"iterations": args.iterations, "queries": x, "budget": budget, "profile": args.profile, "solve": args.solve}
        emulated = emulate_task(bundle, *task, **options, progress=status.update)
        if args.report:
            status.update("writing the report")
            write_report(args.report, report_values(bundle, task, queries, emulated, args.command_line))
    if emulated.forward_is_estimated:
        console.print(_ESTIMATE_NOTE, style="dim")
    if args.json:
        print(json.dumps(emulated.to_json()))
    else:
        show(bundle, emulated, task[1], None if queries is None else queries[1])
    return 0


_ESTIMATE_NOTE = (
    "Forward passes ran on the host with the board's weights (no TFLM_INCLUDE_DIRS and TFLM_LIBRARY): their instructions are "
    "estimated from the shapes of their operators, and TensorFlow Lite Micro's code is not in the flash."
)


def _serve(args):
    """The board at a port, for `keras-tinytrain device` or for a page, until the user ends it."""
    if args.serial and args.page:
        raise ValueError("--serial and --page: the board has one port. Choose one of the two.")
    if args.bundle == "demo" or args.samples or args.queries or args.profile or args.solve:
        raise ValueError(
            f"{'--page' if args.page else '--serial'} takes a bundle, without samples, --solve and --profile: "
            f"{'the page' if args.page else '`keras-tinytrain device`'} sends the samples."
        )
    bundle = Bundle.load(args.bundle)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="keras_tinytrain_"))
        with spinner("compiling the board's program"):
            program = build_firmware(bundle, folder, teaching=True)
        board = stack.enter_context(EmulatedBoard(bundle, program, serial=True))
        board.start(args.iterations)
        port = stack.enter_context(board.serial_port())
        if args.page:
            address = stack.enter_context(serve_page(teach_page(bundle.manifest), board.serial_address))
            print(f"Open {address} in a browser on this machine.", flush=True)
        else:
            print(f"keras-tinytrain device --port {port} status", flush=True)
        _wait_for_the_user()
        board.stop()
    return 0


def _wait_for_the_user():
    """Until Enter, Ctrl-C, or the end of the input, where nobody can type."""
    with contextlib.suppress(KeyboardInterrupt):
        try:
            input("Enter ends it. ")
        except EOFError:
            remark("standard input is at its end, so the board ends: keep the input open to keep the board.")


def _own_task(args):
    if args.samples is None:
        raise ValueError("Name the samples to learn: --samples task.npz. (`emulate demo` brings its own.)")
    bundle = Bundle.load(args.bundle)
    x, y, _ = samples_of_bundle(args, args.samples, bundle)
    chosen = spread(y, bundle.manifest["training"]["max_samples"])
    if len(chosen) < len(y):
        remark(
            f"the device keeps {len(chosen)} samples, {args.samples} holds {len(y)}: it learns {len(chosen)} of all classes."
        )
    queries = samples_of_bundle(args, args.queries, bundle)[:2] if args.queries else None
    return bundle, (x[chosen], y[chosen]), queries


def _budget(bundle, args):
    """The budget within which the board chooses; None: all that it was exported for."""
    if args.memory is None and args.compute is None:
        return None
    room = bundle.manifest.get("adaptive") or {}
    memory, compute = args.memory or bundle.manifest["sram"]["total"], args.compute or room.get("backward_macs", 1)
    return Budget(memory, compute)


def _demo_task(folder, seed=0):
    """The first task of the demo with clean digits, chosen and exported as the demo does."""
    backbone, settings = NanoNet(), DEMOS["clean"]
    episode = demo_task.draw_task(settings, seed, 0)
    device = demo_task.device_for(settings, "nano33ble", episode)
    chosen = demo_task.adapt_task(backbone, settings, device, episode, iterations=1)
    assert chosen.plan is not None  # it trained something
    bundle = demo_task.export_task(backbone, chosen.plan, settings, device, episode, folder / "demo")
    queries = episode.query_x[:NUM_QUERIES], episode.query_y[:NUM_QUERIES]
    return bundle, (episode.support_x, episode.support_y), queries
