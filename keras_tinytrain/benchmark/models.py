"""`keras-tinytrain benchmark models`: networks as people bring them, each run from `fit` to the emulated board; a page of what ran."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from concurrent import futures

from keras_tinytrain._files import write_file
from keras_tinytrain.benchmark.models_page import page
from keras_tinytrain.benchmark.zoo import known_networks, network


def run(args: argparse.Namespace) -> int:
    """Run the networks that have no row yet, or those of --only again. Returns 1 where a step ended in a fault, else 0."""
    out = pathlib.Path(args.out)
    store = out.with_suffix(".json")
    rows = json.loads(store.read_text()) if store.exists() else {}
    known = known_networks(args.files)
    builds = {name: network(name, args.files) for name in args.only or known if args.only or name not in rows}
    for name, row in _run_side_by_side(builds, args):
        print(f"{name}: {_in_short(row)}", flush=True)
        rows = _sorted({**rows, name: row}, known)
        write_file(store, json.dumps(rows, indent=1) + "\n")
        write_file(out, page(rows))
    return int(any(outcome["kind"] == "fault" for name in builds for outcome in rows[name]["steps"].values()))


def _run_side_by_side(names, args):
    """(name, row) of each network, as it ends."""
    with futures.ThreadPoolExecutor(args.jobs) as pool:
        running = {pool.submit(run_network, name, args.files, timeout_s=args.timeout): name for name in names}
        for done in futures.as_completed(running):
            yield running[done], done.result()


def _in_short(row):
    return ", ".join(f"{step} {outcome['kind']}" for step, outcome in row["steps"].items())


def _sorted(rows, known):
    """Rows in the order of the networks; those of files that are not at hand come last."""
    order = {name: index for index, name in enumerate(known)}
    return dict(sorted(rows.items(), key=lambda item: order.get(item[0], len(order))))


def run_network(name: str, files: str = "", *, timeout_s: float) -> dict:
    """The row of a network, which runs in a process of its own.

    Args:
        name: of `known_networks`.
        files: folder of models that are not part of this package, or "".
        timeout_s: after so many seconds the process is ended, and the step it was at is a fault.

    Returns:
        {"about": what it is, "input": its shape, "steps": {step: {"kind": ..., "text": ...}}}; see `model_steps.Outcome`.
    """
    with tempfile.TemporaryDirectory(prefix="keras_tinytrain_") as folder:
        command = [sys.executable, "-m", "keras_tinytrain.benchmark.model_steps", name, files, folder]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            )
            end = "" if not done.returncode else _end(done.returncode, done.stderr)
        except subprocess.TimeoutExpired:
            end = f"took more than {timeout_s:.0f} s"
        written = pathlib.Path(folder, "steps.json")
        found = json.loads(written.read_text()) if written.exists() else {}
    steps = {step: {"kind": kind, "text": text} for step, (kind, text) in found.get("steps", {}).items()}
    if end:
        steps["the process"] = {"kind": "fault", "text": end}
    return {"about": (network(name, files).__doc__ or "").strip(), "input": found.get("input", ""), "steps": steps}


def _end(code, errors):
    if code < 0:
        return f"crashed: {signal.Signals(-code).name}"
    return f"ended with {code}: {errors.strip().splitlines()[-1:]}"
