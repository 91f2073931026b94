"""A model of tensorflow-model-optimization is exported as it is: its own ranges are the scales, and its layers are trained."""

import numpy as np
import pytest

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export.tflite import flatbuffer as fb
from keras_tinytrain.export.tflite import qat
from keras_tinytrain.export.tflite.cut import find_trained
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run import HostRuntime

tfmot = pytest.importorskip("tensorflow_model_optimization", reason="pip install keras-tinytrain[tfmot]")
tf_keras = pytest.importorskip("tf_keras", reason="pip install keras-tinytrain[tfmot]")
layers = tf_keras.layers
WAYS = 3
PLAN = Plan((LayerPlan("expand", (0, 9)), LayerPlan("project_1", (2, 5)), LayerPlan("head", (0, 1, 2))))


@pytest.fixture(scope="module")
def samples():
    """One pattern a class, plus noise."""
    rng = np.random.default_rng(0)
    y = np.arange(36) % WAYS
    x = rng.uniform(-1, 1, (WAYS, 8, 8, 3))[y] + rng.normal(0, 0.2, (36, 8, 8, 3))
    return np.clip(x, -1, 1).astype(np.float32), y


@pytest.fixture(scope="module")
def model(samples):
    """BatchNorm and ReLU after convolutions, a residual, names that end in numbers; three steps of training."""
    tf_keras.utils.set_random_seed(0)
    image = tf_keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0, name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    y = layers.Conv2D(16, 1, use_bias=False, name="expand")(x)
    y = layers.ReLU(6.0, name="expand_relu")(layers.BatchNormalization(name="expand_norm")(y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)
    y = layers.ReLU(6.0, name="depthwise_relu")(layers.BatchNormalization(name="depthwise_norm")(y))
    y = layers.BatchNormalization(name="project_norm")(layers.Conv2D(8, 1, use_bias=False, name="project")(y))
    x = layers.Add(name="add")([x, y])
    x = layers.Conv2D(6, 1, activation="relu", name="project_1")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(WAYS, activation="softmax", name="head")(x)
    model = tfmot.quantization.keras.quantize_model(tf_keras.Model(image, x, name="aware"))
    model.compile(tf_keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    model.fit(*samples, batch_size=12, epochs=1, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def whole(model):
    return qat.convert_quantize_aware(model)


@pytest.fixture(scope="module", autouse=True)
def converted(model, whole):
    """Answers the model's conversion, which takes most of an export's time, from memory."""
    convert = qat.convert_quantize_aware
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qat, "convert_quantize_aware", lambda asked: whole if asked is model else convert(asked))
        yield


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    training = TrainingSettings(iterations=30, max_samples=36, learning_rate=0.05)
    return export_tflm(model, PLAN, out=tmp_path_factory.mktemp("qat") / "aware", head="softmax", training=training)


def learned_scale(model, layer, prefix):
    """(maximum - minimum) / 255 of what a quantizer of the model holds."""
    values = {
        weight.name.split("/")[-1].split(":")[0]: float(weight.numpy())
        for weight in model.get_layer(layer).weights
        if weight.shape.rank == 0
    }
    return (values[f"{prefix}_max"] - values[f"{prefix}_min"]) / 255


def scale_of(whole, layer):
    """Scale of the tensor whose last layer is `layer`."""
    parsed = fb.read_model(whole)
    (index,) = [i for i in range(len(parsed.subgraphs[0].tensors)) if fb.tensor_name(parsed, i).split(";")[0] == layer]
    return fb.quantisation(parsed, index)[0][0]


@pytest.mark.parametrize(
    ("tensor", "layer", "prefix"),
    [
        ("image", "quantize_layer", "quantize_layer"),
        ("stem_relu", "quant_stem_relu", "output"),
        ("expand_relu", "quant_expand_relu", "output"),
        ("depthwise_relu", "quant_depthwise_relu", "output"),
        ("project_norm", "quant_project_norm", "output"),
        ("add", "quant_add", "output"),
        ("project_1", "quant_project_1", "post_activation"),
        ("pool", "quant_pool", "output"),
    ],
)
def test_ranges_are_those_of_the_training(model, whole, tensor, layer, prefix):
    assert scale_of(whole, tensor) == pytest.approx(learned_scale(model, layer, prefix), rel=1e-5)


def test_input_and_output_are_in_the_manifest(model, bundle):
    assert bundle.input["scale"] == pytest.approx(learned_scale(model, "quantize_layer", "quantize_layer"), rel=1e-5)
    assert bundle.manifest["output"]["scale"] == pytest.approx(learned_scale(model, "quant_head", "pre_activation"), rel=1e-5)


def test_layers_of_the_plan_are_found_by_name(model, whole):
    names = ["stem", "expand", "depthwise", "project", "project_1", "head"]
    parsed = fb.read_model(whole)
    found = find_trained(parsed, model, Plan(tuple(LayerPlan(name, (0,)) for name in names)))
    kinds = [fb.operator_name(parsed, parsed.subgraphs[0].operators[index]) for index in found.values()]
    assert list(found) == names
    assert kinds == ["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D", "FULLY_CONNECTED"]


def test_dense_is_per_tensor_and_softmax_is_left_away(bundle):
    parsed = fb.read_model(bundle.trainable)
    assert fb.operator_names(bundle.trainable).isdisjoint({"SOFTMAX", "QUANTIZE", "DEQUANTIZE"})
    (dense,) = [o for o in parsed.subgraphs[0].operators if fb.operator_name(parsed, o) == "FULLY_CONNECTED"]
    assert len(fb.quantisation(parsed, dense.inputs[1])[0]) == 1


def test_the_host_computes_what_the_model_computes_and_learns(model, bundle, samples):
    x, y = samples
    host = HostRuntime(bundle)
    logits = host.predict(x)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, model.predict(x, verbose=0), atol=0.03)
    host.add_samples(x, y)
    losses = host.train()
    assert losses[-1] < 0.9 * losses[0]
    assert host.bytes_used() == bundle.promised_bytes


def test_what_is_no_quantisation_aware_model_is_refused(model, bundle, tmp_path):
    plain = tf_keras.Sequential([tf_keras.Input((4,)), layers.Dense(2, name="dense")])
    with pytest.raises(ValueError, match="a tf_keras model without quantizers"):
        export_tflm(plain, Plan((LayerPlan("dense", (0,)),)), out=tmp_path / "plain")
    with pytest.raises(ValueError, match="ends in a softmax"):
        export_tflm(model, PLAN, out=tmp_path / "aware")
    with pytest.raises(ValueError, match="has no layer 'nowhere'. Its layers: .*'stem'"):
        export_tflm(model, Plan((LayerPlan("nowhere", (0,)),)), out=tmp_path / "aware", head="softmax")
    with pytest.raises(ValueError, match="'add' is a Add; layers that can be trained: Conv2D"):
        export_tflm(model, Plan((LayerPlan("add", (0,)),)), out=tmp_path / "aware", head="softmax")
    assert not list(tmp_path.iterdir())
