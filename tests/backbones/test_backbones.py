"""The ImageNet backbones: shapes and names; and, with the real weights, features, Fisher scores and plans."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from fisher_reference import by_the_formula, float64_copy

from keras_tinytrain.backbones import MCUNet, MobileNetV2, ProxylessNASNet, preprocess_input
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.choose.fisher import fisher_information, potential
from keras_tinytrain.choose.strategies import STRATEGIES, find_strategy, make_task
from keras_tinytrain.data import resize
from keras_tinytrain.fewshot.prototypes import class_prototypes, cosine_logits
from keras_tinytrain.model.fold import fold_batch_norm
from keras_tinytrain.plan import Budget

NETWORKS = {"mcunet-5fps": MCUNet, "mbv2-w0.35": MobileNetV2, "proxyless-w0.3": ProxylessNASNet}
# The paper's mean memory (MiB) and compute of TinyTrain.
PAPER_BUDGETS = {"mcunet-5fps": ("0.89MB", 6.51e6), "mbv2-w0.35": ("1.06MB", 4.90e6), "proxyless-w0.3": ("0.78MB", 5.00e6)}


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def trained(shared_data, name):
    """The network with its ImageNet weights and classifier."""
    return NETWORKS[name](weights=shared_data / "weights" / f"{name}.npz", include_top=True)


@pytest.fixture(scope="module")
def golden(shared_data, name):
    return np.load(shared_data / "golden" / f"golden_{name}.npz")


@pytest.fixture(scope="module")
def task(shared_data, trained):
    """(backbone, pseudo-queries, loss): five traffic signs, five samples each, shifted; prototypes detached."""
    backbone = keras.Model(trained.input, trained.get_layer("pool").output, name=trained.name)
    signs = np.load(shared_data / "domains" / "traffic_sign_gtsrb_dev.npz")
    chosen = [np.flatnonzero(signs["labels"] == label)[:5] for label in np.unique(signs["labels"])[:5]]
    x = preprocess_input(resize(signs["images"][np.concatenate(chosen)], 128, 128))
    y = np.repeat(np.arange(5), 5)
    prototypes = tf.stop_gradient(class_prototypes(backbone(x), y, 5))

    def loss(embeddings, indices):
        logits = cosine_logits(embeddings, tf.cast(prototypes, embeddings.dtype))
        return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y[indices], logits))

    return backbone, np.roll(x, (4, -6), (1, 2)), loss


def test_features_equal_the_golden_ones(trained, golden):
    features = keras.Model(trained.input, trained.get_layer("pool").output)
    images = preprocess_input(golden["images_uint8"])
    np.testing.assert_allclose(features(images), golden["float_features_f32"], atol=1e-4, rtol=0)


def test_classifier_agrees_with_the_original_quantised_one(trained, golden):
    logits = np.asarray(trained(preprocess_input(golden["images_uint8"])))
    np.testing.assert_allclose(logits, golden["float_logits_f32"], atol=1e-4, rtol=0)
    np.testing.assert_array_equal(logits.argmax(axis=1), golden["orig_logits_int8"].argmax(axis=1))


def test_layers_are_those_of_the_original(shared_data, trained, name):
    original = json.loads(str(np.load(shared_data / "weights" / f"{name}.npz")["layers_json"]))
    names = [layer.name for layer in trained.layers]
    assert [entry["name"] for entry in original] == [layer for layer in names if not layer.endswith((".relu", ".pad", "image"))]
    for entry in original:
        if entry["act"] == "relu6":
            assert f"{entry['name']}.relu" in names


def assert_same_information(received, expected):
    for name, delta in expected.items():
        assert potential(received[name]) == pytest.approx(potential(delta), rel=1e-8)
        large = delta > delta.max() / 100
        np.testing.assert_allclose(received[name][large], delta[large], rtol=1e-6)


@pytest.mark.parametrize("name", ["mcunet-5fps"], indirect=True)
def test_fisher_equals_a_loop_over_samples_in_float64(task):
    """All samples, all layers of the last six blocks; network, products and sums of the loop in float64."""
    backbone, x, loss = task
    names = [row.name for row in make_task(*task, Budget(), kinds="all").rows]
    assert len(names) >= 18
    expected = by_the_formula(float64_copy(backbone), x.astype(np.float64), loss, names)
    assert_same_information(fisher_information(backbone, x, loss, names), expected)


def test_plan_of_a_real_task_is_within_the_papers_budget(task, name):
    memory, macs = PAPER_BUDGETS[name]
    described = make_task(*task, Budget(memory, macs), accounting=paper_cost.PaperAccounting())
    plan = find_strategy("fisher")(described)
    choice = paper_cost.num_channels(plan)
    assert paper_cost.PaperAccounting().memory_bytes(described.table, choice) <= Budget(memory).memory_bytes
    assert paper_cost.backward_macs(described.table, choice) <= macs
    assert paper_cost.num_trained_weights(described.table, choice) > 6000
    assert "taken whole" in plan.explain()


def test_every_strategy_makes_a_plan_on_a_backbone(task, name):
    memory, macs = PAPER_BUDGETS[name]
    described = make_task(*task, Budget(memory, macs), accounting=paper_cost.PaperAccounting())
    for strategy_name, strategy in STRATEGIES.items():
        if strategy_name.startswith("sparse_update"):
            continue
        plan = strategy(described)
        assert plan == strategy(described)
        if strategy_name not in ("full", "last_layer"):
            assert paper_cost.backward_macs(described.table, paper_cost.num_channels(plan)) <= macs


@pytest.mark.parametrize(("build", "features", "side"), [(MCUNet, 160, 64), (MobileNetV2, 112, 96), (ProxylessNASNet, 96, 160)])
def test_any_input_size(build, features, side):
    model = build((side, side, 3), weights=None)
    assert model.output_shape == (None, features)
    assert np.isfinite(model(np.zeros((1, side, side, 3), np.float32))).all()


def num_kernel_weights(model):
    return sum(np.prod(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel"))


def test_mix_layer_and_width():
    assert MobileNetV2(weights=None, mix=True).output_shape == (None, 448)
    assert ProxylessNASNet(weights=None, mix=True).output_shape == (None, 384)
    assert MobileNetV2(weights=None, width=1.0).output_shape == (None, 320)
    wide = MobileNetV2((32, 32, 3), weights=None, width=1.0, mix=True)
    published = keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False)
    assert num_kernel_weights(wide) == num_kernel_weights(published)


def test_is_canonical():
    model = MCUNet(weights=None)
    folded = fold_batch_norm(model)
    assert [layer.name for layer in folded.layers] == [layer.name for layer in model.layers]


def test_preprocess_input():
    assert preprocess_input(np.array([0, 128, 255], np.uint8)).tolist() == pytest.approx([-128 / 127.5, 0, 127 / 127.5])
