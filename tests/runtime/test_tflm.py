"""Bundles over the real C++ TensorFlow Lite Micro of another year: their deltas equal the host run's, bit for bit."""

import subprocess

import numpy as np
import pytest
from models import images, labelled_images, pooled_net, stored_maps_net, tiny_net

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export.templates import resolver_method
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from tests.runtime.paths import ROOT
from tests.runtime.tflm import tflm  # noqa: F401

WAYS, SHOTS = 3, 2
MAIN = ROOT / "tests" / "runtime" / "tflm_host" / "main.cpp"
BLOCKS = {"b1_project": (1, 3), "b2_depthwise": (0, 5), "b3_conv": (2, 11), "logits": (0,)}
IN_FLASH = ("views", "softmax", "maps_in_samples")
CASES = {  # model, trained channels, head, views, settings; IN_FLASH keep their features in flash
    "blocks": (tiny_net, BLOCKS, "prototypes", (), {"weights": "int8", "updates": "immediate", "seed": 5}),
    "views": (tiny_net, {"b1_expand": (0, 9), "b1_depthwise": (3,)}, "prototypes", ((0, 1), (-2, 0)), {}),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "prototypes", (), {"average": 0.0}),
    "maps_in_samples": (stored_maps_net, {"b4_depthwise": (1, 5)}, "ridge", ((0, 1),), {}),
    "softmax": (lambda: tiny_net(classes=WAYS), {"b3_conv": (0, 3), "logits": (0, 1, 2)}, "softmax", (), {}),
}


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory):
    build, trained, head, views, settings = CASES[request.param]
    model = build()
    plan = Plan(tuple(LayerPlan(name, channels) for name, channels in trained.items()))
    training = TrainingSettings(learning_rate=0.01, iterations=6, num_classes=WAYS, max_samples=WAYS * SHOTS, **settings)
    out = tmp_path_factory.mktemp("tflm") / request.param
    exported = export_tflm(
        model,
        plan,
        calibration=images(model, 8),
        out=out,
        head=head,
        training=training,
        views=views,
        features="flash" if request.param in IN_FLASH else "ram",
    )
    return exported, *labelled_images(model, per_class=SHOTS, classes=WAYS)


PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(sketch LANGUAGES CXX)
add_subdirectory({runtime} tinytrain)
add_executable(program program.cpp {bundle}/tables.cpp {bundle}/models.cpp)
target_include_directories(program PRIVATE {bundle})
target_compile_options(program PRIVATE -Wall -Wextra -Werror)
target_link_libraries(program tinytrain_with_tflm)
"""


def compile_bundle(bundle, tflm, folder, *flags):
    """The test's main.cpp and the bundle's sources, as a user's CMake project over the runtime and the real library."""
    path, resolver = bundle.path, " ".join(f"resolver.{resolver_method(name)}();" for name in bundle.manifest["operators"])
    defines = ["XCORE", f"TFLM {tflm.namespace}", f"BUNDLE {bundle.manifest['namespace']}", f"RESOLVER {resolver}", *flags]
    defines += ["FROZEN"] if bundle.frozen else []
    defines += ["CLOSED_FORM"] if "closed_form" in bundle.manifest else []
    defines += ["FLASH"] if bundle.manifest["features"]["memory"] == "flash" else []
    (folder / "program.cpp").write_text("".join(f"#define {each}\n" for each in defines) + f'#include "{MAIN}"\n')
    (folder / "CMakeLists.txt").write_text(PROJECT.format(runtime=ROOT / "tflm_runtime", bundle=path))
    options = [f"-DTFLM_INCLUDE_DIRS={';'.join(tflm.includes)}", f"-DTFLM_LIBRARY={tflm.library[0]}"]
    options += ["-DCMAKE_BUILD_TYPE=Release"]
    for command in (["-S", folder, "-B", folder / "build", *options], ["--build", folder / "build"]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "build" / "program"


def run_bundle(bundle, tflm, x, y, folder, *flags):
    """The lines that the program prints when it learns x and y."""
    images = HostRuntime(bundle).quantise(x)
    (folder / "task").write_bytes(b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, y)))
    program = compile_bundle(bundle, tflm, folder, *flags)
    run = subprocess.run([program, folder / "task"], capture_output=True, text=True)
    assert run.returncode == 0, f"{run.returncode}: {run.stdout[-500:]}{run.stderr[-500:]}"
    return run.stdout.splitlines()


def host_run(bundle, x, y):
    host = HostRuntime(bundle)
    host.add_samples(x, y)
    lines = [f"loss {np.float32(loss).tobytes().hex()}" for loss in host.train()]
    lines += [f"logits {row.tobytes().hex()}" for row in host.predict(x)]
    return [*lines, f"delta {host.trainer.save_delta(7).hex()}"]


def test_delta_equals_that_of_the_host_run(bundle, tflm, tmp_path):
    """Both models and the trainer's scratch take turns in one arena, of the size that was promised for all of them."""
    bundle, x, y = bundle
    assert run_bundle(bundle, tflm, x, y, tmp_path) == host_run(bundle, x, y)


@pytest.mark.parametrize("bundle", ["blocks"], indirect=True)
def test_two_arenas_give_the_same_delta_as_one(bundle, tflm, tmp_path):
    bundle, x, y = bundle
    arena, *lines = run_bundle(bundle, tflm, x, y, tmp_path, "TWO_ARENAS")
    assert lines == host_run(bundle, x, y)
    assert int(arena.split()[1]) == pytest.approx(smallest_arena(bundle.trainable), rel=0.15)
