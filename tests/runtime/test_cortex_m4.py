"""The same training on an emulated Cortex-M4F and on this machine, equal bit for bit."""

import subprocess

import numpy as np
import pytest

from keras_tinytrain import _runtime
from keras_tinytrain.export import board
from keras_tinytrain.run.emulator import COMMAND
from keras_tinytrain.run.firmware import ARDUINO, build_program, compile_sources
from tests.runtime.gated_net import gated_net
from tests.runtime.net_tables import load_tables
from tests.runtime.paths import ROOT, SOURCES
from tests.runtime.small_net import SPLIT, samples, small_net

MAIN = ROOT / "tests" / "runtime" / "cortex_m4" / "main.cpp"


def host_run(net, tables, library, images, labels):
    """Train here, keeping every forward pass's input and outputs; returns the same lines that the board prints."""
    calls = []

    def record(features):
        outputs = net.run_trainable(features)
        calls.append([features, *outputs])
        return outputs

    trainer = _runtime.Trainer(tables, record, None, net.bind, owner=library)
    for image, label in zip(images, labels):
        trainer.add_sample(image, label)
    lines = [("loss", np.float32(trainer.step()).tobytes()) for _ in range(trainer.settings["iterations"])]
    trainer.update_prototypes()
    for name, method in (("masters", trainer.masters), ("gradients", trainer.weight_gradients)):
        parts = [part for i in range(trainer.num_trained) for part in method(i) or () if part is not None]
        lines.append((name, b"".join(part.tobytes() for part in parts)))
    lines.append(("delta", trainer.save_delta(1)))
    lines.append(("logits", trainer.predict(images[0])[1].tobytes()))
    return [f"{name} {data.hex()}" for name, data in lines], calls, trainer.memory_parts()["total"]


def rows(name, arrays):
    """A two-dimensional int8 constant, one array a row."""
    text = ",\n".join("{" + ",".join(map(str, np.concatenate([a.reshape(-1) for a in row]))) + "}" for row in arrays)
    length = sum(a.size for a in arrays[0])
    return f"const std::int8_t {name}[{len(arrays)}][{length}] = {{{text}}};"


def recording(images, labels, calls, arena_bytes):
    features, outputs = calls[0][0], calls[0][1:]
    return "\n".join(
        [
            "#include <cstddef>",
            "#include <cstdint>",
            "namespace {",
            rows("kImages", [[image] for image in images]),
            f"const std::int32_t kLabels[] = {{{','.join(map(str, labels))}}};",
            rows("kCalls", calls),
            f"constexpr std::int32_t kNumImages = {len(images)}, kNumCalls = {len(calls)}, kNumOutputs = {len(outputs)};",
            f"const std::size_t kOutputBytes[] = {{{','.join(str(a.size) for a in outputs)}}};",
            f"constexpr std::size_t kFeatureBytes = {features.size}, kArenaBytes = {arena_bytes};",
            "}  // namespace",
            "",
        ]
    )


LEAVES_OUT = {"late_prototypes": True, "skip_loss": 0.5}
IMMEDIATE = {"updates": "kImmediate", "leave_one_out": True, "average": 0.5}
SETTINGS = {
    "sgd": {"optimizer": "kSgd", "learning_rate": 0.3},
    "momentum": {"optimizer": "kMomentum", "learning_rate": 0.1, "leave_one_out": True, "average": 0.25, **LEAVES_OUT},
    "adam": {"optimizer": "kAdam", "learning_rate": 0.01},
    "rmsprop": {"optimizer": "kRmsprop", "learning_rate": 0.001, "beta_2": 0.9},
    "rmsprop_int8": {"optimizer": "kRmsprop", "learning_rate": 0.001, "weights": "kInt8", "seed": 7, **IMMEDIATE},
    "int8": {"optimizer": "kAdamPerChannel", "learning_rate": 0.01, "weights": "kInt8", "seed": 2**32 - 5, **IMMEDIATE},
}


@pytest.fixture(scope="module", params=[ARDUINO, ("-O3", "-mfloat-abi=hard")], ids=["nano33", "O3"])
def runtime(request, tmp_path_factory):
    """The compiler's options, and the runtime's objects. Deliberately without -ffp-contract=off: an Arduino build does not pass
    it, the sources must see to it themselves."""
    folder = tmp_path_factory.mktemp("runtime")
    return request.param, compile_sources(
        sorted(SOURCES.rglob("*.cpp")), folder, flags=[f"-I{SOURCES}", "-std=gnu++14"], options=request.param
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_training_is_the_same_on_the_board(name, runtime, tmp_path):
    net = gated_net() if name == "rmsprop" else small_net(by_channel={"adam": 3, "int8": 5}.get(name, 0), picking=name == "sgd")
    net.split = SPLIT if name in ("momentum", "int8") else ()
    net.image_shape = net.tensors[0].shape  # no frozen part: images are features
    net.views = ((0, 1, False), (-1, 0, True))
    net.settings.update(SETTINGS[name], iterations=3)
    images, labels = samples(shape=net.image_shape)
    expected, calls, arena_bytes = host_run(net, *load_tables(net, tmp_path), images, labels)
    (tmp_path / "recording.h").write_text(recording(images, labels, calls, arena_bytes))
    options, objects = runtime
    program = build_program(
        [MAIN, tmp_path / "tables.cpp", *objects],
        tmp_path,
        board=board("nano33ble"),
        options=options,
        flags=[f"-I{tmp_path}", f"-I{SOURCES}", "-std=gnu++14"],
    )
    run = subprocess.run([*COMMAND, "-kernel", program], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr.split("\n")[:-1] == expected
