"""The steps of an export, one by one: each is a value that can be printed."""

import dataclasses
import inspect
import json

import pytest
from models import images, tiny_net

from keras_tinytrain._text import kilobytes
from keras_tinytrain.choose import ranking
from keras_tinytrain.export import Board, TrainingSettings, export_tflm
from keras_tinytrain.export import request as request_module
from keras_tinytrain.export import settings as settings_module
from keras_tinytrain.export.backward import operators
from keras_tinytrain.export.conversion import convert
from keras_tinytrain.export.files import render_files
from keras_tinytrain.export.layout import lay_out
from keras_tinytrain.export.request import check
from keras_tinytrain.export.tables import CRITERIA
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.tflm_runtime import headers

PLAN = Plan((LayerPlan("b1_project", (1, 3)), LayerPlan("logits", (0, 1, 2, 3, 4))))
DEFAULTS = {
    name: option.default for name, option in inspect.signature(export_tflm).parameters.items() if name not in ("model", "plan")
}


def request_of(out, **options):
    model = tiny_net()
    return check(model, PLAN, **{**DEFAULTS, "head": "prototypes", "calibration": images(model, 8), "out": out, **options})


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    request = request_of(tmp_path_factory.mktemp("steps") / "net", training=TrainingSettings(max_samples=7))
    converted = convert(request)
    layout = lay_out(request, converted)
    return request, converted, layout, render_files(request, converted, layout)


def test_no_step_writes_and_none_can_be_changed(steps):
    request, *_ = steps
    assert not list(request.out.parent.iterdir())
    for step in steps:
        field = dataclasses.fields(step)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(step, field, None)


def test_the_request_says_what_is_asked_for(steps):
    assert str(steps[0]).splitlines() == [
        f"Export model '{steps[0].model.name}' for board nano33ble to {steps[0].out}",
        "  7 channels of 2 layers to train, head 'prototypes', 0 views",
        "  7 samples of 5 classes, features in ram",
    ]


def test_the_conversion_says_what_runs_on_the_device(steps):
    _, converted, *_ = steps
    first, models, backward = str(converted).splitlines()
    assert first == f"int8 model of {len(converted.whole):,} B, SHA-256 {converted.base_hash.hex()[:12]}"
    assert f"frozen.tflite {len(converted.frozen):,} B, trainable.tflite {len(converted.trainable):,} B" in models
    assert backward.endswith("2 of them trained: b1_project, logits")


def test_the_layout_says_how_full_the_board_is(steps):
    *_, layout, _ = steps
    fits, sram, flash = str(layout).splitlines()
    assert fits == "Fits board nano33ble" and layout.fits
    assert sram.startswith(
        f"  SRAM  {kilobytes(layout.sram['total'])} of 212 KB: model_arena {layout.sram['model_arena']:,} B, "
    )
    assert flash.startswith(f"  flash {kilobytes(layout.flash['total'])} of 876 KB: ")
    layout.check_fits()


def test_a_layout_that_does_not_fit_says_so(steps):
    request, converted, *_ = steps
    small = dataclasses.replace(request, board=Board("small", "cpu", 1, 8192, 10**6))
    layout = lay_out(small, converted)
    assert not layout.fits and str(layout).startswith("Does not fit board small\n  SRAM  ")
    with pytest.raises(ValueError, match="of SRAM, board 'small' has 8,192 B"):
        layout.check_fits()


def test_the_files_are_those_that_an_export_writes(steps, tmp_path):
    request, converted, _, files = steps
    bundle = export_tflm(
        tiny_net(),
        PLAN,
        calibration=request.calibration,
        out=tmp_path / "net",
        head="prototypes",
        training=TrainingSettings(max_samples=7),
    )
    assert {name: (bundle.path / name).read_bytes() for name in files.all_contents} == files.all_contents
    assert json.loads(files.all_contents["manifest.json"]) == bundle.manifest
    first, *lines = str(files).splitlines()
    assert first == f"Bundle 'net', {sum(len(data) for data in files.all_contents.values()):,} B in all"
    assert len(lines) == len(files.all_contents) and f"{len(converted.frozen):>9,} B  frozen.tflite" in "\n".join(lines)


def test_every_enum_of_the_tables_has_its_python_names():
    found = headers.enums("tinytrain_tables.h")
    assert set(found) == {"Operator", "Activation", "Head", "HeadChoice", "Optimizer", "WeightStorage", "Criterion", "Updates"}
    settings = settings_module._CHOICES
    python_names = {"Head": request_module.HEADS, "Optimizer": settings["optimizer"]}
    python_names |= {"WeightStorage": settings["weights"], "Updates": settings["updates"]}
    for name, choices in python_names.items():
        assert tuple(headers.names("tinytrain_tables.h", name)) == tuple(choices)
    assert list(CRITERIA) == list(ranking.CRITERIA) and list(CRITERIA.values()) == list(found["Criterion"])
    assert set(operators._ACTIVATIONS.values()) == set(found["Activation"])
