"""The emulated board taught over its serial port by `keras_tinytrain.device`: what it learns equals the host run."""

import dataclasses
import socket

import numpy as np
import pytest
from models import images, labelled_images, pooled_net, tiny_net

from keras_tinytrain.cli import emulated_task, main
from keras_tinytrain.export import Candidates, TrainingSettings, export_tflm
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.serial_port import Device

WAYS, SHOTS, ITERATIONS = 3, 2, 4
CASES = {  # model, trained channels or what to choose from, where samples' features are kept
    "two_parts": (tiny_net, {"b3_conv": (0, 3), "logits": (0, 1)}, "flash"),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "ram"),
    "adaptive": (tiny_net, Candidates(last_blocks=2, budget=Budget("64KB", 0.4)), "ram"),
}


@pytest.fixture(scope="module", params=CASES)
def board(request, tmp_path_factory):
    """(bundle, samples, labels, program)"""
    build, trained, features = CASES[request.param]
    model, folder = build(), tmp_path_factory.mktemp("serial")
    if isinstance(trained, dict):
        trained = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(learning_rate=0.01, iterations=ITERATIONS, num_classes=WAYS, max_samples=WAYS * SHOTS)
    bundle = export_tflm(
        model,
        trained,
        calibration=images(model, 8),
        out=folder / request.param,
        training=training,
        features=features,
        head="prototypes",
    )
    return bundle, *labelled_images(model, per_class=SHOTS, classes=WAYS), build_firmware(bundle, folder, teaching=True)


def test_what_is_taught_over_the_port_is_learned_as_on_the_host(board):
    bundle, x, y, program = board
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    chosen = host.select() if bundle.manifest.get("adaptive") else Plan.load(bundle.path / "plan.json")
    plan = {layer.name: len(layer.channels) for layer in chosen.layers}
    losses = host.train()
    answers = host.predict(x).argmax(axis=1)
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start()
        with emulated.serial_port() as port, Device(port) as device:
            status = device.status()
            assert {name: status[name] for name in bundle.input} == pytest.approx(bundle.input, abs=1e-12)
            assert (status["network"], status["samples"], status["classes"]) == (bundle.manifest["namespace"], 0, WAYS)
            assert status["plan"] == ({} if bundle.manifest.get("adaptive") else plan)
            assert device.teach(x, y) == WAYS * SHOTS
            assert device.train() == [float(f"{loss:.6f}") for loss in losses]
            assert device.status()["plan"] == plan
            np.testing.assert_array_equal(device.predict(x), answers)
            device.save()
            device.revert()
            with pytest.raises(RuntimeError, match="The board answered to PREDICT: "):
                device.predict(x)
            assert (device.status()["samples"], device.status()["iterations"]) == (WAYS * SHOTS, 0)
            device.reset()
            assert device.status()["samples"] == 0
        emulated.start()
        with emulated.serial_port() as port, Device(port) as device:  # what was saved is there again, without a sample
            assert (device.status()["samples"], device.status()["plan"]) == (0, plan)
            np.testing.assert_array_equal(device.predict(x), answers)
        assert emulated.ask(b"d") == host.trainer.save_delta(0)


def test_the_command_waits_at_a_port(board, monkeypatch, capsys):
    bundle, x, y, program = board
    heard = []

    def enter(_):
        port = capsys.readouterr().out.split()[3]
        with Device(port) as device:
            heard.append(device.teach(x, y))

    monkeypatch.setattr(emulated_task, "build_firmware", lambda *_, **__: program)
    monkeypatch.setattr("builtins.input", enter)
    assert main(["emulate", str(bundle.path), "--serial"]) == 0 and heard == [WAYS * SHOTS]
    assert main(["emulate", "demo", "--serial"]) == 2
    assert "--serial takes a bundle" in capsys.readouterr().err


def test_a_sample_that_does_not_come_whole_is_given_up(board):
    bundle, x, y, program = board
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start()
        with emulated.serial_port() as port:
            host, number = port.removeprefix("socket://").split(":")
            with socket.create_connection((host, int(number))) as line:
                line.sendall(b"TEACH 0 1\n" + bytes(x[0].size - 1))
                assert line.makefile().readline() == "ERROR the image is incomplete\n"
            with Device(port) as device:
                assert device.teach(x, y) == WAYS * SHOTS  # nothing of it went out of step


def test_samples_are_listed_and_taken_back(board):
    """What is learned afterwards is as if the sample had never been sent; in flash its place stays taken."""
    bundle, x, _, program = board
    in_flash = bundle.manifest["features"]["memory"] == "flash"
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start(1)
        with emulated.serial_port() as port, Device(port) as device:
            device.teach(x[:4], [0, 1, 2, 2])
            before = device.samples()
            assert [(sample.place, sample.label) for sample in before] == [(0, 0), (1, 1), (2, 2), (3, 2)]
            assert len({sample.crc for sample in before}) == 4
            assert device.remove_sample(2) == (4 if in_flash else 3)
            after = device.samples()
            assert [sample.place for sample in after] == ([0, 1, 3] if in_flash else [0, 1, 2])
            assert [(sample.label, sample.crc) for sample in after] == [before[i][1:] for i in (0, 1, 3)]
            with pytest.raises(RuntimeError, match="there is no such sample"):
                device.remove_sample(9)
            losses = device.train()
    host = HostRuntime(bundle, settings={"iterations": 1})
    host.add_samples(x[[0, 1, 3]], [0, 1, 2])
    if bundle.manifest.get("adaptive"):
        host.select()
    assert losses == [float(f"{loss:.6f}") for loss in host.train()]


@pytest.mark.trust
def test_a_delta_goes_from_board_to_board_and_no_other_replaces_it(board, tmp_path, capsys):
    bundle, x, y, program = board
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start(1)
        with emulated.serial_port() as port:
            with Device(port) as device:
                with pytest.raises(RuntimeError, match="no delta is saved"):
                    device.saved_delta()
                device.teach(x, y)
                device.train()
                answers = device.predict(x)
                device.save()
                delta = device.saved_delta()
                device.factory()
                device.load_delta(delta)
                np.testing.assert_array_equal(device.predict(x), answers)
                assert (device.status()["saves"], device.status()["lasting"]) == (1, 1)
                with pytest.raises(RuntimeError, match="of another base model"):
                    device.load_delta(dataclasses.replace(delta, base_hash=bytes(32)))
                # Blocks that do not come whole, and an end that comes too early, leave what was saved.
                device._ask("BLOCK 0", np.frombuffer(delta.to_bytes()[:256], np.uint8))
                for cut_off in ("ADOPT 2", "BLOCK 255", "BLOCK 999936"):
                    with pytest.raises(RuntimeError, match="The board answered to"):
                        device._ask(cut_off, None if "ADOPT" in cut_off else np.zeros(256, np.uint8))
                assert device.saved_delta().to_bytes() == dataclasses.replace(delta, sequence=1).to_bytes()
                np.testing.assert_array_equal(device.predict(x), answers)
            for words in (["download"], ["upload"], ["samples"]):
                file = ["--delta", str(tmp_path / "it.delta")] if words != ["samples"] else []
                assert main(["device", "--port", port, *words, *file]) == 0
            said = capsys.readouterr().out
            assert "it.delta: <Delta" in said and "it.delta runs, and is saved" in said and said.endswith("0 samples\n")


@pytest.mark.trust
def test_half_a_command_or_image_of_another_program_is_discarded(board):
    bundle, _, _, program = board
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start()
        with emulated.serial_port() as port:
            host, number = port.removeprefix("socket://").split(":")
            for cut_off in (
                b"TEACH 1 5\n" + b"\x05" * 30,
                b"TEACH 1\n" + b"\x05" * 30,
                b"TEACH 0 99999999999\n",
                b"RESE",
                b"A" * 500,
            ):
                with socket.create_connection((host, int(number))) as line:
                    line.sendall(cut_off)
                with Device(port) as device:
                    assert device.status()["samples"] == 0


@pytest.mark.trust
def test_a_power_cycle_brings_back_what_was_saved_last(board):
    bundle, x, y, program = board
    with EmulatedBoard(bundle, program, serial=True) as emulated:

        def after_power_up(*commands):
            emulated.start()
            with emulated.serial_port() as port, Device(port) as device:
                for command in commands:
                    getattr(device, command)()
                status = device.status()
                return status["runs"], status["saves"], status["lasting"]

        emulated.start()
        with emulated.serial_port() as port, Device(port) as device:
            device.teach(x, y)
            device.train()
            device.save()
        assert after_power_up() == ("learned", 1, 1)
        assert after_power_up("revert") == ("exported", 1, 0)
        assert after_power_up() == ("learned", 1, 1)
        assert after_power_up("reset", "save") == ("exported", 2, 1)
        assert after_power_up() == ("exported", 2, 1)
        assert after_power_up("undo") == ("learned", 1, 1)
        assert after_power_up() == ("learned", 1, 1)
        assert after_power_up("factory") == ("exported", 0, 1)
        assert after_power_up() == ("exported", 0, 1)
