"""A bundle's sketch over the real C++ TensorFlow Lite Micro, taught through a terminal by `keras_tinytrain.device`."""

import contextlib
import os
import subprocess

import numpy as np
import pytest
from models import images, labelled_images, tiny_net

from keras_tinytrain.backbones import GestureNet
from keras_tinytrain.cli import main
from keras_tinytrain.data import load_npz
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.serial_port import Device
from tests.runtime.paths import ROOT, SOURCES
from tests.runtime.tflm import NAMESPACE, tflm  # noqa: F401

WAYS, SHOTS, ITERATIONS = 3, 2, 4
ARDUINO = ROOT / "tests" / "runtime" / "arduino"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    plan = Plan((LayerPlan("b3_conv", (0, 3)), LayerPlan("logits", (0, 1))))
    training = TrainingSettings(iterations=ITERATIONS, num_classes=WAYS, max_samples=WAYS * SHOTS)
    model = tiny_net()
    return export_tflm(
        model,
        plan,
        calibration=images(model, 8),
        out=tmp_path_factory.mktemp("sketch") / "net",
        training=training,
        features="flash",
    )


@pytest.fixture(scope="module")
def program(bundle, tflm, tmp_path_factory):
    return build(bundle, tflm, tmp_path_factory.mktemp("program"))


def build(bundle, library, folder, *flags):
    """The bundle's sketch as a program of this machine."""
    sketch, target = bundle.path / "sketch", folder / "sketch"
    sources = [ARDUINO / "main.cpp", sketch / "tables.cpp", sketch / "models.cpp", *sorted(SOURCES.rglob("*.cpp"))]
    # Older TensorFlow Lite Micro's arena takes a few percent more than the one whose bytes were promised.
    text = (sketch / "sketch.ino").read_text()
    assert text.count("model_arena[exported::kModelArenaBytes]") == 1
    (folder / "sketch.ino").write_text(text.replace("[exported::kModelArenaBytes]", "[exported::kModelArenaBytes + 4096]"))
    flags = ["-std=gnu++17", "-O1", "-no-pie", "-fno-pie", f"-Dtflite={NAMESPACE}", *flags, *library.flags]
    includes = [f"-I{path}" for path in (folder, ARDUINO, sketch, SOURCES)]
    subprocess.run(["c++", *flags, *includes, *sources, *library.library, "-o", target], check=True)
    return target


@pytest.fixture
def port(program):
    """The terminal at which a freshly started sketch listens."""
    with running(program) as name:
        yield name


@contextlib.contextmanager
def running(program, **environment):
    ours, theirs = os.openpty()
    process = subprocess.Popen([program], stdin=ours, stdout=ours, env={**os.environ, **environment})
    yield os.ttyname(theirs)
    process.kill()
    process.wait()
    os.close(ours)
    os.close(theirs)


def test_samples_from_the_port_are_learned_as_on_the_host(bundle, port):
    x, y = labelled_images(tiny_net(), per_class=SHOTS, classes=WAYS)
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    with Device(port) as board:
        status = board.status()
        assert {name: status[name] for name in bundle.input if name in status} == pytest.approx(bundle.input)
        assert (status["samples"], status["classes"], status["max_samples"]) == (0, WAYS, WAYS * SHOTS)
        assert board.teach(x, y) == WAYS * SHOTS
        heard = []
        losses = board.train(lambda iteration, loss: heard.append((iteration, loss)))
        assert losses == pytest.approx(host.train(), abs=1e-6)  # printed with six digits
        assert heard == list(enumerate(losses))
        assert board._ask("TRAIN")[ITERATIONS:-1] == ["PLAN b3_conv 2", "PLAN logits 2"]  # for who reads along
        assert host.train() and board.status()["plan"] == {"b3_conv": 2, "logits": 2}
        np.testing.assert_array_equal(board.predict(x), host.predict(x).argmax(axis=1))
        board.save()
        assert board.status()["iterations"] == 2 * ITERATIONS
        board.revert()
        assert (board.status()["samples"], board.status()["iterations"]) == (WAYS * SHOTS, 0)
        board.reset()
        assert board.status()["samples"] == 0


def test_board_refuses_in_its_own_words(bundle, port):
    x, _ = labelled_images(tiny_net(), per_class=1, classes=WAYS)
    with Device(port) as board:
        with pytest.raises(RuntimeError, match="The board answered to TRAIN: "):
            board.train()
        with pytest.raises(RuntimeError, match="The board answered to PREDICT: "):
            board.predict(x[:1])
        with pytest.raises(RuntimeError, match=f"The board answered to TEACH {WAYS}: "):
            board._ask(f"TEACH {WAYS}", board._quantised(x[:1])[0])
        with pytest.raises(ValueError, match="x expects samples of shape"):
            board.teach(x[:, :-1], range(WAYS))
        with pytest.raises(RuntimeError, match="The board answered to HELLO: commands are TEACH"):
            board._ask("HELLO")
        assert board.teach(x, range(WAYS)) == WAYS  # nothing of it went out of step


def test_commands_get_their_documented_answers(port, tmp_path, capsys):
    x, y = labelled_images(tiny_net(), per_class=SHOTS, classes=WAYS)
    np.savez(tmp_path / "task.npz", x=x, y=y)
    samples = ["--samples", str(tmp_path / "task.npz")]
    for words, said in (
        (["teach", *samples], f"{WAYS * SHOTS} samples"),
        (["train"], f"{ITERATIONS} iterations, loss "),
        (["train"], "Trained channels: b3_conv 2, logits 2"),
        (["predict", *samples], "accuracy "),
        (["status"], f"iterations   {2 * ITERATIONS}"),
        (["status"], "plan         b3_conv 2, logits 2"),
        (["reset"], ""),
    ):
        assert main(["device", "--port", port, *words]) == 0
        assert said in capsys.readouterr().out
    assert main(["device", "--port", port, "teach"]) == 2
    assert "teach needs --samples" in capsys.readouterr().err
    assert main(["device", "--port", port, "predict"]) == 2
    assert "predict needs --samples" in capsys.readouterr().err


def test_port_without_a_board_is_named():
    ours, theirs = os.openpty()
    with pytest.raises(RuntimeError, match="Nobody answers at .* within 1 s"):
        Device(os.ttyname(theirs), patience=1)
    os.close(ours)
    os.close(theirs)


@pytest.fixture(scope="module")
def gestures(shared_data):
    """Real recordings: the file's own numbers (N, 119, 6), the network's input (N, 119, 1, 6), and labels."""
    file = shared_data / "domains" / "nano33ble_gesture_dev.npz"
    domain = load_npz(file)
    chosen = np.concatenate([np.flatnonzero(domain.labels == label)[: SHOTS + 2] for label in range(WAYS)])
    return np.load(file)["x"][chosen], domain.images[chosen], domain.labels[chosen].astype(int)


def test_gestures_are_recorded_and_learned_as_on_the_host(gestures, tflm, tmp_path, capsys):
    measured, x, y = gestures
    training = TrainingSettings(iterations=ITERATIONS, num_classes=WAYS, max_samples=WAYS * SHOTS)
    plan = Plan((LayerPlan("b6.pw2", (0, 5)),))
    options = {"calibration": x, "training": training, "sketch": "imu"}
    bundle = export_tflm(GestureNet(weights=None), plan, out=tmp_path / "moves", **options)
    program = build(bundle, tflm, tmp_path, f"-DSTEPS={x.shape[1]}")
    support = np.arange(len(x)) % (SHOTS + 2) < SHOTS
    played = np.concatenate([measured[support], measured[~support], measured[:1]])
    (tmp_path / "motions").write_bytes(np.float32(played).tobytes())
    host = HostRuntime(bundle)
    host.add_samples(x[support], y[support])
    losses = host.train()
    with running(program, MOTIONS=str(tmp_path / "motions")) as port:
        command = ["device", "--port", port]
        with Device(port) as board:
            assert board.status()["records"] == 1
            with pytest.raises(ValueError, match="records its samples itself"):
                board.teach(x, y)
            assert [board.teach_recorded(label) for label in y[support]] == list(range(1, support.sum() + 1))
            assert board.train() == [float(f"{loss:.6f}") for loss in losses]
            answers = [board.predict_recorded() for _ in y[~support]]
        np.testing.assert_array_equal(answers, host.predict(x[~support]).argmax(axis=1))
        assert main([*command, "predict"]) == 0
        assert capsys.readouterr().out.split() == [str(host.predict(x[:1]).argmax())]
        assert main([*command, "teach"]) == 2 and main([*command, "train", "--label", "1"]) == 2
        assert "--label" in capsys.readouterr().err
