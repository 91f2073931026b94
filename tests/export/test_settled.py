"""The head that a board has room for: all maps, the first alone, prototypes; and what is said of it."""

import dataclasses

import pytest
from models import images

from keras_tinytrain import Budget
from keras_tinytrain.export import BOARDS, TrainingSettings, export_tflm
from keras_tinytrain.plan import LayerPlan, Plan
from tests.run.test_closed_form import backbone

PLAN = Plan((LayerPlan("b3_conv", (0, 1)),))
TRAINING = TrainingSettings(num_classes=3, max_samples=12)


def export(out, **options):
    plan = options.pop("plan", PLAN)
    return export_tflm(backbone(), plan, calibration=images(backbone(), 8), out=out, training=TRAINING, **options)


def board_of(flash_bytes):
    return dataclasses.replace(BOARDS["nano33ble"], flash_bytes=BOARDS["nano33ble"].reserved_flash_bytes + flash_bytes)


def test_board_has_the_first_head_that_fits(tmp_path, caplog):
    whole = export(tmp_path / "whole")
    maps, needed = whole.manifest["closed_form"]["maps"], whole.promised_bytes["flash"]["total"]
    assert len(maps) > 1 and not caplog.messages
    less = export(tmp_path / "less", board=board_of(needed - 1))
    assert less.manifest["closed_form"]["maps"] == maps[:1] and less.plan.device is None
    assert caplog.messages[-1].startswith(
        f"The closed-form head reads {maps[0]} alone: board nano33ble has no room for {', '.join(maps)}. It "
    )
    fewest = less.promised_bytes["flash"]["total"]
    least = export(tmp_path / "least", board=board_of(fewest - 1))
    assert "closed_form" not in least.manifest and least.manifest["training"]["iterations"] == 40
    assert f"It would take {needed:,} of {fewest - 1:,} B of flash." in caplog.messages[-1]
    named = export(tmp_path / "named", head="ridge", board=board_of(fewest))
    assert named.manifest["closed_form"]["maps"] == maps[:1]
    with pytest.raises(ValueError, match=f"needs {needed:,} B of flash"):
        export(tmp_path / "none", head="ridge", board=board_of(fewest - 1))


def test_plan_that_was_chosen_within_a_budget_stays_within_it(tmp_path, caplog):
    needed = export(tmp_path / "free").promised_bytes["sram"]["total"]
    plan = dataclasses.replace(PLAN, budget=Budget(memory=needed - 1))
    bundle = export(tmp_path / "within", plan=plan)
    assert bundle.promised_bytes["sram"]["total"] < needed and f"more than the {needed - 1:,} B" in caplog.messages[-1]
    other = export(tmp_path / "other", plan=dataclasses.replace(PLAN, budget=Budget(memory=1000)))  # as the paper counts
    assert other.promised_bytes["sram"]["total"] == needed and len(caplog.messages) == 1
