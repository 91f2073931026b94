"""A closed-form head on the emulated board: it solves, answers and saves as the host does, bit for bit, also over its serial port."""

import functools
import json

import keras
import numpy as np
import pytest
from models import images, labelled_images, sequence_net, tiny_net

from keras_tinytrain.cli import emulated_task, main
from keras_tinytrain.export import Candidates, TrainingSettings, export_tflm
from keras_tinytrain.export.backward.work import solve_work
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.emulation import emulate_task
from keras_tinytrain.run.emulator import EmulatedBoard
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.run.serial_port import Device
from tests.run import test_choice_of_head as chooses

WAYS, SHOTS, ITERATIONS = 3, 3, 2


def backbone():
    net = tiny_net()
    return keras.Model(net.input, net.get_layer("pool").output, name="backbone")


CASES = {  # model, trained channels or what to choose from, features, share of the original network, rate of unknown samples
    "ram": (backbone, {"b2_expand": (0, 1), "b3_conv": (1, 4)}, "ram", 0.5, 0.2),
    "flash": (sequence_net, {"second": (1, 2, 4, 5)}, "flash", 0.0, 0.0),
    "adaptive": (backbone, Candidates(last_blocks=2, budget=Budget("64KB", 0.4)), "flash", 0.5, 0.1),
}


@pytest.fixture(scope="module", params=CASES)
def board(request, tmp_path_factory):
    """(bundle, samples, labels, program)"""
    build, trained, features, average, rate = CASES[request.param]
    model, folder = build(), tmp_path_factory.mktemp("closed_form")
    if isinstance(trained, dict):
        trained = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(
        learning_rate=0.1, iterations=ITERATIONS, num_classes=WAYS, max_samples=WAYS * SHOTS, average=average
    )
    options = {"head": "ridge", "training": training, "features": features, "reject_unknown": rate}
    bundle = export_tflm(model, trained, calibration=images(model, 8), out=folder / "b", **options)
    return bundle, *labelled_images(model, per_class=SHOTS, classes=WAYS), build_firmware(bundle, folder)


def test_board_solves_as_the_host(board):
    bundle, x, y, program = board
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    task = emulate_task(bundle, x, y, queries=x[:4], program=program, solve=True)
    np.testing.assert_array_equal(task.leave_one_out, host.solve())
    np.testing.assert_array_equal(task.logits, host.predict(x[:4]))
    assert task.delta == host.trainer.save_delta(0)
    assert task.calls == {"frozen_forward": len(x), "trainable_forward": len(x)}
    promised, used = bundle.promised_bytes, task.sram_bytes
    arenas = used["arena"] + used["training"] + used["features"] + used["closed_form"]
    assert arenas == promised["sram"]["total"] - promised["sram"]["variables"]
    assert used["variables"] <= promised["sram"]["variables"]
    assert used["closed_form"] == promised["sram"]["closed_form"]
    assert task.flash_bytes["features"] == promised["flash"]["features"] and task.heap_bytes == 0
    assert task.instructions["solving"] > 0 and task.instructions["backward"] == 0


def test_board_trains_and_solves_as_the_host(board):
    bundle, x, y, program = board
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    host.train()
    task = emulate_task(bundle, x, y, queries=x[:4], program=program)
    np.testing.assert_array_equal(task.logits, host.predict(x[:4]))
    assert task.delta == host.trainer.save_delta(0)


def test_port_takes_solve(board, capsys):
    bundle, x, y, program = board
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    right = np.mean(host.solve().argmax(axis=1) == y)
    answers = host.predict_classes(x)
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start()
        with emulated.serial_port() as port:
            with Device(port) as device:
                assert device.status()["head"] == "none"
                with pytest.raises(RuntimeError, match="every class needs"):
                    device.solve()
                device.teach(x, y)
                assert device.solve() == pytest.approx(right)
                assert (device.status()["head"], device.status()["runs"]) == ("ridge", "learned")
                np.testing.assert_array_equal(device.predict(x), answers)
                device.save()
                assert device.status()["lasting"]
                device.revert()
                assert device.status()["head"] == "none"
            assert main(["device", "--port", port, "solve"]) == 0
            assert f"{right:.1%} are right" in capsys.readouterr().out
        emulated.start()
        with emulated.serial_port() as port, Device(port) as device:
            kept = len(x) if bundle.manifest["features"]["memory"] == "flash" else 0  # samples in flash last
            assert (device.status()["head"], device.status()["samples"]) == ("ridge", kept)
            np.testing.assert_array_equal(device.predict(x), answers)
        assert emulated.ask(b"d") == host.trainer.save_delta(0)


@pytest.mark.parametrize("board", ["ram", "adaptive"], indirect=True)
def test_board_tells_unknown_samples_and_forgets_a_class_as_the_host(board):
    bundle, x, y, program = board
    host, known = HostRuntime(bundle), np.arange(len(y)) % SHOTS < 2  # two of each class, and others
    host.add_unknown(x[~known][:2])
    host.add_samples(x[known], y[known])
    samples = np.concatenate([host.quantise(x[~known][:2]), host.quantise(x[known])])
    labels = np.concatenate([[WAYS, WAYS], y[known]])
    with EmulatedBoard(bundle, program) as emulated:
        emulated.start()
        for image, label in zip(samples, labels, strict=True):
            emulated.ask(b"s" + bytes([label]) + image.tobytes())
        for forgotten in (None, WAYS, 1):
            if forgotten is not None:
                host.trainer.forget_class(forgotten)
                emulated.ask(b"x" + bytes([forgotten]))
            assert emulated.ask(b"v") == host.solve().tobytes()
            assert emulated.ask(b"p" + samples[3].tobytes()) == host.trainer.predict(samples[3])[1].tobytes()
            expected = [host.trainer.familiarity, host.threshold]
            assert emulated.ask(b"y") == np.array(expected, np.float32).tobytes()
        assert emulated.ask(b"d") == host.trainer.save_delta(0)


@pytest.mark.parametrize("board", ["ram"], indirect=True)
def test_port_takes_samples_of_no_class_and_forgets_one(board, tmp_path, capsys):
    bundle, x, y, program = board
    host, known = HostRuntime(bundle), np.arange(len(y)) % SHOTS < 2
    host.add_samples(x[known], y[known])
    host.add_unknown(x[~known][:2])
    host.solve()
    np.savez(tmp_path / "others.npz", x=x[~known][:2], y=[0, 1])
    with EmulatedBoard(bundle, program, serial=True) as emulated:
        emulated.start()
        with emulated.serial_port() as port:
            with Device(port) as device:
                device.teach(x[known], y[known])
                with pytest.raises(RuntimeError, match="nothing is learned yet"):
                    device.familiarity()
            command = ["device", "--port", port, "teach", "--unknown", "--samples", str(tmp_path / "others.npz")]
            assert main(command) == 0 and "8 samples" in capsys.readouterr().out
            with Device(port) as device:
                device.solve()
                np.testing.assert_array_equal(device.predict(x), host.predict_classes(x))
                assert device.familiarity() == pytest.approx((host.familiarity(x[-1:])[0], host.threshold), abs=2e-6)
                right = device.remove_class(1)
                host.trainer.forget_class(1)
                left_out, labels = host.solve(), host.trainer.labels
                assert right == pytest.approx(np.mean(left_out.argmax(axis=1) == labels))
                with pytest.raises(RuntimeError, match="FORGET <label>, FAMILIARITY"):
                    device._ask("FORGET x")


def test_command_emulates_a_solution(board, tmp_path, capsys, monkeypatch):
    bundle, x, y, program = board
    monkeypatch.setattr(emulated_task, "emulate_task", functools.partial(emulate_task, program=program))
    np.savez(tmp_path / "task.npz", x=x, y=y)
    command = ["emulate", str(bundle.path), "--samples", str(tmp_path / "task.npz"), "--solve"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instructions"]["solving"] > 0
    assert main(command) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "closed_form" in shown and "nothing was trained" in shown


@pytest.mark.parametrize("board", ["ram"], indirect=True)
def test_report_tells_the_closed_form_head(board, tmp_path, monkeypatch):
    bundle, x, y, program = board
    monkeypatch.setattr(emulated_task, "emulate_task", functools.partial(emulate_task, program=program))
    np.savez(tmp_path / "task.npz", x=x, y=y)
    command = ["emulate", str(bundle.path), "--report", str(tmp_path / "report.html")]
    command += [part for option in ("--samples", "--queries") for part in (option, str(tmp_path / "task.npz"))]
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    right = 100 * np.mean(host.solve().argmax(axis=1) == y)
    untrained = 100 * np.mean(host.predict(x).argmax(axis=1) == y)

    assert main([*command, "--solve"]) == 0
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["leave_one_out_percent"] == pytest.approx(right) and list(told["confusion"]) == ["after"]
    assert [(row["method"], row["percent"]) for row in told["accuracy"]] == [("closed-form head, emulated board", untrained)]
    assert f"{right:.1f} % are right by the solution without them" in (tmp_path / "report.html").read_text()

    assert main(command) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["accuracy"]
    assert [row["method"] for row in rows] == ["closed-form head, nothing trained", "learned, emulated board"]
    assert rows[0]["percent"] == untrained and rows[1]["gain"] == rows[1]["percent"] - untrained


def test_bundle_without_the_head_is_not_solved(tmp_path):
    model = sequence_net()
    plan = Plan((LayerPlan("second", (0, 1)),))
    training = TrainingSettings(num_classes=WAYS, max_samples=WAYS)
    bundle = export_tflm(model, plan, calibration=images(model, 4), out=tmp_path / "b", training=training, head="prototypes")
    x, y = labelled_images(model, per_class=1, classes=WAYS)
    with pytest.raises(ValueError, match="head='ridge'"):
        emulate_task(bundle, x, y, solve=True)


def test_board_chooses_its_head_and_trains_by_it_as_the_host(tmp_path):
    bundle = chooses.export(tmp_path / "b", "images", iterations=ITERATIONS)
    x, labels = chooses.labels_by_choice("images", bundle)
    program = build_firmware(bundle, tmp_path)
    solve = solve_work(bundle.manifest["closed_form"]["parts"], len(x), bundle.manifest["training"]["num_classes"])
    for holds, y in labels.items():
        host = chooses.taught(bundle, x, y)
        losses = host.train()
        task = emulate_task(bundle, x, y, queries=x[:4], program=program)
        assert (task.losses, task.delta) == (losses, host.trainer.save_delta(0))
        np.testing.assert_array_equal(task.logits, host.predict(x[:4]))
        assert host.trainer.closed_form_answers == holds
        # The choice, which embeds for the first iteration too, and the end.
        assert task.calls["trainable_forward"] == (1 + ITERATIONS + 1) * len(x)
        assert task.instructions["solving"] == pytest.approx((1 + holds) * solve.instructions, rel=0.15)
