"""A bundle on the host: gradients equal TensorFlow's in float64 on the same int8 values, promised bytes are the bytes used."""

import keras
import numpy as np
import pytest
from bundle_reference import reference_gradients
from models import (
    branches_net,
    gated_net,
    images,
    joined_net,
    labelled_images,
    pooled_net,
    separable_net,
    sequence_net,
    tiny_net,
)

from keras_tinytrain import _runtime
from keras_tinytrain.choose.backward_pass import with_gradient
from keras_tinytrain.delta import Delta
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.export.backward import graph as graph_module
from keras_tinytrain.export.tflite.arena import smallest_arena
from keras_tinytrain.export.tflite.convert import convert_int8
from keras_tinytrain.export.tflite.flatbuffer import constant_offset
from keras_tinytrain.model.channels import find_weights, kernel_channel_axis
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime, classifier_from_device
from keras_tinytrain.run.micro_model import MicroModel
from keras_tinytrain.tflm_runtime.rounding import align

WAYS, SHOTS = 4, 3


def plan_of(**channels):
    return Plan(tuple(LayerPlan(name, chosen) for name, chosen in channels.items()))


def picking_net():
    """Max pooling of every kind, and padding that no convolution takes over."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            keras.layers.Conv2D(6, 3, activation="relu", name="first"),
            keras.layers.MaxPooling2D(3, strides=2, padding="same", name="max"),
            keras.layers.ZeroPadding2D(((1, 2), (0, 1)), name="pad"),
            keras.layers.AveragePooling2D(2, strides=1, name="average"),
            keras.layers.Conv2D(7, 3, padding="same", name="second"),
            keras.layers.GlobalMaxPooling2D(name="top"),
        ]
    )


def leaky_net():
    """LeakyReLU of three slopes, as a layer and as an activation by its name; one output of it is read twice."""
    keras.utils.set_random_seed(5)
    x = image = keras.Input((10, 10, 2))
    x = keras.layers.LeakyReLU(0.3, name="leaky")(keras.layers.Conv2D(6, 3, name="first")(x))
    y = keras.layers.Conv2D(6, 3, padding="same", activation="leaky_relu", name="second")(x)
    y = keras.layers.LeakyReLU(0.0, name="zero")(keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y))
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(6, 1, name="third")(y)])
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.LeakyReLU(1.5, name="steep")(x)))


def separated_net():
    """Separable convolutions, which are trained as their two convolutions."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    x = image = keras.Input((10, 10, 3))
    x = layers.SeparableConv2D(8, 3, activation="relu", name="first")(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.SeparableConv2D(6, 3, use_bias=False, name="second")(x)))
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x))


SEPARATED = Plan(
    (LayerPlan("first.pointwise", (0, 5)), LayerPlan("second.depthwise", (1, 2)), LayerPlan("second.pointwise", (3,)))
)
BRANCHES = plan_of(stem=(0, 5), near=(1,), elu=(2,), relu=(0, 3), sigmoid=(1,), tanh=(4,), gate1=(0, 17))
BLOCKS = plan_of(b1_project=(1, 3), b2_depthwise=(0, 5), b3_conv=(2, 11), logits=(0, 4))
CASES = {  # model, plan, head, views, (optimizer, learning rate); "views" and "softmax" keep their features in flash
    "blocks": (tiny_net, BLOCKS, "prototypes", (), ("adam", 0.01)),
    "views": (tiny_net, plan_of(b1_expand=(0, 9), b1_depthwise=(3,)), "prototypes", ((0, 1), (-2, 0)), ("momentum", 0.1)),
    "pooled": (pooled_net, plan_of(first=(0, 5), second=(1,), hidden=(0, 7)), "prototypes", (), ("sgd", 0.1)),
    "picking": (picking_net, plan_of(first=(0, 5), second=(1, 2)), "prototypes", (), ("adam", 0.02)),
    "leaky": (leaky_net, plan_of(first=(0, 5), second=(1, 2), third=(3,)), "prototypes", ((0, 1),), ("rmsprop", 0.002)),
    "sequence": (sequence_net, plan_of(causal=(1, 6), depthwise=(0, 3), second=(2,)), "prototypes", (), ("adam", 0.01)),
    "separated": (separated_net, SEPARATED, "prototypes", (), ("adam", 0.01)),
    "gated": (gated_net, plan_of(stem=(1, 6), expand=(3,), gate=(0, 9), project=(2,)), "prototypes", (), ("adam", 0.01)),
    "joined": (joined_net, plan_of(stem=(0, 5), left=(1,), right=(2, 3), along=(4,)), "prototypes", (), ("adam", 0.01)),
    "branches": (branches_net, BRANCHES, "prototypes", (), ("adam", 0.01)),
    "separable": (separable_net, plan_of(s1_pointwise=(2, 7), s3_depthwise=(0, 4)), "prototypes", (), ("adam", 0.01)),
    "softmax": (lambda: tiny_net(classes=WAYS), plan_of(b2_expand=(0, 1), logits=(0, 1, 2, 3)), "softmax", (), ("adam", 0.01)),
}


class Case:
    def __init__(self, name, folder):
        build, self.plan, self.head, views, (optimizer, rate) = CASES[name]
        self.model = build()
        self.calibration = images(self.model, 8)
        training = TrainingSettings(
            optimizer=optimizer, learning_rate=rate, iterations=12, num_classes=WAYS, max_samples=WAYS * SHOTS
        )
        self.bundle = export_tflm(
            self.model,
            self.plan,
            calibration=self.calibration,
            out=folder,
            head=self.head,
            training=training,
            views=views,
            features="flash" if name in ("views", "softmax") else "ram",
        )
        self.x, self.y = labelled_images(self.model, per_class=SHOTS, classes=WAYS)


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp("host") / request.param)


@pytest.fixture
def host(case):
    runtime = HostRuntime(case.bundle)
    runtime.add_samples(case.x, case.y)
    return runtime


def test_gradients_equal_float64_to_1e_5(case, host):
    expected_loss, expected = reference_gradients(case, host)
    assert host.trainer.compute_gradients() == pytest.approx(expected_loss, rel=1e-5)
    for index, name in enumerate(expected):
        actual = host.trainer.weight_gradients(index)
        assert (actual[1] is not None) == find_weights(case.model, name).has_bias  # that of a folded norm is not trained
        for ours, theirs in zip(actual[: 1 + (actual[1] is not None)], expected[name]):
            assert np.abs(theirs).max() > 0
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max(), err_msg=name)


def test_promised_bytes_are_used_to_the_byte(case, host):
    assert host.bytes_used() == case.bundle.promised_bytes


def test_the_model_arena_holds_both_turns(case):
    promised, arenas = case.bundle.promised_bytes, case.bundle.manifest["arenas"]
    scratch = promised["scratch"]
    training = scratch["weight_gradients"] + scratch["activation_gradients"] + scratch["head"]
    frozen = scratch["features"] + scratch["image"]
    assert promised["sram"]["model_arena"] == max(
        arenas["frozen_arena"] + scratch["image"], arenas["trainable_arena"] + max(training, frozen)
    )


def test_samples_make_room_for_others_and_a_full_memory_says_how(case, host):
    with pytest.raises(RuntimeError, match=r"12 of at most 12 samples .* so 12 more have no place: call clear_samples\(\)"):
        host.add_samples(case.x, case.y)
    with pytest.raises(ValueError, match="labels 0..3. Received 0..4"):
        host.add_samples(case.x[:2], [0, WAYS])
    host.clear_samples()
    host.add_samples(case.x, case.y)
    assert host.trainer.num_samples == WAYS * SHOTS


@pytest.mark.slow
def test_features_in_flash_change_no_bit(tmp_path):
    hosts = {}
    for features in ("ram", "flash"):
        model = tiny_net()
        training = TrainingSettings(learning_rate=0.01, iterations=4, num_classes=WAYS, max_samples=WAYS * SHOTS)
        bundle = export_tflm(
            model,
            BLOCKS,
            calibration=images(model, 8),
            out=tmp_path / features,
            training=training,
            features=features,
            views=((0, 1),),
            head="prototypes",
        )
        hosts[features] = host = HostRuntime(bundle)
        x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
        host.add_samples(x, y)
        host.losses = host.train()
        host.logits = host.predict(x)
        assert host.bytes_used() == bundle.promised_bytes
    ram, flash = hosts["ram"], hosts["flash"]
    assert flash.losses == ram.losses and flash.logits.tobytes() == ram.logits.tobytes()
    assert flash.trainer.save_delta() == ram.trainer.save_delta()
    saved = ram.bundle.promised_bytes["sram"]["samples"] - flash.bundle.promised_bytes["sram"]["samples"]
    assert saved == align(2 * WAYS * SHOTS * 288)
    assert flash.bundle.promised_bytes["flash"]["features"] == flash.feature_flash.data.size == 4096 * 3  # 24 * 512 B
    assert flash.bundle.promised_bytes["flash"]["deltas"] == flash.slots.data.size == 2 * 4096


def test_training_lowers_the_loss_and_moves_only_the_plan(case, host):
    before = [host.trainer.kernel(index).copy() for index in range(len(case.plan.layers))]
    losses = host.train()
    assert len(losses) == 12
    assert sum(losses[-2:]) < sum(losses[:2])  # two views take turns
    split = {choice["name"]: choice["split"] for choice in case.bundle.manifest["weights_in_ram"]}
    for index, (layer, old) in enumerate(zip(case.plan.layers, before)):
        changed = old != host.trainer.kernel(index)
        if split[layer.name]:  # RAM holds nothing but the plan
            assert changed.any()
            continue
        keras_layer = fold_batch_norm(case.model).get_layer(layer.name)
        num_channels = keras_layer.kernel.shape[kernel_channel_axis(keras_layer)]
        depthwise = isinstance(keras_layer, keras.layers.DepthwiseConv2D)
        rows = changed.reshape(-1, num_channels).T if depthwise else changed.reshape(num_channels, -1)
        others = np.delete(rows, list(layer.channels), axis=0)
        assert not others.any()


def test_what_was_learned_is_saved_loaded_and_reverted(case, host, tmp_path):
    untrained = HostRuntime(case.bundle)
    host.train()
    learned = host.predict(case.x)
    host.save_delta(tmp_path / "delta", sequence=3)
    untrained.load_delta(tmp_path / "delta")
    np.testing.assert_array_equal(untrained.predict(case.x), learned)
    damaged = bytearray((tmp_path / "delta").read_bytes())
    damaged[60] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(ValueError, match="delta"):
        untrained.load_delta(tmp_path / "damaged")
    with pytest.raises(ValueError, match="not a delta"):
        host.load_from_flash()
    host.save_to_flash()
    again = HostRuntime(case.bundle)
    again.slots.data[:] = host.slots.data  # after a reset
    again.load_from_flash()
    assert again.trainer.save_delta(1) == host.trainer.save_delta(1)
    kernels = [host.trainer.kernel(index) for index in range(host.trainer.num_trained)]
    host.revert()
    assert any((old != host.trainer.kernel(index)).any() for index, old in enumerate(kernels))


def test_training_can_be_stopped_and_shortened(case):
    host = HostRuntime(case.bundle, settings={"iterations": 5})
    host.add_samples(case.x, case.y)
    assert len(host.train(progress=lambda iteration, loss: iteration < 1)) == 2
    assert len(host.train()) == 5


def test_inputs_are_checked(case):
    host = HostRuntime(case.bundle)
    with pytest.raises(ValueError, match="one label per sample"):
        host.add_samples(case.x, case.y[:-1])
    with pytest.raises(ValueError, match=f"Expected labels 0..{WAYS - 1}. Received 0..{WAYS}.*num_classes={WAYS + 1}"):
        host.add_samples(case.x[:2], [0, WAYS])
    with pytest.raises(ValueError, match="samples of shape"):
        host.predict(case.x[..., :1])
    with pytest.raises(ValueError, match=f"x holds {case.x[0].size} values that are NaN"):
        host.predict(np.concatenate([case.x[:1], np.full_like(case.x[:1], np.nan)]))
    with pytest.raises(RuntimeError):
        host.train()


def test_interiors_that_share_a_tensor_are_refused(tmp_path, monkeypatch):
    """Backwards through one block, the next one's input would be written whole where one plane of it is."""

    def overlapping(steps, shapes):
        flows = with_gradient(steps)
        blocks = [step for step in steps if step.depthwise and step.output in flows]
        return {step.output: 1 for step in blocks} | {step.inputs[0]: 2 for step in blocks if step.inputs[0] in flows}

    monkeypatch.setattr(graph_module, "interiors", overlapping)
    model = separable_net()
    plan = plan_of(s1_pointwise=(2, 7))
    with pytest.raises(ValueError, match="in the tables is out of range"):
        HostRuntime(export_tflm(model, plan, calibration=images(model, 8), out=tmp_path / "net", head="prototypes"))


def test_trained_biases_that_are_equal_at_first_are_apart(tmp_path):
    """The converter stores equal constants once, and here both are zero."""
    convs = [keras.layers.Conv2D(4, 1, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((6, 6, 4)), *convs, keras.layers.GlobalAveragePooling2D()])
    plan = plan_of(first=(0, 1), second=(2,))
    host = HostRuntime(
        export_tflm(model, plan, calibration=images(model, 8), out=tmp_path / "net", weights_in_ram="whole", head="prototypes")
    )
    trained = _runtime.tables_info(host._tables.address)["trained"]
    assert len({constant_offset(host.bundle.trainable, each["bias_tensor"]) for each in trained}) == 2


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    """(model, host): convolutions without a bias, a norm after each; each has its channels trained in another way."""
    keras.utils.set_random_seed(4)
    layers = [keras.Input((8, 8, 3))]
    for name in ("whole", "split"):
        layers += [keras.layers.Conv2D(8, 3, use_bias=False, name=name), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
    draw = np.random.default_rng(5)
    for norm in model.layers[1::3]:
        norm.set_weights([draw.uniform(0.5, 1.5, 8) for _ in norm.get_weights()])
    training = TrainingSettings(num_classes=2, max_samples=6, iterations=5, learning_rate=0.01)
    plan = plan_of(whole=tuple(range(8)), split=(1, 4))
    folder = tmp_path_factory.mktemp("normed") / "net"
    host = HostRuntime(export_tflm(model, plan, calibration=images(model, 8), out=folder, training=training, head="prototypes"))
    host.add_samples(*labelled_images(model, per_class=3, classes=2))
    host.train()
    return model, host


def test_device_trains_no_bias_where_keras_has_none(normed, tmp_path):
    """A norm's shift becomes a bias once it is folded; `fit` leaves norms alone, and so does the device."""
    _, host = normed
    host.save_delta(tmp_path / "task.ttd")
    trained = Delta.load(tmp_path / "task.ttd").records[:2]
    assert [(record.name, record.biases) for record in trained] == [("whole", None), ("split", None)]
    assert host.bytes_used() == host.bundle.promised_bytes


def test_biases_of_folded_norms_come_back_to_keras(normed, tmp_path):
    model, host = normed
    host.save_delta(tmp_path / "task.ttd")
    learned = classifier_from_device(model, host.bundle, Delta.load(tmp_path / "task.ttd"))
    x, _ = labelled_images(model, per_class=3, classes=2)
    np.testing.assert_allclose(learned.logits(x), host.predict(x), atol=0.5)  # of logits from -10 to 10: activations in int8


def test_two_runtimes_of_one_bundle_do_not_share_weights(case, host):
    other = HostRuntime(case.bundle)
    other.add_samples(case.x, case.y)
    host.train()
    losses = other.train()
    again = HostRuntime(Bundle.load(case.bundle.path))
    again.add_samples(case.x, case.y)
    assert again.train() == losses


def test_altered_bundle_is_refused(case):
    tables = case.bundle.path / "tables.cpp"
    original = tables.read_bytes()
    try:
        tables.write_bytes(original.replace(b"128", b"127", 1))
        with pytest.raises(ValueError, match="tables.cpp was altered"):
            HostRuntime(case.bundle)
    finally:
        tables.write_bytes(original)


def test_softmax_prediction_before_training_is_the_exported_model(tmp_path):
    case = Case("softmax", tmp_path / "softmax")
    host = HostRuntime(case.bundle)
    whole = convert_int8(fold_batch_norm(case.model), case.calibration)
    model = MicroModel(whole, smallest_arena(whole))
    output = case.bundle.manifest["output"]
    for image, logits in zip(host.quantise(case.x), host.predict(case.x), strict=True):
        expected = np.float32(output["scale"]) * (model(image)[0][0].astype(np.float32) - output["zero_point"])
        np.testing.assert_allclose(logits, expected, rtol=1e-6)
