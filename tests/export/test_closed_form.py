"""What an export with a closed-form head asks for and writes: maps, estimate, sketch, manifest; and what it refuses."""

import keras
import numpy as np
import pytest
from models import images, labelled_images, separable_net, sequence_net, tiny_net

from keras_tinytrain.choose.sram import DeviceAccounting
from keras_tinytrain.cli import main
from keras_tinytrain.delta import Delta
from keras_tinytrain.export import Bundle, TrainingSettings, export_tflm
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.model.layers import layer_table
from keras_tinytrain.model.maps import find_maps, with_maps
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime
from tests.export.test_bundle import compile_sketch

WAYS, SHOTS = 3, 2
TRAINING = TrainingSettings(num_classes=WAYS, max_samples=WAYS * SHOTS)


def backbone():
    net = tiny_net()
    return keras.Model(net.input, net.get_layer("pool").output, name="backbone")


def normalised_net():
    """Blocks that end in BatchNorm, in a dropout and in a swish, which is several operators."""
    keras.utils.set_random_seed(4)
    x = image = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    for index, end in enumerate(("dropout", "swish", "norm")):
        y = keras.layers.Conv2D(16, 1, use_bias=False, name=f"b{index}_expand")(x)
        y = keras.layers.BatchNormalization(name=f"b{index}_expand_norm")(y)
        y = keras.layers.ReLU(6.0, name=f"b{index}_relu")(y)
        y = keras.layers.DepthwiseConv2D(3, padding="same", name=f"b{index}_depthwise")(y)
        x = keras.layers.Conv2D(8, 1, name=f"b{index}_project")(y)
        if end == "dropout":
            x = keras.layers.Dropout(0.2, name="drop")(x)
        elif end == "swish":
            x = keras.layers.Activation("swish", name="swish")(x)
        else:
            x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D(name="top")(x), name="normalised_net")


def two_resolutions_net():
    """A plain network, with pooling between its convolutions and a join of two branches."""
    keras.utils.set_random_seed(6)
    x = image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="one")(x)
    x = keras.layers.MaxPooling2D(2, name="max")(x)
    left = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="left")(x)
    right = keras.layers.Conv2D(4, 1, activation="relu", name="right")(x)
    x = keras.layers.Concatenate(name="join")([left, right])
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="two")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(image, keras.layers.Dense(7, name="embedding")(x), name="two_resolutions")


NETS = {  # model, trained layer, where the features are kept
    "bottlenecks": (backbone, "b3_conv", "ram"),
    "separable": (separable_net, "s4_pointwise", "flash"),
    "time": (sequence_net, "second", "flash"),
    "norms": (normalised_net, "b2_project", "flash"),
    "plain": (two_resolutions_net, "two", "ram"),
}


REJECTING = ("bottlenecks", "separable")  # bundles that tell samples of no class


def export(model, layer, out, **options):
    plan = Plan((LayerPlan(layer, (0, 1, 2)),))
    return export_tflm(model, plan, calibration=images(model, 8), out=out, head="ridge", training=TRAINING, **options)


@pytest.mark.parametrize("name", NETS)
def test_maps_of_any_network_are_keras_maps(name, tmp_path):
    build, layer, features = NETS[name]
    model = build()
    rate = 0.05 if name in REJECTING else 0.0
    bundle = export(model, layer, tmp_path / "bundle", features=features, reject_unknown=rate)
    host = HostRuntime(Bundle.load(bundle.path))
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    host.add_samples(x, y)
    host.solve()
    assert host.bytes_used() == bundle.promised_bytes
    canonical = fold_batch_norm(model)
    table = layer_table(canonical)
    keras_rows, sizes = with_maps(canonical, find_maps(table))
    assert list(sizes) == bundle.manifest["closed_form"]["parts"]
    tensors = host._tables.array(host._tables.tables.tensors, "Tensor", host._tables.tables.num_tensors)
    parts = [tensors[index] for index in host._tables.map_tensors()] + [tensors[len(tensors) - 1]]
    scales, zeros = (np.repeat([getattr(part, field) for part in parts], sizes) for field in ("scale", "zero_point"))
    rows = np.stack([host.trainer.row(i) for i in range(len(x))])
    error = np.abs(scales * (rows - zeros) - keras_rows.predict(x, verbose=0))
    assert (error / scales).mean() < 4  # steps of int8, through all layers
    kept = {"num_samples": WAYS * SHOTS, "num_classes": WAYS, "features": features}
    accounting = DeviceAccounting(**kept, closed_form=True, rejects=name in REJECTING)
    estimate = accounting.memory_bytes(table, {layer: 3})
    promised = bundle.promised_bytes["sram"]["total"]
    # The estimate counts no causal padding, with any head, and no map in a stored sample.
    if name != "time" and not bundle.manifest["closed_form"]["stored_maps"]:
        assert promised <= estimate < 1.1 * promised + 512


def test_sketch_solves_over_the_serial_port(tmp_path):
    for features in ("ram", "flash"):
        bundle = export(backbone(), "b3_conv", tmp_path / features, features=features)
        learner = (bundle.path / "sketch" / "learner.h").read_text()
        assert "closed_form.Init(&trainer, kMaps" in learner
        compile_sketch(bundle, tmp_path)


def test_bundle_without_the_head_says_nothing_of_it(tmp_path):
    model = backbone()
    plan = Plan((LayerPlan("b3_conv", (0, 1, 2)),))
    bundle = export_tflm(
        model, plan, calibration=images(model, 8), out=tmp_path / "bundle", training=TRAINING, head="prototypes"
    )
    assert "closed_form" not in bundle.manifest and "closed_form" not in bundle.promised_bytes["sram"]
    for file in ("tables.cpp", "tables.h", "sketch/learner.h"):
        assert "Maps" not in (bundle.path / file).read_text() and "losed" not in (bundle.path / file).read_text()


def test_commands_plan_and_export_it(tmp_path):
    model = backbone()
    x, y = labelled_images(model, per_class=SHOTS, classes=WAYS)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "task.npz", x=x, y=y)
    files = [str(tmp_path / "model.keras"), "--samples", str(tmp_path / "task.npz")]
    options = ["--head", "ridge", "--reject-unknown", "0.1"]
    assert main(["plan", *files, *options, "--out", str(tmp_path / "plan.json")]) == 0
    device = Plan.load(tmp_path / "plan.json").device
    assert (device.head, device.reject_unknown) == ("ridge", 0.1)
    out = str(tmp_path / "bundle")
    files = [files[0], "--calibration", files[2], "--plan", str(tmp_path / "plan.json")]
    assert main(["export", *files, "--out", out]) == 0
    host = HostRuntime(out)
    host.add_samples(x, y)
    host.solve()
    records = {record.name for record in Delta.from_bytes(host.trainer.save_delta()).records}
    assert records >= {"ridge", "original_ridge", "known", "threshold"}
