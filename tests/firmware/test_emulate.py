"""A whole task on the emulated board: what it learns equals the host run bit for bit, and its figures add up."""

import functools
import hashlib
import json

import numpy as np
import pytest
from models import images, labelled_images, pooled_net, tiny_net

from keras_tinytrain.choose.forward_work import forward_work
from keras_tinytrain.cli import emulated_task, main
from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.export.tflite.micro_graph import micro_graph
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware

KEYS = {"sram_bytes", "flash_bytes", "instructions", "cycles", "stack_bytes", "heap_bytes", "delta_sha256"}
NANO = board("nano33ble")
WAYS, SHOTS = 3, 2
CASES = {  # model, trained channels, head, views
    "softmax": (lambda: tiny_net(classes=WAYS), {"b2_expand": (0, 1), "logits": (0, 1, 2)}, "softmax", ((0, 1), (-2, 0))),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "prototypes", ()),
}


def host_run(bundle, x, y, iterations, queries):
    host = HostRuntime(bundle, settings={"iterations": iterations})
    host.add_samples(x, y)
    losses = host.train()
    return losses, host.trainer.save_delta(0), host.predict(queries)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demo's own bundle and task."""
    return emulated_task._demo_task(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def learned(digits):
    bundle, (x, y), (queries, _) = digits
    return emulate_task(bundle, x, y, iterations=1, queries=queries[:3])


def test_digits_are_learned_as_on_the_host(digits, learned):
    bundle, (x, y), (queries, _) = digits
    losses, delta, logits = host_run(bundle, x, y, 1, queries[:3])
    assert learned.losses == losses
    assert learned.delta == delta
    np.testing.assert_array_equal(learned.logits, logits)


def test_digits_fit_the_board(digits, learned):
    sram, flash, promised = learned.sram_bytes, learned.flash_bytes, digits[0].promised_bytes["sram"]
    assert sram["total"] == sum(sram.values()) - sram["total"] <= NANO.sram_bytes
    assert flash["total"] == sum(flash.values()) - flash["total"] <= NANO.flash_bytes
    parts = sum(sram[part] for part in ("arena", "training", "features", "closed_form"))
    assert parts == promised["total"] - promised["variables"]
    assert 0 < sram["variables"] <= promised["variables"]  # no image: it is read to where the frozen part has its input
    assert sram["features"] == promised["samples"]
    assert 0 < learned.stack_bytes == sram["stack"] < 4096
    assert learned.heap_bytes == 0
    models = len(digits[0].frozen) + len(digits[0].trainable)
    assert models <= flash["weights"] < models + 64
    assert flash["code"] + flash["core"] < 82 * 1024  # of it 19 KB of the closed-form head and what it refuses as unknown


def test_instructions_are_those_of_the_task(digits, learned):
    """25 samples in 3 views; the original weights are solved first, which leaves the prototypes, an iteration and the end pass each once."""
    bundle = digits[0]
    assert learned.calls == {"frozen_forward": 75, "trainable_forward": 75}
    parts = learned.instructions
    assert parts["total"] == sum(parts.values()) - parts["total"]
    for part, model in (("frozen_forward", bundle.frozen), ("trainable_forward", bundle.trainable)):
        work = forward_work(micro_graph(model), "arduino")
        assert parts[part] == learned.calls[part] * work.instructions > 0
        assert learned.cycles[part] == learned.calls[part] * work.cycles > parts[part]
    num_weights = sum(digits[0].manifest["trained"].values())
    assert parts["backward"] > 25 * 100_000 and parts["update"] > 20 * num_weights
    assert parts["update"] < parts["backward"] and parts["solving"] > 0


@pytest.fixture(scope="module", params=CASES)
def small(request, tmp_path_factory):
    build, trained, head, views = CASES[request.param]
    model = build()
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(learning_rate=0.01, iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
    folder = tmp_path_factory.mktemp("emulate")
    bundle = export_tflm(
        model, plan, calibration=images(model, 8), out=folder / request.param, head=head, training=training, views=views
    )
    return bundle, *labelled_images(model, per_class=SHOTS, classes=WAYS), build_firmware(bundle, folder)


def test_other_models_learn_as_on_the_host(small):
    bundle, x, y, program = small
    task = emulate_task(bundle, x, y, queries=x[:2], program=program)
    losses, delta, logits = host_run(bundle, x, y, 3, x[:2])
    assert (task.losses, task.delta) == (losses, delta)
    assert task.sram_bytes["variables"] <= bundle.promised_bytes["sram"]["variables"]
    np.testing.assert_array_equal(task.logits, logits)
    code = task.flash_bytes["code"] + task.flash_bytes["core"]
    assert code < 64 * 1024  # of it 3 KB of serial commands, 4 KB of choosing what to train
    again = emulate_task(bundle, x, y, program=program)
    assert again.to_json() == task.to_json()  # predictions are not part of the task, and counts repeat exactly


def test_the_command_prints_the_figures(small, tmp_path, capsys, monkeypatch):
    bundle, x, y, program = small
    monkeypatch.setattr(emulated_task, "emulate_task", functools.partial(emulate_task, program=program))
    np.savez(tmp_path / "task.npz", x=x, y=y)
    command = ["emulate", str(bundle.path), "--samples", str(tmp_path / "task.npz"), "--iterations", "1"]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert set(figures) == KEYS
    assert "estimated from the shapes of their operators" in " ".join(printed.err.split())
    _, delta, _ = host_run(bundle, x, y, 1, x[:1])
    assert figures["delta_sha256"] == hashlib.sha256(delta).hexdigest()
    assert main([*command, "--queries", str(tmp_path / "task.npz"), "--report", str(tmp_path / "r.html")]) == 0
    table, report = capsys.readouterr().out, json.loads((tmp_path / "r.json").read_text())
    assert [sum(map(sum, report["confusion"][when])) for when in ("before", "after")] == [len(x), len(x)]
    assert len(report["losses"]) == 1 and report["time"]["seconds"]["backward"] > 0
    assert f"{figures['sram_bytes']['total']:,}" in table and "trainable_forward (estimate)" in table
    assert f"{figures['instructions']['backward']:,}" in table and f"of {len(x)} samples" in table


def test_what_the_board_refuses_is_said(small):
    bundle, x, y, program = small
    with pytest.raises(RuntimeError, match="'s': max_samples are stored already"):
        emulate_task(bundle, np.concatenate([x, x]), np.concatenate([y, y]), program=program)
    with pytest.raises(RuntimeError, match="'l': every class needs a stored sample"):
        emulate_task(bundle, x[:0], y[:0], program=program)
    with pytest.raises(ValueError, match="x expects samples of shape"):
        emulate_task(bundle, x[:, 1:], y, program=program)


def test_a_board_that_stops_is_reported(small):
    with EmulatedBoard(small[0], small[3]) as running, pytest.raises(RuntimeError, match="stopped: it said nothing"):
        running.ask(b"?")


def test_samples_must_be_named(capsys):
    assert main(["emulate", "nowhere"]) == 2
    assert "--samples task.npz" in capsys.readouterr().err
