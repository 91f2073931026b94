"""Budget, LayerPlan, Plan: values that are refused, and JSON that gives back the same value."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_tinytrain import DeviceSettings
from keras_tinytrain.plan import Budget, LayerPlan, Plan, parse_bytes

CHANNELS = st.lists(st.integers(0, 500), min_size=1, max_size=20, unique=True).map(sorted)
PLANS = st.builds(
    lambda layers, budget: Plan(tuple(LayerPlan(f"layer{i}", c) for i, c in enumerate(layers)), budget, "fisher"),
    st.lists(CHANNELS, max_size=4),
    st.none() | st.builds(Budget, st.integers(1, 10**8), st.floats(0.001, 1e8)),
)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("256KB", 262144), ("256 KiB", 262144), ("0.5MB", 524288), ("1.06 mib", 1111490), (1000, 1000), ("1000", 1000), ("7B", 7)],
)
def test_amounts_of_bytes_are_read(amount, expected):
    assert parse_bytes(amount) == expected
    assert Budget(memory=amount).memory_bytes == expected


@pytest.mark.parametrize("amount", ["", "KB", "-1KB", 0, -5, "256GB", "0.0001KB", "1e5", True])
def test_amounts_that_are_not_positive_bytes_are_refused(amount):
    with pytest.raises(ValueError, match="positive number of bytes"):
        Budget(memory=amount)


def test_budget_without_a_memory_figure_has_no_memory_limit():
    budget = Budget(compute=0.15)
    assert budget == Budget() == Budget(memory=None) and budget.memory is None
    assert budget.memory_bytes > 2**60
    plan = Plan((LayerPlan("a", (0,)),), budget, "fisher")
    assert Plan.from_json(plan.to_json()).budget == budget
    with pytest.raises(ValueError, match="positive number of bytes"):
        parse_bytes(None)


def test_compute_is_a_fraction_up_to_one_and_macs_above():
    assert Budget(compute=0.15).backward_macs(1000) == 150
    assert Budget(compute=1).backward_macs(1000) == 1000
    assert Budget(compute=6_510_000).backward_macs(1000) == 6_510_000


@pytest.mark.parametrize("compute", [0, -0.1, float("nan"), "0.15", None])
def test_compute_limits_that_are_not_positive_numbers_are_refused(compute):
    with pytest.raises(ValueError, match="fraction in"):
        Budget(compute=compute)


@pytest.mark.parametrize("channels", [(), (1, 1), (2, 1), (-1, 3)])
def test_channels_are_ascending_without_repeats(channels):
    with pytest.raises(ValueError, match="'conv'.*ascending"):
        LayerPlan("conv", channels)


def test_plan_names_each_layer_once():
    with pytest.raises(ValueError, match="each layer once"):
        Plan((LayerPlan("a", (0,)), LayerPlan("a", (1,))))


def test_plan_finds_its_layers_by_name():
    plan = Plan((LayerPlan("a", (0, 2)), LayerPlan("b", (1,))))
    assert plan["b"].channels == (1,)
    assert plan.num_channels == 3
    with pytest.raises(KeyError):
        plan["c"]


@given(PLANS)
def test_json_gives_back_the_same_plan(plan):
    assert Plan.from_json(plan.to_json()) == plan


def test_plan_file_gives_back_the_same_plan(tmp_path):
    plan = Plan((LayerPlan("b9.pw1", (3, 4)),), Budget("256KB", 0.15), "fisher")
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keras_tinytrain_plan": 1, "layers": [{"name": "a", "channels": []}], "budget": null, "strategy": "x"}',
        '{"keras_tinytrain_plan": 1, "layers": [{"nome": "a", "channels": [1]}], "budget": null, "strategy": "x"}',
        '{"keras_tinytrain_plan": 1, "layers": 3, "budget": null, "strategy": "x"}',
        '{"keras_tinytrain_plan": 1, "layers": [], "budget": null, "strategy": "x", "more": 1}',
    ],
)
def test_file_that_is_not_a_plan_is_named(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="other.json is not a plan"):
        Plan.load(path)


def test_plan_of_another_version_is_named():
    with pytest.raises(ValueError, match="version 4, this release reads versions 1, 2 and 3"):
        Plan.from_json('{"keras_tinytrain_plan": 4, "layers": [], "budget": null, "strategy": "x", "later": 1}')


@pytest.mark.parametrize(("time", "seconds"), [(10, 10), ("10", 10), ("30s", 30), ("1.5 min", 90), ("2min", 120), ("1h", 3600)])
def test_times_are_read(time, seconds):
    budget = Budget(time=time)
    assert budget.seconds == seconds and budget == Budget(time=seconds)
    plan = Plan((LayerPlan("a", (0,)),), budget)
    assert Plan.from_json(plan.to_json()) == plan
    assert json.loads(plan.to_json())["keras_tinytrain_plan"] == 3


@pytest.mark.parametrize("time", ["", "s", 0, -1, "10 minutes", "1e3", True, float("nan"), float("inf"), [3], "8000h"])
def test_times_that_are_not_positive_are_refused(time):
    with pytest.raises(ValueError, match='expects seconds, such as 10, or a text with a unit, such as "10s".*Received: '):
        Budget(time=time)


DEVICE = DeviceSettings("rp2040", 18, 3, ("cat", "dog", "owl"), "softmax", views=((0, -2, True),), scale=255)


def test_a_plan_file_says_what_it_was_chosen_for(tmp_path):
    plan = Plan((LayerPlan("b9.pw1", (3, 4)),), Budget("256KB", 0.15), "fisher", device=DEVICE)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert json.loads((tmp_path / "plan.json").read_text())["keras_tinytrain_plan"] == 2
    assert json.loads(dataclasses.replace(plan, device=None).to_json())["keras_tinytrain_plan"] == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_samples", "18", "max_samples=.* expects int. Received: '18'"),
        ("num_classes", True, "num_classes=.* expects int"),
        ("class_names", ["cat"], "a name for each of its 3 classes"),
        ("class_names", ["cat", "dog", "cat"], "class names that differ"),
        ("class_names", ["cat", "dog", ""], "none that is empty"),
        ("views", [[1]], "is not a plan"),
        ("colour", "red", "colour"),
    ],
)
def test_wrong_device_settings_of_a_file_are_named(field, value, message):
    fields = json.loads(Plan((), device=DEVICE).to_json())
    fields["device"][field] = value
    with pytest.raises(ValueError, match=message):
        Plan.from_json(json.dumps(fields))


def test_a_plan_is_printed_in_one_line():
    plan = Plan((LayerPlan("pw", (0, 3, 7)), LayerPlan("head", (1,), kernel=False)), strategy="fisher")
    assert str(plan) == "Plan by fisher: trains 4 channels of 2 layers, pw 3, head 1 biases"
    assert str(Plan(())) == "Plan by manual: trains nothing"
