"""A sketch that learns from a camera's pictures, over the real C++ TensorFlow Lite Micro."""

import subprocess

import numpy as np
import pytest
from models import tiny_net

from keras_tinytrain.export import TrainingSettings, board, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from keras_tinytrain.run.serial_port import Device
from tests.runtime.programs import FLAGS, STANDINS, build_sketch, running
from tests.runtime.tflm import tflm  # noqa: F401

WAYS, SHOTS = 3, 2
WIDTH, HEIGHT = 160, 120


@pytest.fixture(scope="module")
def pictures():
    """(pixels RGB565 uint16 (N, 120, 160), brightness of their channels 0..255 int (N, 120, 160, 3))."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 1 << 16, (WAYS * SHOTS * 2, 4, 5), dtype=np.uint16)
    pixels = pixels.repeat(HEIGHT // 4, axis=1).repeat(WIDTH // 5, axis=2)
    bits = pixels.astype(int)
    channels = [(bits >> 11) * 255 // 31, (bits >> 5 & 63) * 255 // 63, (bits & 31) * 255 // 31]
    return pixels, np.stack(channels, axis=-1)


def network_input(brightness, side):
    """Means over equal parts, 0..1: what the sketch makes of the pictures."""
    rows, columns = ([i * size // side for i in range(side + 1)] for size in (HEIGHT, WIDTH))
    means = [
        [brightness[:, rows[y] : rows[y + 1], columns[x] : columns[x + 1]].mean(axis=(1, 2)) for x in range(side)]
        for y in range(side)
    ]
    return np.float32(np.stack([np.stack(row, axis=1) for row in means], axis=1) / 255)


@pytest.fixture(scope="module")
def bundle(pictures, tmp_path_factory):
    training = TrainingSettings(iterations=3, num_classes=WAYS, max_samples=WAYS * SHOTS)
    plan, x = Plan((LayerPlan("b3_conv", (0, 3)),)), network_input(pictures[1], 12)
    out = tmp_path_factory.mktemp("camera") / "eyes"
    return export_tflm(tiny_net(), plan, calibration=x, out=out, training=training, sketch="camera", head="prototypes")


def test_pictures_are_learned_as_on_the_host(pictures, bundle, tflm, installed, tmp_path):
    pixels, brightness = pictures
    x, y = network_input(brightness, 12), np.arange(len(pixels)) % WAYS
    support = np.arange(len(x)) < WAYS * SHOTS
    (tmp_path / "pictures").write_bytes(pixels.astype(">u2").tobytes())
    host = HostRuntime(bundle)
    host.add_samples(x[support], y[support])
    losses = host.train()
    program = build_sketch(bundle, tflm, installed, tmp_path)
    with running(program, PICTURES=str(tmp_path / "pictures")) as port, Device(port) as device:
        for label in y[support]:
            device.teach_recorded(label)
        assert device.train() == pytest.approx(losses, abs=1e-6)
        answers = [device.predict_recorded() for _ in y[~support]]
    np.testing.assert_array_equal(answers, host.predict(x[~support]).argmax(axis=1))


def test_picture_takes_ram_of_the_board(bundle):
    reserved = bundle.manifest["board"]["reserved_sram_bytes"] - board("nano33ble").reserved_sram_bytes
    assert reserved == 2 * WIDTH * HEIGHT


def test_sketch_compiles_for_the_camera_of_an_esp32(bundle, tflm, installed, tmp_path):
    folders = [STANDINS / "arduino", STANDINS / "esp_idf", bundle.path / "sketch", installed / "include" / "tinytrain"]
    includes = [f"-I{folder}" for folder in folders]
    flags = [
        *FLAGS,
        *tflm.flags,
        "-DESP_PLATFORM",
        "-DARDUINO_ARCH_ESP32",
        "-fsyntax-only",
        "-include",
        "Arduino.h",
        "-x",
        "c++",
    ]
    done = subprocess.run(["c++", *flags, *includes, bundle.path / "sketch" / "sketch.ino"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
