"""A bundle's sketch over the real C++ TensorFlow Lite Micro, taught through a terminal by `keras_tinytrain.device`."""

import os
import subprocess
import time
import zlib

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
from tests.runtime.programs import build_sketch, running
from tests.runtime.tflm import tflm  # noqa: F401

WAYS, SHOTS, ITERATIONS = 3, 2, 4


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
        head="prototypes",
    )


@pytest.fixture(scope="module")
def program(bundle, tflm, installed, tmp_path_factory):
    return build_sketch(bundle, tflm, installed, tmp_path_factory.mktemp("program"))


@pytest.fixture
def port(program):
    """The terminal at which a freshly started sketch listens."""
    with running(program) as name:
        yield name


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
        (["train"], f"{ITERATIONS} iterations in "),
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


@pytest.fixture(scope="module")
def moves(gestures, tflm, installed, tmp_path_factory):
    """A bundle that learns gestures, and its sketch as a program."""
    folder, x = tmp_path_factory.mktemp("moves"), gestures[1]
    training = TrainingSettings(iterations=ITERATIONS, num_classes=WAYS, max_samples=WAYS * SHOTS)
    plan = Plan((LayerPlan("b6.pw2", (0, 5)),))
    options = {"calibration": x, "training": training, "sketch": "imu"}
    bundle = export_tflm(GestureNet(weights=None), plan, out=folder / "moves", head="prototypes", **options)
    return bundle, build_sketch(bundle, tflm, installed, folder, f"-DSTEPS={x.shape[1]}")


def test_gestures_are_recorded_and_learned_as_on_the_host(gestures, moves, tmp_path, capsys):
    measured, x, y = gestures
    bundle, program = moves
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


def test_button_teaches_trains_and_forgets_without_a_pc(gestures, moves, tmp_path):
    """k presses teach class k - 1, a hold trains; then gestures are predicted until a long hold forgets all."""
    measured, x, y = gestures
    bundle, program = moves
    support = np.arange(len(x)) % (SHOTS + 2) < SHOTS
    host = HostRuntime(bundle)
    host.add_samples(x[support], y[support])
    host.train()
    unknown = np.concatenate([measured[support], measured[:1], measured[~support]])  # measured[:1] as a class that is not there
    (tmp_path / "motions").write_bytes(np.float32(unknown).tobytes())
    taught = "".join("." * (label + 1) + " " for label in y[support])
    loops = " " * 6 * np.count_nonzero(~support)  # five in which nothing moves before each gesture
    lit = field(program, taught + "." * (WAYS + 1) + " - " + loops + "= . ", tmp_path / "motions")
    blinks = [int(label) + 1 for label in host.predict(x[~support]).argmax(axis=1)]
    # Lit while it waits for a gesture to teach, then one blink for "done" and ten for "refused". The last one finds nothing to record.
    assert lit == [2] * np.count_nonzero(support) + [11, 1, *blinks, 1, 1]


def field(program, script, motions):
    """How often the lamp went on, call by call of loop, until the recordings are over."""
    environment = {**os.environ, "MOTIONS": str(motions), "BUTTON": script}
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        return [len(line) for line in process.stderr.read().decode().split()]


def test_half_an_image_and_half_a_command_are_not_obeyed(port):
    x, _ = labelled_images(tiny_net(), per_class=1, classes=WAYS)
    with Device(port) as board:
        image = board._quantised(x[:1])[0].tobytes()
        board._serial.write(f"TEACH 0 {zlib.crc32(image)}\n".encode() + image[: len(image) // 2])
        assert board._lines.read() == "ERROR the image is incomplete"
        board.teach(x, range(WAYS))
        board._serial.write(b"RESE")
        assert not board._hears(time.monotonic() + 0.5, lambda line: True)  # longer than the board waits
        assert board.status()["samples"] == WAYS
