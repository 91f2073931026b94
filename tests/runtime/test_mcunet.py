"""MCUNet at 128x128 learns traffic signs, on this machine and on an emulated Cortex-M4F: equal bit for bit.

The forward passes are those of the host run; what the core computes is everything else: losses, gradients, updates, prototypes.
"""

import os
import struct
import subprocess

import numpy as np

from keras_tinytrain import planner
from keras_tinytrain.backbones import MCUNet
from keras_tinytrain.benchmark import accuracy
from keras_tinytrain.cost import PaperAccounting
from keras_tinytrain.domains import load_npz
from keras_tinytrain.export import Board, HostRuntime, TrainingSettings, export_tflm
from keras_tinytrain.export.host import MicroModel
from keras_tinytrain.fewshot.adapt import prototype_classifier
from tests.runtime.small_net import SOURCES
from tests.runtime.test_cortex_m4 import BOARD, COMPILER, EMULATOR, FLAGS, pytestmark  # noqa: F401

WAYS = 5
LONG = "KERAS_TINYTRAIN_LONG_TESTS"  # set: the whole training run, half an hour
SHOTS, ITERATIONS = (5, 40) if os.environ.get(LONG) else (1, 3)
ROOMY = Board("mps2-an386", "Cortex-M4F", 25_000_000, 2**22, 2**22)


def export(shared_data, folder):
    """(bundle, x, y); samples of the classes by turns."""
    model = MCUNet(weights=shared_data / "weights" / "mcunet-5fps.npz")
    signs = load_npz(shared_data / "domains" / "traffic_sign_gtsrb_dev.npz", size=None)
    task = accuracy.sample_task(signs, episode=0, seed=0)
    order = [accuracy.SHOTS * label + shot for shot in range(SHOTS) for label in range(WAYS)]
    x, y = task.support_x[order], task.support_y[order]
    loss, classifier = planner.summed_cross_entropy(y), prototype_classifier(model, x, y).model
    plan = planner.choose(classifier, x, loss, accuracy.BUDGETS["mcunet"], accounting=PaperAccounting())
    training = TrainingSettings(iterations=ITERATIONS, num_classes=WAYS, max_samples=len(x))
    return export_tflm(model, plan, calibration=x, out=folder, board=ROOMY, training=training), x, y


def recorded_run(bundle, x, y, file, monkeypatch):
    """The lines that the core is to print; what the models answer goes into `file`: frozen features, or features and outputs."""
    run, host = MicroModel.__call__, HostRuntime(bundle)

    def record(model, features):
        outputs = run(model, features)
        if model is host._frozen:
            file.write(outputs[0].tobytes())
        else:
            file.write(features.tobytes() + b"".join(struct.pack("<I", out.nbytes) + out.tobytes() for out in outputs))
        return outputs

    monkeypatch.setattr(MicroModel, "__call__", record)
    host.add_samples(x, y)
    trainer = host.trainer
    lines = [("loss", np.float32(trainer.step()).tobytes()) for _ in range(ITERATIONS)]
    trainer.update_prototypes()
    for name, method in (("masters", trainer.masters), ("gradients", trainer.weight_gradients)):
        parts = [part for i in range(trainer.num_trained) for part in method(i) if part is not None]
        lines.append((name, b"".join(part.tobytes() for part in parts)))
    return [f"{name} {data.hex()}" for name, data in [*lines, ("delta", trainer.save_delta(1))]]


def test_training_is_the_same_on_the_board(shared_data, tmp_path, monkeypatch):
    bundle, x, y = export(shared_data, tmp_path / "signs")
    with open(tmp_path / "recording", "wb") as file:
        expected = recorded_run(bundle, x, y, file, monkeypatch)
    sizes = {
        "MAX_CALL_BYTES": 2**20,
        "FEATURE_BYTES": bundle.manifest["features"]["size"],
        "IMAGE_BYTES": x[0].size,
        "DELTA_BYTES": 2**17,
    }
    defines = [f"-D{name}={value}" for name, value in sizes.items()]
    defines += [f"-DBUNDLE={bundle.manifest['namespace']}", f'-DRECORDING="{tmp_path / "recording"}"']
    roomy = (BOARD / "link.ld").read_text().replace("256K", "4M")  # RAM; the program still is that of 1 MB of flash
    (tmp_path / "link.ld").write_text(roomy)
    program, sources = tmp_path / "program.elf", [bundle.path / "tables.cpp", bundle.path / "models.cpp", *sorted(SOURCES.glob("*.cpp"))]
    subprocess.run([COMPILER, *FLAGS, "-O2", "-mfloat-abi=hard", *defines, f"-I{bundle.path}", f"-I{SOURCES}", "-T",
                    tmp_path / "link.ld", BOARD / "replay.cpp", *sources, "-lm", "-o", program], check=True)
    run = subprocess.run([EMULATOR, "-machine", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none", "-chardev",
                          "stdio,id=sh", "-semihosting-config", "enable=on,target=native,chardev=sh", "-kernel", program],
                         capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stdout[-1000:] + run.stderr
    assert run.stdout.split("\n")[:-1] == expected
