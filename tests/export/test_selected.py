"""Trained channels alone in RAM, one model or two: other bytes, the same activations and the same learning, bit for bit."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from models import images, labelled_images, tiny_net

from keras_tinytrain.export import TrainingSettings, conversion, export_tflm
from keras_tinytrain.export.backward import selected
from keras_tinytrain.export.backward.graph import STORED_SAMPLE, read_trainable
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite.arena import board_arena
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.cut import cut_model
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from tests.export.test_convert import assert_same, random_inputs, run_lite, run_micro

WAYS, SHOTS = 3, 2
PLAN = Plan(
    tuple(
        LayerPlan(name, channels)
        for name, channels in {
            "b1_expand": (0, 9),
            "b1_depthwise": (3, 4),
            "b1_project": (2, 5),
            "b2_project": (11,),
            "b3_conv": (0, 1),
            "logits": (1, 3),
        }.items()
    )
)
CAN_SPLIT = ["b1_expand", "b1_project", "b2_project", "b3_conv", "logits"]


@pytest.fixture(scope="module")
def net():
    return tiny_net()


@pytest.fixture(scope="module")
def whole(net):
    return convert_int8(fold_batch_norm(net), images(net, 8))


@pytest.fixture(scope="module")
def export(net, whole, tmp_path_factory):
    """Exports tiny_net anew with other options; it is converted once."""

    def export(name, plan=PLAN, **options):
        training = TrainingSettings(iterations=4, num_classes=WAYS, max_samples=WAYS * SHOTS, learning_rate=0.02)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(conversion, "convert_int8", lambda *_: whole)
            folder = tmp_path_factory.mktemp("bundles") / name
            return export_tflm(
                net, plan, calibration=images(net, 8), out=folder, training=training, head="prototypes", **options
            )

    return export


@pytest.fixture(scope="module")
def bundles(export):
    return {
        "whole": export("whole", weights_in_ram="whole"),
        "selected": export("selected", weights_in_ram="selected"),
        "one": export("one", weights_in_ram="selected", split=False),
    }


def learn(bundle):
    host = HostRuntime(bundle)
    host.add_samples(*labelled_images(tiny_net(), per_class=SHOTS, classes=WAYS))
    losses = host.train()
    return host, losses, host.trainer.save_delta()


@pytest.fixture(scope="module")
def learned(bundles):
    return {name: learn(bundle) for name, bundle in bundles.items()}


def tf_lite():
    return types.SimpleNamespace(Interpreter=tf.lite.Interpreter, OpResolverType=tf.lite.experimental.OpResolverType)


def test_activations_are_the_same_bit_for_bit(bundles):
    inputs = random_inputs(bundles["whole"].trainable)
    expected = run_micro(bundles["whole"].trainable, inputs)
    assert_same(run_micro(bundles["selected"].trainable, inputs), expected)
    assert_same(run_lite(tf_lite(), bundles["selected"].trainable, inputs), expected)


@pytest.mark.parametrize("name", ["selected", "one"])
def test_the_same_is_learned(learned, name):
    """Losses, the delta with Keras' channel numbers, and logits; whatever RAM holds, in one model or two."""
    host, losses, delta = learned["whole"]
    other, other_losses, other_delta = learned[name]
    assert losses == other_losses and losses[-1] != losses[0]
    assert delta == other_delta
    x, _ = labelled_images(tiny_net(), per_class=1, classes=WAYS, seed=9)
    np.testing.assert_array_equal(host.predict(x), other.predict(x))


@pytest.mark.parametrize("name", ["whole", "selected", "one"])
def test_promised_bytes_are_used_to_the_byte(learned, bundles, name):
    assert learned[name][0].bytes_used() == bundles[name].promised_bytes


def test_a_delta_fits_however_the_model_was_exported(learned, bundles):
    host = HostRuntime(bundles["one"])
    host.trainer.load_delta(learned["selected"][2])
    x, _ = labelled_images(tiny_net(), per_class=1, classes=WAYS, seed=9)
    np.testing.assert_array_equal(host.predict(x), learned["whole"][0].predict(x))


def test_what_ram_holds_is_shown(bundles):
    choices = bundles["selected"].manifest["weights_in_ram"]
    assert [choice["name"] for choice in choices] == [layer.name for layer in PLAN.layers]
    assert [choice["name"] for choice in choices if choice["split"]] == CAN_SPLIT
    assert not any(choice["split"] for choice in bundles["whole"].manifest["weights_in_ram"])
    for name in bundles:
        held = sum(c["selected_bytes" if c["split"] else "whole_bytes"] for c in bundles[name].manifest["weights_in_ram"])
        assert held == bundles[name].promised_bytes["sram"]["weights"]
    readme = (bundles["selected"].path / "README.md").read_text()
    assert "| `b3_conv` | 2 | trained channels | 1,344 | 240 | not asked |" in readme


@pytest.fixture(scope="module")
def large_and_small():
    image = keras.Input((4, 4, 8))
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="large")(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, name="small")(x))
    model = fold_batch_norm(keras.Model(image, x))
    plan = Plan((LayerPlan("large", (3, 40)), LayerPlan("small", (2,))))
    _, trainable, operators = cut_model(convert_int8(model, images(model, 4)), model, plan)
    return read_trainable(trainable, operators, plan)


def test_a_layer_is_split_where_that_saves_more_than_the_arena_grows_by(large_and_small):
    arena = functools.partial(board_arena, kernels="cmsis-nn")
    before = arena(large_and_small[0])
    after, graph, (large, small) = selected.choose_split(*large_and_small, model_arena=arena)
    assert (large.whole_bytes, large.selected_bytes) == (64 * 72 + 64 * 4, 2 * 72 + 16)
    assert large.split and large.arena_growth == arena(after) - before < large.whole_bytes - large.selected_bytes
    assert not small.split and small.arena_growth > small.whole_bytes - small.selected_bytes
    assert [trained.is_split for trained in graph.trained] == [True, False]


def test_what_is_free_is_split(large_and_small):
    """The frozen model needs the larger arena, so that the trainable one may grow for nothing."""
    choices = selected.choose_split(*large_and_small, model_arena=lambda trainable: 1 << 20)[2]
    assert all(choice.split and choice.arena_growth == 0 for choice in choices)


def operators_behind(trainable, names):
    model = fb.read_model(trainable)
    return [fb.operator_name(model, operator) for operator in model.subgraphs[0].operators][:names]


@pytest.mark.parametrize(("channels", "gather"), [((0, 1), False), ((10, 11), False), ((0, 11), True)])
def test_channels_that_lie_at_an_end_need_no_gather(net, whole, channels, gather):
    model, plan = fold_batch_norm(net), Plan((LayerPlan("b3_conv", channels),))
    _, trainable, operators = cut_model(whole, model, plan)
    trainable, graph = read_trainable(trainable, operators, plan)
    split, _ = selected.split_layers(trainable, graph, ["b3_conv"])
    expected = ["CONV_2D", "CONV_2D", "CONCATENATION"] + ["GATHER"] * gather
    assert operators_behind(split, len(expected)) == expected
    assert ("GATHER" in fb.operator_names(split)) == gather
    inputs = random_inputs(split, 3)
    assert_same(run_micro(split, inputs), run_micro(trainable, inputs))


def test_one_model_is_cut_nowhere(bundles):
    one, two = bundles["one"], bundles["selected"]
    assert one.frozen is None and two.frozen is not None
    assert one.manifest["features"]["size"] == 12 * 12 * 3 > two.manifest["features"]["size"]
    assert one.promised_bytes["flash"]["frozen_model"] == 0


def test_one_model_may_begin_with_what_cannot_go_backwards():
    image = keras.Input((6, 6, 4))
    x = layers.Multiply()([image, layers.ReLU(6.0)(image)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="trained")(x))
    model, plan = keras.Model(image, x), Plan((LayerPlan("trained", (0, 2)),))
    frozen, trainable, operators = cut_model(convert_int8(model, images(model, 4)), model, plan, split=False)
    _, graph = read_trainable(trainable, operators, plan)
    assert frozen is None and "MUL" in fb.operator_names(trainable)
    assert [layer.op for layer in graph.layers] == ["kConv2D", "kAveragePool2D"]
    assert [tensor.size for tensor in graph.tensors] == [144, 144, 180, 5]  # the image, and what the convolution reads
    assert [tensor.kept for tensor in graph.tensors[:2]] == [STORED_SAMPLE, 1]


def test_options_are_checked(net, tmp_path):
    with pytest.raises(ValueError, match="weights_in_ram expects one of cheapest, selected, whole. Received: 'some'"):
        export_tflm(net, PLAN, calibration=images(net, 2), out=tmp_path / "net", weights_in_ram="some")
