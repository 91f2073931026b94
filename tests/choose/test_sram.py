"""DeviceAccounting: every part by hand on a small net, and what must grow with what."""

import dataclasses

import pytest
from models import tiny_net

from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.choose.training_memory import Training, training_memory
from keras_tinytrain.export.settings import TrainingSettings
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.tflm_runtime.rounding import align

CHOICE = {"b3_conv": 5, "logits": 5}


@pytest.fixture(scope="module")
def table():
    return layer_table(tiny_net())


@pytest.mark.parametrize(("num_bytes", "aligned"), [(0, 0), (1, 16), (16, 16), (17, 32)])
def test_align(num_bytes, aligned):
    assert align(num_bytes) == aligned


def test_parts_by_hand(table):
    parts = DeviceAccounting(num_samples=25, num_classes=5).parts(table, CHOICE)
    features = 3 * 3 * 12  # the output of b2_project, where the frozen part ends
    parameters = 5 * (3 * 3 * 12 + 1) + 5 * (12 + 1)
    assert parts["samples"] == align(25 * features) + align(25)
    assert parts["weights"] == align(12 * 3 * 3 * 12) + align(4 * 12) + align(12 * 5) + align(4 * 5)
    assert parts["masters"] == align(4 * parameters)
    assert parts["optimizer"] == align(8 * parameters)
    assert parts["prototypes"] == 2 * align(4 * 5 * 5)  # adapted and original


@pytest.mark.parametrize("views", [0, 2])
def test_head_is_that_of_the_exporters_default_settings(table, views):
    settings = TrainingSettings(num_classes=5)
    exported = Training(
        layers=(),
        gradient_bytes=0,
        num_features=0,
        num_pixels=0,
        dimension=5,
        num_samples=settings.max_samples,
        num_views=views,
        num_classes=settings.num_classes,
        leave_one_out=settings.leave_one_out,
        immediate=settings.updates == "immediate",
        averages=settings.average > 0,
    )
    own_embeddings = align(25 * 5) if views else 0
    expected = 3 * align(4 * 5) + 2 * align(4 * 5) + own_embeddings
    estimated = DeviceAccounting(num_views=views).training(table, CHOICE)
    assert estimated.training["head"] == training_memory(exported).training["head"] == expected
    assert estimated.state["prototypes"] == training_memory(exported).state["prototypes"]


def test_arena_holds_the_larger_of_both_turns(table):
    """The frozen part of stem to b2_project needs more than the trainable one alone, and less than that with its scratch."""
    few, more = ({"b3_conv": count} for count in (1, 12))
    arena = lambda choice, **options: DeviceAccounting(**options)._parts(table, choice, split=False)["model_arena"]
    assert arena(few) == arena({"b3_conv": 2})  # more gradients, where the frozen part's tensors are
    assert arena(more) > arena({"b3_conv": 11}) > arena(few)
    image = align(12 * 12 * 3)
    assert arena(few) < arena(few, num_views=1) <= arena(few) + image


def test_trained_channels_alone_are_in_ram_where_that_takes_less(table):
    accounting = DeviceAccounting()
    assert accounting.parts(table, {"b3_conv": 1})["weights"] == align(3 * 3 * 12) + align(4)
    assert accounting.parts(table, {"b3_conv": 12})["weights"] == align(12 * 3 * 3 * 12) + align(4 * 12)
    assert accounting.parts(table, {"b1_depthwise": 1})["weights"] == accounting.parts(table, {"b1_depthwise": 2})["weights"]
    whole = sum(accounting._parts(table, {"b3_conv": 1}, split=False).values())
    assert accounting.memory_bytes(table, {"b3_conv": 1}) < whole


def test_one_second_moment_a_channel(table):
    parts = DeviceAccounting(optimizer="adam_per_channel").parts(table, CHOICE)
    assert parts["optimizer"] == align(4 * (5 * (3 * 3 * 12 + 1) + 5 * (12 + 1) + 2 * 5 + 2 * 5))


def test_features_in_flash_cost_labels_only(table):
    in_flash, in_ram = (DeviceAccounting(features=features).parts(table, CHOICE) for features in ("flash", "ram"))
    assert in_flash["samples"] == align(25)
    assert {part for part in in_ram if in_flash[part] != in_ram[part]} == {"samples"}


def test_memory_is_the_sum_of_its_parts(table):
    accounting = DeviceAccounting()
    assert accounting.memory_bytes(table, CHOICE) == sum(accounting.parts(table, CHOICE).values())


@pytest.mark.parametrize("change", [{"num_samples": 50}, {"num_views": 4}, {"num_classes": 20}])
def test_more_of_anything_takes_more(table, change):
    small = DeviceAccounting()
    assert dataclasses.replace(small, **change).memory_bytes(table, CHOICE) > small.memory_bytes(table, CHOICE)


def test_features_are_checked():
    with pytest.raises(ValueError, match="features expects one of ram, flash"):
        DeviceAccounting(features="disk")


def test_weights_in_int8_alone_need_no_masters(table):
    with_masters, without = (DeviceAccounting(weights=kept).parts(table, CHOICE) for kept in ("float_masters", "int8"))
    assert without == {**with_masters, "masters": 0} != with_masters


def test_sgd_needs_no_optimizer_state(table):
    assert DeviceAccounting(optimizer="sgd").parts(table, CHOICE)["optimizer"] == 0


@pytest.mark.parametrize("name", ["stem", "b1_depthwise", "b3_conv", "logits"])
def test_memory_grows_with_the_channels_of_a_layer(table, name):
    accounting = DeviceAccounting()
    sizes = [accounting.memory_bytes(table, {name: count}) for count in range(1, table[name].num_channels + 1)]
    assert sizes == sorted(sizes)


def test_training_from_the_first_layer_keeps_whole_images(table):
    accounting = DeviceAccounting(num_samples=4, num_views=1)
    parts = accounting.parts(table, {"stem": 1})
    assert parts["samples"] == align(8 * 12 * 12 * 3) + align(4)
