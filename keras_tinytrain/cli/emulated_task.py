"""A task on an emulated board, from the command line: bytes and instructions by part, as a table or as JSON."""

import contextlib
import json
import pathlib
import sys
import tempfile

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.cli import demo_task
from keras_tinytrain.data import load_digits
from keras_tinytrain.data.episodes import sample_episode
from keras_tinytrain.data.samples import load_samples
from keras_tinytrain.export import Bundle
from keras_tinytrain.export.boards import BOARDS
from keras_tinytrain.fewshot.adaptation import adapt
from keras_tinytrain.plan import Budget
from keras_tinytrain.run.emulation import INSTRUCTIONS_PER_MAC, EmulatedTask, emulate_task
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware

# An assumption between 1 and 2 cycles. The Cortex-M4's Technical Reference Manual: 1 for arithmetic, integer or float, 2 for a
# load that stands alone, 2 to 4 for a taken branch, 14 for a float division; a flash that keeps the core waiting adds to it.
CYCLES_PER_INSTRUCTION = 1.4
MILLIAMPERES = {"nano33ble": 3.3}  # nRF52840 Product Specification: CPU running from flash at 64 MHz, DC/DC regulator, 3 V
VOLTS = 3.0
NUM_QUERIES = 20  # of the demo's task, answered on the board
FORWARD = ("frozen_forward", "trainable_forward")
SMALLEST_SHARE = 0.001  # of all instructions: functions with less make one row


def run(args) -> int:
    """Emulate and print. Returns 0; what cannot be done raises."""
    if args.serial:
        return _serve(args)
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack, console.status("preparing") as status:
        if args.bundle == "demo":
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keras_tinytrain_")))
            bundle, task, queries = _demo_task(folder)
        else:
            bundle, task, queries = _own_task(args)
        x, budget = None if queries is None else queries[0], _budget(bundle, args)
        options = {"iterations": args.iterations, "queries": x, "budget": budget, "profile": args.profile}
        emulated = emulate_task(bundle, *task, **options, progress=status.update)
    if emulated.forward_is_estimated:
        console.print(_ESTIMATE_NOTE, style="dim")
    if args.json:
        print(json.dumps(emulated.to_json()))
    else:
        _show(bundle, emulated, queries)
    return 0


_ESTIMATE_NOTE = (
    "Forward passes ran on the host with the board's weights (no TFLM_INCLUDE_DIRS and TFLM_LIBRARY): their instructions are "
    f"estimated as MACs x {INSTRUCTIONS_PER_MAC}, and TensorFlow Lite Micro's code is not in the flash."
)


def _serve(args):
    """The board at a port, for `keras-tinytrain device`, until the user has had enough."""
    if args.bundle == "demo" or args.samples or args.queries or args.profile:
        raise ValueError("--serial takes a bundle, without samples and --profile: `keras-tinytrain device` sends the samples.")
    bundle = Bundle.load(args.bundle)
    with (
        tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder,
        EmulatedBoard(bundle, build_firmware(bundle, folder), serial=True) as board,
    ):
        board.start(args.iterations)
        with board.serial_port() as port:
            print(f"keras-tinytrain device --port {port} status", flush=True)
            input("Enter ends it. ")
    return 0


def _own_task(args):
    if args.samples is None:
        raise ValueError("Name the samples to learn: --samples task.npz. (`emulate demo` brings its own.)")
    bundle = Bundle.load(args.bundle)
    shape = tuple(bundle.input[name] for name in ("height", "width", "channels"))
    read = {"scale": args.scale, "offset": args.offset}
    task = load_samples(args.samples, shape, **read)
    return bundle, task, load_samples(args.queries, shape, **read) if args.queries else None


def _budget(bundle, args):
    """Within which the board chooses; None: all that it was exported for."""
    if args.memory is None and args.compute is None:
        return None
    room = bundle.manifest.get("adaptive") or {}
    memory, compute = args.memory or bundle.manifest["sram"]["total"], args.compute or room.get("backward_macs", 1)
    return Budget(memory, compute)


def _demo_task(folder, seed=0):
    """The demo's first task, chosen and exported as the demo does."""
    backbone = NanoNet()
    episode = sample_episode(load_digits(), ways=demo_task.WAYS, shots=demo_task.SHOTS, rng=np.random.default_rng([seed, 0]))
    budget = Budget(memory=BOARDS["nano33ble"].available_sram_bytes, compute=0.15)
    chosen = adapt(backbone, episode.support_x, episode.support_y, budget=budget, iterations=1, shifts=demo_task.SHIFTS)
    bundle = demo_task.export_task(backbone, chosen.plan, episode, "nano33ble", folder / "demo")
    queries = episode.query_x[:NUM_QUERIES], episode.query_y[:NUM_QUERIES]
    return bundle, (episode.support_x, episode.support_y), queries


def _show(bundle, emulated: EmulatedTask, queries):
    board = bundle.manifest["board"]
    console = Console(file=sys.stdout)
    for title, parts, available in (
        ("SRAM in bytes", emulated.sram_bytes, board["sram_bytes"]),
        ("Flash in bytes", emulated.flash_bytes, board["flash_bytes"]),
    ):
        console.print(_table(title, ("part", "bytes"), [(part, f"{count:,}") for part, count in parts.items()]))
        console.print(f"of {available:,} on board {board['name']}\n")
    hertz = board["clock_hz"]
    heading = ("part", "instructions", f"ms at {hertz / 1e6:.0f} MHz")
    rows = []
    for part, count in emulated.instructions.items():
        label = f"{part} (estimate)" if emulated.forward_is_estimated and part in FORWARD else part
        rows.append((label, f"{count:,}", f"{_seconds(count, hertz) * 1e3:,.0f}"))
    console.print(_table("Instructions of the task", heading, rows))
    console.print(f"ms: an estimate, {CYCLES_PER_INSTRUCTION} cycles an instruction.")
    if board["name"] in MILLIAMPERES:
        milliamperes = MILLIAMPERES[board["name"]]
        joules = _seconds(emulated.instructions["total"], hertz) * milliamperes * 1e-3 * VOLTS
        console.print(f"Energy: {joules:.3f} J at {milliamperes} mA and {VOLTS:.0f} V, the data sheet's for a running CPU.")
    console.print(f"Stack {emulated.stack_bytes:,} B at most, heap {emulated.heap_bytes} B. Loss {_losses(emulated)}.")
    if queries is not None:
        right = np.mean(emulated.logits.argmax(axis=1) == queries[1])
        console.print(f"{100 * right:.1f} % of {len(queries[1])} samples not learned from answered right, on the board.")
    if bundle.manifest.get("adaptive"):
        chosen = ", ".join(f"{layer.name} {len(layer.channels)}" for layer in emulated.plan.layers)
        console.print(f"Chosen on the board, channels: {chosen}.")
    console.print(f"Delta: {len(emulated.delta):,} B, SHA-256 {emulated.delta_sha256}")
    if emulated.functions is not None:
        console.print(_functions_table(emulated.functions))


def _functions_table(functions):
    """Instructions of each function without its callees; the host's forward passes are not among them."""
    total = sum(functions.values())
    shown = {name: count for name, count in functions.items() if count >= SMALLEST_SHARE * total}
    num_others = len(functions) - len(shown)
    counts = {**shown, f"{num_others} others": total - sum(shown.values()), "total": total}
    named = ((escape(name.replace("(anonymous namespace)::", "")), count) for name, count in counts.items())
    rows = [(name, f"{count:,}", f"{100 * count / total:.1f}") for name, count in named]
    return _table("Instructions by function, on the board", ("function", "instructions", "%"), rows)


def _seconds(instructions, hertz):
    return instructions * CYCLES_PER_INSTRUCTION / hertz


def _losses(emulated):
    return f"{emulated.losses[0]:.3f} to {emulated.losses[-1]:.3f} in {len(emulated.losses)} iterations"


def _table(title, heading, rows):
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(heading):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row, style="bold" if row[0] == "total" else None)
    return table
