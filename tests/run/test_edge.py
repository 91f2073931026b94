"""A bundle on a Linux board: bit for bit what the host run learns, without TensorFlow, without a compiler."""

import ast
import importlib
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from bundle_reference import needs_interpreter
from compiled_tables import CompiledTables
from models import images, labelled_images, pooled_net, tiny_net

import keras_tinytrain
from keras_tinytrain import _runtime, export
from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime, edge
from keras_tinytrain.run.edge import EdgeRuntime

WAYS, SHOTS = 4, 2
BLOCKS = {"b1_project": (1, 3), "b2_depthwise": (0, 5), "b3_conv": (2, 11)}


def without_dense():
    """The net up to its pooling: ai-edge-litert's dense layer is off by one now and then."""
    net = tiny_net()
    return keras.Model(net.input, net.get_layer("pool").output, name="without_dense")


CASES = {  # model, trained channels, head, views
    "without_dense": (without_dense, BLOCKS, "prototypes", ((0, 1), (-2, 0, True))),
    "dense": (lambda: tiny_net(classes=WAYS), {**BLOCKS, "logits": (0, 3)}, "softmax", ()),
    "no_frozen_part": (pooled_net, {"first": (0, 5), "hidden": (1, 7)}, "prototypes", ()),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """{case: (bundle, x, y)}, each exported when it is first asked for."""
    made = {}

    def task(name):
        if name not in made:
            build, trained, head, views = CASES[name]
            model, folder = build(), tmp_path_factory.mktemp("edge") / name
            plan = Plan(tuple(LayerPlan(layer, channels) for layer, channels in trained.items()))
            settings = TrainingSettings(learning_rate=0.02, iterations=6, num_classes=WAYS, max_samples=WAYS * SHOTS)
            options = {"calibration": images(model, 8), "out": folder, "head": head, "views": views, "training": settings}
            made[name] = export_tflm(model, plan, **options), *labelled_images(model, per_class=SHOTS, classes=WAYS)
        return made[name]

    return task


@pytest.fixture
def only(monkeypatch):
    """Leaves one interpreter importable."""

    def hide_others(package):
        pytest.importorskip(f"{package}.interpreter", reason="pip install keras-tinytrain[edge]")
        for other in set(edge.INTERPRETERS) - {package}:
            monkeypatch.setitem(sys.modules, f"{other}.interpreter", None)

    return hide_others


def learn(runtime, x, y):
    """(losses, what was learned as bytes, logits)."""
    runtime.add_samples(x, y)
    losses = runtime.train()
    return losses, runtime.trainer.save_delta(3), runtime.predict(x).tobytes()


@pytest.mark.parametrize(
    ("name", "interpreter"), [("without_dense", "ai_edge_litert"), *((name, "tflite_runtime") for name in CASES)]
)
def test_what_is_learned_equals_the_host_run(tasks, only, name, interpreter):
    bundle, x, y = tasks(name)
    only(interpreter)
    assert learn(EdgeRuntime(bundle), x, y) == learn(HostRuntime(bundle), x, y)


@pytest.mark.parametrize("interpreter", edge.INTERPRETERS)
def test_optimised_kernels_see_the_weights_change(tasks, only, interpreter):
    """Fewer bits alike, the same curve: within 2 % of the loss before training."""
    bundle, x, y = tasks("dense")
    only(interpreter)
    ours, theirs = learn(EdgeRuntime(bundle, exact=False), x, y)[0], learn(HostRuntime(bundle), x, y)[0]
    assert ours[-1] < 0.9 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02 * theirs[0])


@pytest.mark.parametrize("name", CASES)
def test_tables_are_read_as_they_are_compiled(tasks, name, tmp_path):
    bundle, *_ = tasks(name)
    read, compiled = ReadTables(bundle.path / "tables.cpp", bundle.trainable), CompiledTables(bundle, tmp_path)
    ours, theirs = (_runtime.tables_info(address) for address in (read.address, compiled.address))
    np.testing.assert_equal(ours, theirs)
    assert read.num_bytes == compiled.num_bytes == bundle.promised_bytes["flash"]["tables"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kTablesVersion == ", "kTablesVersion == 9", "version 9.* of the runtime.*export the bundle again"),
        ("Operator::kConv2D", "Operator::kConv9D", "not written as this release"),
        ("kTensors,", "kTensor,", "not written as this release"),
        ("TINYTRAIN_KERNEL(", "TINYTRAIN_KERNEL(99999999", "offset .* of a model of"),
        ("};\n\nconst std::size_t", "\n\nconst std::size_t", "not written as this release"),
    ],
)
def test_other_tables_are_refused(tasks, tmp_path, old, new, message):
    bundle, *_ = tasks("dense")
    text = (bundle.path / "tables.cpp").read_text()
    where = text.rindex(old)
    (tmp_path / "tables.cpp").write_text(text[:where] + new + text[where + len(old) :])
    with pytest.raises(ValueError, match=message):
        ReadTables(tmp_path / "tables.cpp", bundle.trainable)


@needs_interpreter
def test_saved_loaded_and_reverted(tasks, tmp_path):
    bundle, x, y = tasks("without_dense")
    runtime, fresh = EdgeRuntime(bundle), EdgeRuntime(bundle.path, settings={"iterations": 2})
    untrained = [runtime.trainer.kernel(index) for index in range(runtime.trainer.num_trained)]
    _, _, logits = learn(runtime, x, y)
    runtime.save_delta(tmp_path / "delta")
    fresh.load_delta(tmp_path / "delta")
    assert fresh.predict(x).tobytes() == logits
    fresh.add_samples(x, y)
    assert len(fresh.train()) == 2
    runtime.revert()
    for index, kernel in enumerate(untrained):
        np.testing.assert_array_equal(runtime.trainer.kernel(index), kernel)


@needs_interpreter
def test_bytes_used_are_those_promised(tasks):
    bundle, *_ = tasks("dense")
    used, promised = EdgeRuntime(bundle).bytes_used(), bundle.promised_bytes
    state = {
        name: num_bytes for name, num_bytes in promised["sram"].items() if name not in ("model_arena", "variables", "total")
    }
    assert {name: used[name] for name in state} == state and used["state"] == sum(state.values())
    assert {name: used[name] for name in promised["scratch"]} == promised["scratch"]
    assert used["total"] == used["state"] + used["scratch"]


def test_no_interpreter_is_said_so(tasks, monkeypatch):
    for package in edge.INTERPRETERS:
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        EdgeRuntime(tasks("dense")[0])


SCRIPT = """
import sys
sys.modules |= dict.fromkeys(("tensorflow", "keras", "tf_keras", "jinja2", "tflite_micro"))  # importing one raises
import conftest  # maps the source tree where the package is not installed
import numpy as np
import keras_tinytrain.edge
runtime = keras_tinytrain.run.edge.EdgeRuntime(sys.argv[1])
task = np.load(sys.argv[2])
runtime.add_samples(task["x"], task["y"])
runtime.train()
print(runtime.trainer.save_delta(3).hex())
"""


@needs_interpreter
def test_without_tensorflow_and_without_a_compiler(tasks, tmp_path):
    bundle, x, y = tasks("without_dense")
    np.savez(tmp_path / "task.npz", x=x, y=y)
    here = pathlib.Path(__file__).parents[1]
    command, environment = (
        [sys.executable, "-c", SCRIPT, bundle.path, tmp_path / "task.npz"],
        {"PATH": "", "PYTHONPATH": here.parent},
    )
    run = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert bytes.fromhex(run.stdout) == learn(HostRuntime(bundle), x, y)[1]


@pytest.mark.parametrize("package", [keras_tinytrain, export], ids=lambda package: package.__name__)
def test_names_that_load_late(package):
    """All are there, `dir` lists them, and a type checker, which only reads, finds the same ones at the same place."""
    tree = ast.parse(pathlib.Path(package.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    for statement in checked.body:
        home = importlib.import_module("." * statement.level + statement.module, package.__name__)
        for alias in statement.names:
            assert getattr(package, alias.name) is getattr(home, alias.name)
    assert sorted(alias.name for statement in checked.body for alias in statement.names) == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing
