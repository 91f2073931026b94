"""GestureNet: size, layout, stored weights, and whether they tell gestures apart that they never saw."""

import json

import keras
import numpy as np
import pytest

from keras_tinytrain.backbones import GestureNet
from keras_tinytrain.backbones.small_network import folded_network
from keras_tinytrain.backbones.small_weights import WEIGHTS_FOLDER, save_weights
from keras_tinytrain.data import load_npz
from keras_tinytrain.metatrain.evaluation import prototype_accuracy
from keras_tinytrain.model.layers import layer_table


@pytest.fixture(scope="module")
def model():
    return GestureNet()


def test_layout_and_size(model):
    table = layer_table(model)
    assert model.input_shape == (None, 119, 1, 6) and model.output_shape == (None, 64)
    kernels = sum(int(np.prod(v.shape)) for v in model.weights if v.path.endswith("kernel"))
    assert kernels == 54_120 and sum(row.macs for row in table.rows) == 1_234_800
    assert all(layer.output.shape[2] == 1 for layer in model.layers if len(layer.output.shape) == 4)  # time is the height


def test_folding_keeps_features():
    trained = GestureNet(weights=None, batch_norm=True)
    x = np.random.default_rng(0).normal(size=(2, 119, 1, 6)).astype(np.float32)
    np.testing.assert_allclose(folded_network(trained, GestureNet)(x), trained(x), rtol=1e-5, atol=1e-6)


def test_weights_survive_saving(model, tmp_path):
    save_weights(model, tmp_path / "w.npz")
    for ours, theirs in zip(model.get_weights(), GestureNet(weights=tmp_path / "w.npz").get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    assert (WEIGHTS_FOLDER / "gesture_invented.npz").stat().st_size < 120_000


def test_gestures_are_told_apart(model, shared_data):
    """As the weights' own provenance says, to a tenth of a point; more than untrained networks reach in the mean."""
    provenance = json.loads((WEIGHTS_FOLDER / "gesture_invented.json").read_text())
    told = provenance["prototypes_5_way_5_shot"]["nano33ble_gesture_dev"]
    domain = load_npz(shared_data / "domains" / "nano33ble_gesture_dev.npz")
    mean, half = prototype_accuracy(model, domain, num_episodes=200)
    assert mean == pytest.approx(told["accuracy"], abs=1e-3)
    assert mean - half > np.mean([untrained_accuracy(domain, seed) for seed in range(5)])


def untrained_accuracy(domain, seed):
    keras.utils.set_random_seed(seed)
    return prototype_accuracy(GestureNet(weights=None), domain, num_episodes=20)[0]
