"""A bundle is written whole or not at all, has a checksum of every file, and its sources compile."""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from models import images, pooled_net, tiny_net

from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.choose import planner
from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.export import Board, Bundle, TrainingSettings, _writing, conversion, export_tflm
from keras_tinytrain.export.templates import float32, identifier, resolver_method
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Budget, LayerPlan, Plan
from keras_tinytrain.run.firmware import compile_sources
from keras_tinytrain.tflm_runtime import source_dir
from tests.tflm_stand_in import stand_in

PLAN = Plan((LayerPlan("b1_project", (1, 3)), LayerPlan("logits", (0, 1, 2, 3, 4))))


def export(out, *, model=None, plan=PLAN, **options):
    model = model or tiny_net()
    return export_tflm(model, plan, calibration=images(model, 8), out=out, **{"head": "prototypes", **options})


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return export(tmp_path_factory.mktemp("export") / "my net-1", views=((1, 0), (0, -2, True)))


@pytest.fixture(scope="module")
def int8_model():
    return convert_int8(fold_batch_norm(tiny_net()), images(tiny_net(), 8))


@pytest.fixture
def converted(int8_model, monkeypatch):
    """Answers the conversion of tiny_net, which takes most of an export's time, from memory."""
    monkeypatch.setattr(conversion, "convert_int8", lambda *_: int8_model)


@pytest.fixture
def bundle(original, tmp_path):
    shutil.copytree(original.path, tmp_path / "my net-1")
    return Bundle.load(tmp_path / "my net-1")


def test_files_and_manifest(bundle):
    sources = {"tables.h", "tables.cpp", "models.h", "models.cpp"}
    files = {"frozen.tflite", "trainable.tflite", "plan.json", "README.md", "teach.html", "TinyTrain.zip"}
    files |= {f"sketch/{name}" for name in ("sketch.ino", "learner.h", "partitions.csv")}
    files |= sources | {f"sketch/{name}" for name in sources}
    assert set(bundle.manifest["files"]) == files
    on_disk = {str(file.relative_to(bundle.path)) for file in bundle.path.rglob("*") if file.is_file()}
    assert on_disk == files | {"manifest.json"}
    assert bundle.plan == PLAN
    assert bundle.manifest["trained"] == {"b1_project": 2, "logits": 5}
    assert bundle.manifest["views"] == [[1, 0, False], [0, -2, True]]
    for memory in ("sram", "flash"):
        parts = bundle.promised_bytes[memory]
        assert parts.pop("total") == sum(parts.values())
    assert bundle.promised_bytes["flash"]["frozen_model"] == (bundle.path / "frozen.tflite").stat().st_size
    assert {bundle.input[side] for side in ("height", "width")} == {12}


def test_two_exports_are_the_same(original, tmp_path):
    again = export(tmp_path / "my net-1", views=((1, 0), (0, -2, True)))
    assert again.manifest == original.manifest


@pytest.mark.parametrize("name", ["trainable.tflite", "sketch/tables.cpp", "plan.json", "README.md"])
def test_altered_or_missing_file_is_named(bundle, name):
    file = bundle.path / name
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ValueError, match=f"{re.escape(name)} was altered"):
        Bundle.load(bundle.path)
    file.unlink()
    with pytest.raises(ValueError, match=f"{re.escape(name)} is missing"):
        bundle.check()


def test_no_bundle(bundle, tmp_path):
    with pytest.raises(ValueError, match="is not a bundle"):
        Bundle.load(tmp_path / "nothing")
    manifest = bundle.path / "manifest.json"
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "base_hash": "00"}))
    with pytest.raises(ValueError, match="base_hash"):
        Bundle.load(bundle.path)
    manifest.write_text(json.dumps({**fields, "keras_tinytrain_bundle": 99}))
    with pytest.raises(ValueError, match="version 99, .* install a newer keras-tinytrain"):
        Bundle.load(bundle.path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_manifest_of_any_content_is_read_or_refused(original, data):
    """Any field replaced or removed, any file replaced by other bytes: ValueError, nothing else."""
    folder = original.path
    name = data.draw(st.sampled_from(["manifest.json", "plan.json", "trainable.tflite"]))
    content = (folder / name).read_bytes()
    fields = dict(original.manifest)
    for field in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2)):
        fields[field] = data.draw(JSON)
    altered = json.dumps(fields).encode() if name == "manifest.json" else data.draw(st.binary(max_size=20))
    assume(altered != content)
    (folder / name).write_bytes(altered)
    try:
        Bundle.load(folder)
    except ValueError as error:
        assert str(error)
    finally:
        (folder / name).write_bytes(content)


def test_nothing_is_overwritten_unasked(bundle, tmp_path, converted):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(bundle.path)
    (tmp_path / "precious").mkdir()
    with pytest.raises(FileExistsError, match="is no bundle"):
        export(tmp_path / "precious", overwrite=True)
    replaced = export(bundle.path, overwrite=True)
    assert replaced.manifest["views"] == []
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "precious"])


def test_a_plan_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"plan expects a Plan, .* Received: None"):
        export_tflm(tiny_net(), None, calibration=images(tiny_net(), 8), out=tmp_path / "net")


def test_too_small_a_board_writes_nothing(tmp_path, converted):
    with pytest.raises(ValueError, match="of SRAM, board 'small'.*Largest parts: model_arena .* B, samples "):
        export(tmp_path / "deep" / "net", board=Board("small", "cpu", 1, 8192, 10**6))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_budget_that_is_named_fits(tmp_path):
    model, board = NanoNet(), Board("small", "cpu", 1, 150_000, 10**6)
    x, loss, kept = images(model, 5), planner.summed_cross_entropy(np.arange(5)), DeviceAccounting(num_samples=5)
    options = {"board": board, "training": TrainingSettings(num_classes=5, max_samples=5)}
    plans = [
        planner.choose(model, x, loss, Budget(memory, 1.0), strategy="l2", accounting=kept)
        for memory in ("240KB", board.available_sram_bytes)
    ]
    command = "keras-tinytrain plan --memory 150000 --head prototypes --max-samples 5"
    message = re.escape(f"Plan again with `{command}`, or in Python with `Budget(memory=150000)` and `accounting={kept}`.")
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "net", model=model, plan=plans[0], **options)
    assert not list(tmp_path.iterdir())
    bundle = export(tmp_path / "net", model=model, plan=plans[1], **options)
    assert 0.8 * 150_000 < bundle.promised_bytes["sram"]["total"] <= 150_000


def test_where_no_budget_fits_none_is_named(tmp_path, converted):
    with pytest.raises(ValueError, match="The frozen part alone takes [0-9,]+ B, so that no plan as late as this one fits"):
        export(tmp_path / "net", board=Board("tiny", "cpu", 1, 2048, 10**6), plan=Plan((LayerPlan("logits", (0, 1)),)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["write_new", "exchange"])
def test_a_failure_while_writing_leaves_all_as_it_was(bundle, tmp_path, monkeypatch, failing, converted):
    def fail(*_):
        raise OSError("disk full")

    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    monkeypatch.setattr(_writing, failing, fail)
    with pytest.raises(OSError, match="disk full"):
        export(bundle.path, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["my net-1"]


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match="head expects one of prototypes, softmax"):
        export(tmp_path / "a", head="linear")
    with pytest.raises(ValueError, match="head='softmax' expects .* Received: one with 5 values, for 4 classes"):
        export(tmp_path / "a", head="softmax", training=TrainingSettings(num_classes=4))
    with pytest.raises(ValueError, match="views expects"):
        export(tmp_path / "a", views=((40000, 0),))
    with pytest.raises(ValueError, match="mirrored.. Received: .*2"):
        export(tmp_path / "a", views=((0, 0, 2),))
    with pytest.raises(ValueError, match="features expects one of ram, flash. Received: 'disk'"):
        export(tmp_path / "a", features="disk")
    with pytest.raises(ValueError, match="what an erase clears on board 'rp2040': set Board.flash_page_bytes"):
        export(tmp_path / "a", features="flash", board="rp2040")
    with pytest.raises(ValueError, match="Unknown board"):
        export(tmp_path / "a", board="uno")
    assert not list(tmp_path.iterdir())


def test_without_a_frozen_part(tmp_path):
    bundle = export(tmp_path / "net", model=pooled_net(), plan=Plan((LayerPlan("first", (0, 2)),)))
    assert not (bundle.path / "frozen.tflite").exists()
    assert "frozen" not in (bundle.path / "models.cpp").read_text()
    assert bundle.manifest["arenas"]["frozen_arena"] == bundle.promised_bytes["flash"]["frozen_model"] == 0
    compile_sketch(bundle, tmp_path)


def test_tables_version_is_the_headers(bundle):
    header = (source_dir() / "tinytrain_tables.h").read_text()
    assert f"kTablesVersion = {bundle.tables_version};" in header


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-30, 16777217.0, 5.0, 1.17549435e-38, 0.00784313772])
def test_floats_read_back_exactly(value):
    text = float32(value)
    assert text.endswith("f") and ("." in text or "e" in text)
    assert np.float32(text[:-1]) == np.float32(value)


def test_names():
    assert identifier("my net-1") == "bundle_my_net_1"
    assert identifier("class") == "bundle_class"
    methods = {"CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "RELU6": "AddRelu6", "ADD": "AddAdd"}
    assert {name: resolver_method(name) for name in methods} == methods


def test_sources_are_clean_and_need_no_start_up_code(bundle, tmp_path):
    flags = ["-std=c++14", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti", f"-I{source_dir()}"]
    for name in ("tables", "models"):
        target = tmp_path / f"{name}.o"
        subprocess.run(["c++", *flags, "-O0", "-c", str(bundle.path / f"{name}.cpp"), "-o", str(target)], check=True)
        sections = subprocess.run(["objdump", "-h", str(target)], check=True, capture_output=True, text=True).stdout
        assert ".init_array" not in sections  # all of it is constant, in flash


def test_too_little_flash_for_features_writes_nothing(tmp_path, converted):
    board = Board("small", "cpu", 1, 10**6, 60_000, flash_page_bytes=16_384)
    with pytest.raises(
        ValueError, match="of flash, board 'small' has.*Largest parts: code [0-9,]+ B, deltas 32,768 B, features 16,384"
    ):
        export(tmp_path / "net", board=board, features="flash")
    assert not list(tmp_path.iterdir())


def test_sketch_compiles_against_a_stand_in_of_tflm(bundle, tmp_path):
    compile_sketch(bundle, tmp_path)


def test_sketch_without_flash_and_with_features_in_it(tmp_path, converted):
    without = export(tmp_path / "without", board="rp2040")
    assert "BoardFlash" not in (without.path / "sketch" / "sketch.ino").read_text()
    assert without.promised_bytes["flash"]["deltas"] == without.promised_bytes["flash"]["features"] == 0
    compile_sketch(without, tmp_path)
    with_features = export(tmp_path / "with", features="flash")
    assert "feature_flash.flash()" in (with_features.path / "sketch" / "sketch.ino").read_text()
    compile_sketch(with_features, tmp_path)


ARDUINO_HEADERS = pathlib.Path(__file__).parents[1] / "runtime" / "arduino" / "nano33ble"


def compile_sketch(bundle, folder):
    """With the options of the Nano 33 BLE's core, against stand-ins of Arduino's headers and TensorFlow Lite Micro's."""
    (folder / "sketch.cpp").write_text(f'#include <Arduino.h>\n#include "{bundle.path / "sketch" / "sketch.ino"}"\n')
    includes = [f"-I{path}" for path in (ARDUINO_HEADERS, source_dir(), *stand_in.INCLUDES)]
    flags = ["-std=gnu++14", "-Wall", "-Wextra", "-Werror", "-DSTAND_IN_NAMES_MORE", *includes]
    assert compile_sources([folder / "sketch.cpp"], folder, flags=flags)[0].exists()
