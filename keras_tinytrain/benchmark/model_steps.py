"""One network through all steps of the page of models, in a process of its own: fit, plan, export, host, emulated board.

Commands run as `python -m keras_tinytrain` runs them. Where an error says which option to add, the option is added once.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import keras
import numpy as np

import keras_tinytrain
from keras_tinytrain._files import write_file
from keras_tinytrain.benchmark.zoo import network
from keras_tinytrain.export import Bundle
from keras_tinytrain.fit import TinyTrainCallback
from keras_tinytrain.model.private_keras import all_layers
from keras_tinytrain.plan import Budget, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.firmware import check_tools

ITERATIONS = 2
_ADVICE = re.compile(r"What fits: `([^`]+)`|add (--[a-z-]+ \S+?)\.?$")
_BUDGET = re.compile(r"The smallest that would do is Budget\(compute=(\d+)\)")
_REMARK = "keras-tinytrain: "


class Outcome(NamedTuple):
    """How a step ended: "works", "refused" by a sentence of this package, "fault", or "not run"; with figures or the sentence."""

    kind: str
    text: str


class Refused(Exception):
    """A command ended with exit code 2."""


class Skipped(Exception):
    """A step that cannot be run on this machine."""


class Fault(Exception):
    """What may not happen: an error without a sentence, or something that was changed in silence."""


@dataclasses.dataclass
class Run:
    """What the steps of a network share: a folder, its model and samples once `fit` has begun, and options of `plan`."""

    folder: pathlib.Path
    build: Callable[[], keras.Model]
    model: Any = None
    x: Any = None
    y: Any = None
    options: tuple[str, ...] = ()
    delta_sha256: str = ""

    def path(self, name: str) -> str:
        return str(self.folder / name)


def main(name: str, files: str, folder: str) -> None:
    """Write {"input": the model's shape, "steps": {step: its outcome}} into steps.json in `folder`, step by step."""
    found: dict[str, Any] = {"input": "", "steps": {}}
    shared = Run(pathlib.Path(folder), network(name, files))
    for step, outcome in run_steps(shared):
        found["steps"][step] = outcome
        found["input"] = " x ".join(map(str, shared.model.input_shape[1:])) if shared.model else ""
        write_file(pathlib.Path(folder, "steps.json"), json.dumps(found))


def run_steps(shared: "Run") -> Iterator[tuple[str, Outcome]]:
    """Each step and its outcome, up to the first that does not work; `plan` follows any `fit`."""
    for step, run_step in STEPS.items():
        outcome = _outcome(run_step, shared)
        yield step, outcome
        if outcome.kind != "works" and (step != "fit" or shared.model is None):
            return


def labelled_samples(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of each class, in turn: x float32 (N, ...), a pattern for each class with noise; y int32 (N,).

    Values are in 0..1, or in 0..255 for a model that scales its input itself.
    """
    num_classes = max(2, model.output_shape[-1]) if _is_classifier(model) else 3
    rng, labels = np.random.default_rng(0), np.arange(2 * num_classes, dtype=np.int32) % num_classes
    patterns, noise = (rng.random((count, *model.input_shape[1:])) for count in (num_classes, len(labels)))
    scales = any(isinstance(layer, keras.layers.Rescaling) for layer in all_layers(model))
    return ((patterns[labels] + noise) / 2 * (255 if scales else 1)).astype(np.float32), labels


def fit(run: Run) -> str:
    """`fit` with the callback, with the budget that its error advises, if any. Returns the number of trained channels."""
    run.model = run.build()
    run.x, run.y = labelled_samples(run.model)
    try:
        return _fit(run, Budget())
    except ValueError as error:
        if not (advised := _BUDGET.search(str(error))):
            raise
        return f"{_fit(run, Budget(compute=int(advised[1])))}, with `Budget(compute={advised[1]})`"


def _fit(run, budget):
    """`fit` on a copy of the model: only the plan's layers may change."""
    model = keras.models.clone_model(run.model)
    model.set_weights(run.model.get_weights())
    y, loss = _target(model, run)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    callback, before = TinyTrainCallback(budget, verbose=0), _values(model)
    model.fit(run.x, y, epochs=2, batch_size=len(y), callbacks=[callback], verbose=0)
    _check_only_planned(callback.plan, before, _values(model))
    return _channels(callback.plan)


def plan(run: Run) -> str:
    """`keras-tinytrain plan --board nano33ble`, with the options that its error advises, if any."""
    run.model.save(run.path("model.keras"))
    np.savez(run.path("task.npz"), x=run.x, y=run.y)
    command = ("plan", run.path("model.keras"), "--samples", run.path("task.npz"), "--board", "nano33ble", "--out")
    for _ in range(3):
        try:
            _command(*command, run.path("plan.json"), *run.options)
        except Refused as error:
            if not (advised := _ADVICE.search(str(error))):
                raise
            run.options += tuple((advised[1] or advised[2]).split())
        else:
            break
    with_options = f", with `{' '.join(run.options)}`" if run.options else ""
    return _channels(Plan.load(run.path("plan.json"))) + with_options


def export(run: Run) -> str:
    """`keras-tinytrain export`, then `check`. Returns the promised bytes."""
    model, chosen, samples = run.path("model.keras"), run.path("plan.json"), run.path("task.npz")
    told = _command("export", model, "--plan", chosen, "--calibration", samples, "--out", run.path("bundle"), "--json")
    _command("check", run.path("bundle"))
    promised = json.loads(told)
    return f"{promised['sram']['total']:,} B RAM, {promised['flash']['total']:,} B flash"


def host(run: Run) -> str:
    """The bundle's C++ on this machine: its bytes are those that were promised, its loss is a number."""
    bundle = Bundle.load(run.path("bundle"))
    runtime, (scale, offset) = HostRuntime(bundle, settings={"iterations": ITERATIONS}), bundle.sample_values
    kept = slice(bundle.manifest["training"]["max_samples"])
    runtime.add_samples(run.x[kept] * np.float32(scale) + np.float32(offset), run.y[kept])
    losses = runtime.train()
    if runtime.bytes_used() != bundle.promised_bytes:
        raise Fault(f"The host uses {runtime.bytes_used()}; promised were {bundle.promised_bytes}.")
    if not np.isfinite(losses).all():
        raise Fault(f"The losses on the host are {losses}.")
    run.delta_sha256 = hashlib.sha256(runtime.trainer.save_delta(0)).hexdigest()
    return "bytes as promised"


def emulated_board(run: Run) -> str:
    """`keras-tinytrain emulate`: it learns what the host learns."""
    try:
        check_tools()
    except RuntimeError as error:
        raise Skipped(str(error)) from error
    told = _command("emulate", run.path("bundle"), "--samples", run.path("task.npz"), "--iterations", str(ITERATIONS), "--json")
    if json.loads(told)["delta_sha256"] != run.delta_sha256:
        raise Fault("The emulated board learned another delta than the host.")
    return "same delta as the host"


STEPS = {"fit": fit, "plan": plan, "export": export, "host": host, "emulated board": emulated_board}


def _outcome(step, *arguments):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return Outcome("works", step(*arguments))
    except Skipped as error:
        return Outcome("not run", str(error))
    except Refused as error:
        return Outcome("refused", str(error))
    except Exception as error:  # whatever ends a step is its outcome  # noqa: BLE001
        traceback.print_exc()
        spoken = isinstance(error, (ValueError, RuntimeError, NotImplementedError)) and _is_ours(error)
        text = str(error) if spoken or isinstance(error, Fault) else f"{type(error).__name__}: {error}"
        return Outcome("refused" if spoken else "fault", text)


def _is_ours(error):
    """Whether this package raised the error, not a library that it called."""
    *_, last = traceback.walk_tb(error.__traceback__)
    return any(pathlib.Path(last[0].f_code.co_filename).is_relative_to(root) for root in keras_tinytrain.__path__)


def _command(*arguments):
    """The standard output of a command. Raises Refused with its last remark where it ends with 2, Fault where it ends otherwise."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["keras-tinytrain", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _exit_code(lambda: runpy.run_module("keras_tinytrain", run_name="__main__"))
    said = err.getvalue()
    if code == 2 and _REMARK in said:
        raise Refused(said.rpartition(_REMARK)[2].strip())
    if code:
        raise Fault(f"`keras-tinytrain {arguments[0]}` ended with {code}: {said.strip()[-500:]}")
    return out.getvalue()


def _exit_code(program):
    try:
        program()
    except SystemExit as ended:
        return ended.code
    raise Fault("The command did not end with an exit code.")


def _is_classifier(model):
    """Whether its output stands for classes: not an autoencoder's, nor an embedding."""
    last = model.layers[-1]
    return model.output_shape != model.input_shape and (hasattr(last, "activation") or isinstance(last, keras.layers.Softmax))


def _target(model, run):
    """(y, loss) of `fit`: classes; for a sequence or a map a class at each place; for an autoencoder its input."""
    if model.output_shape == model.input_shape:
        return run.x, "mse"
    if model.output_shape[-1] == 1:
        return run.y, "binary_crossentropy"
    is_logits = getattr(model.layers[-1], "activation", None) is keras.activations.linear
    places = model.output_shape[1:-1]
    y = np.broadcast_to(run.y.reshape(-1, *[1] * len(places)), (len(run.y), *places))
    return y, keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)


def _values(model):
    return {variable.path: np.array(variable) for variable in model.weights}


def _check_only_planned(chosen, before, after):
    """Raise Fault where `fit` changed nothing, or a weight of a layer outside the plan."""
    planned = {layer.name.partition(".")[0] for layer in chosen.layers}
    changed = [path for path, value in after.items() if not np.array_equal(value, before[path], equal_nan=True)]
    if strangers := [path for path in changed if not planned & set(path.split("/"))]:
        raise Fault(f"`fit` changed {strangers}, which the plan does not train: {planned}.")
    if not changed:
        raise Fault("`fit` changed nothing.")


def _channels(chosen):
    num_channels, num_layers = sum(len(layer.channels) for layer in chosen.layers), len(chosen.layers)
    return f"{num_channels} channel{'s' * (num_channels > 1)} of {num_layers} layer{'s' * (num_layers > 1)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
