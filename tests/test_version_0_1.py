"""Files that version 0.1 wrote load, and give the answers that version 0.1 gave; or an error names the release that reads them."""

import ctypes
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
from bundle_reference import needs_interpreter

from keras_tinytrain import Delta, Plan
from keras_tinytrain.delta import model_hash
from keras_tinytrain.export import Bundle, read_tables, tables_version
from keras_tinytrain.export.read_tables import ReadTables
from keras_tinytrain.fewshot import classifier_from_delta
from keras_tinytrain.run import EdgeRuntime, HostRuntime
from keras_tinytrain.run.firmware import build_firmware
from keras_tinytrain.tflm_runtime.headers import constant, structs

WRITTEN = pathlib.Path(__file__).parent / "fixtures" / "version_0_1"
VERSION = 5  # of its tables


@pytest.fixture(scope="module")
def task():
    with np.load(WRITTEN / "task.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def model():
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        pytest.skip(f"Keras 3.15 wrote small.keras, and Keras {keras.__version__} does not read it")
    return keras.saving.load_model(WRITTEN / "small.keras")


def test_the_plan_is_read():
    plan = Plan.load(WRITTEN / "plan.json")
    assert [(layer.name, layer.channels) for layer in plan.layers] == [("pointwise", tuple(range(6)))]
    assert (plan.budget.memory, plan.budget.compute, plan.strategy) == (102_400, 0.5, "fisher")


def test_the_plan_and_the_deltas_are_written_as_they_were(tmp_path):
    assert Plan.load(WRITTEN / "plan.json").to_json() == (WRITTEN / "plan.json").read_text()
    for name in ("keras.delta", "device.delta"):
        Delta.load(WRITTEN / name).save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (WRITTEN / name).read_bytes()


def test_the_keras_delta_gives_the_same_answers(model, task):
    learned = classifier_from_delta(model, Delta.load(WRITTEN / "keras.delta"))
    np.testing.assert_array_equal(learned.predict(task["x"]), task["keras_logits"])  # labels, in spite of their name


def test_the_keras_delta_knows_its_model(model):
    delta = Delta.load(WRITTEN / "keras.delta")
    assert delta.base_hash == model_hash(model)
    (kernel,) = (record for record in delta.previous if record.name == "pointwise")
    np.testing.assert_array_equal(
        kernel.values, np.moveaxis(np.asarray(model.get_layer("pointwise").kernel), -1, 0).reshape(6, -1)
    )


def test_the_bundle_is_read_and_unaltered():
    bundle = Bundle.load(WRITTEN / "bundle")
    bundle.check()
    assert bundle.tables_version == VERSION
    assert [layer.name for layer in bundle.plan.layers] == ["pointwise"]
    assert Delta.load(WRITTEN / "device.delta").base_hash.hex() == bundle.manifest["base_hash"]


@pytest.mark.parametrize("runtime", [HostRuntime, pytest.param(EdgeRuntime, marks=needs_interpreter)])
def test_the_bundle_gives_the_same_answers_or_the_release_is_named(runtime, task):
    if VERSION not in (constant("tinytrain_tables.h", "kTablesVersion"), *tables_version.LACKING):
        with pytest.raises(ValueError, match=r"run it with keras-tinytrain 0\.1, or export the bundle again"):
            runtime(WRITTEN / "bundle")
        return
    running = runtime(WRITTEN / "bundle")
    running.load_delta(WRITTEN / "device.delta")
    np.testing.assert_array_equal(running.predict(task["x"]), task["device_logits"])


@pytest.mark.parametrize("run", [HostRuntime, EdgeRuntime, lambda path: build_firmware(Bundle.load(path), path)])
def test_other_tables_are_refused_with_the_release_that_runs_them(run, monkeypatch, tmp_path):
    bundle = shutil.copytree(WRITTEN / "bundle", tmp_path / "bundle")
    monkeypatch.setattr(tables_version, "constant", lambda header, name: VERSION + 1)
    monkeypatch.setattr(tables_version, "LACKING", {})
    message = (
        f"{bundle / 'tables.cpp'} was exported for version 5 of the runtime, and this release has version 6: run it with "
        f"keras-tinytrain 0.1, or export the bundle again with `keras-tinytrain export MODEL --plan {bundle / 'plan.json'}`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run(bundle)


def test_fields_that_earlier_tables_lack_are_read_as_zero(monkeypatch):
    def with_later_field(header):
        found = dict(structs(header))
        fields = list(found["Layer"]._fields_)
        fields.insert([name for name, _ in fields].index("kernel"), ("later", ctypes.c_float))
        return found | {"Layer": type("Layer", (ctypes.Structure,), {"_fields_": fields})}

    lacking = tables_version.LACKING.get(VERSION, {})
    monkeypatch.setattr(tables_version, "constant", lambda header, name: VERSION + 1)
    monkeypatch.setattr(tables_version, "LACKING", {VERSION: {**lacking, "Layer": (*lacking.get("Layer", ()), "later")}})
    monkeypatch.setattr(read_tables, "structs", with_later_field)
    bundle = Bundle.load(WRITTEN / "bundle")
    layers = ReadTables(bundle.path / "tables.cpp", bundle.trainable)._constants["kLayers"]
    assert [(layer.op, layer.output, layer.kernel_height, layer.later) for layer in layers] == [(0, 1, 1, 0.0), (4, 2, 4, 0.0)]
    assert [bool(layer.kernel and layer.kernel_scales and layer.bias) for layer in layers] == [True, False]
