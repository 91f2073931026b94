"""NanoNet: names, size, folding, stored weights, and whether they tell glyphs apart."""

import json

import keras
import numpy as np
import pytest

from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.backbones.small_weights import WEIGHTS_FOLDER, load_weights, save_weights
from keras_tinytrain.data import load_npz
from keras_tinytrain.metatrain.evaluation import prototype_accuracy


@pytest.fixture(scope="module")
def model():
    return NanoNet()


def parameters(model, role):
    return sum(int(np.prod(v.shape)) for v in model.weights if v.path.endswith(role))


def test_names_shapes_and_size(model):
    names = [layer.name for layer in model.layers]
    assert names[1:8] == ["stem", "stem.relu", "b1.pw1", "b1.pw1.relu", "b1.dw", "b1.dw.relu", "b1.pw2"]
    assert [name for name in names if name.endswith(".add")] == ["b3.add", "b5.add"] and names[-1] == "pool"
    assert model.output_shape == (None, 96)
    assert parameters(model, "kernel") + 4 * parameters(model, "bias") < 150_000  # bytes in int8 with int32 biases


def test_convolutions_are_linear_and_relus_layers_of_their_own(model):
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            assert layer.activation is keras.activations.linear and layer.use_bias
    assert model.get_layer("b1.dw.relu").max_value == 6


def test_training_form_has_the_same_layers_and_batch_norms():
    names = [layer.name for layer in NanoNet(weights=None, batch_norm=True).layers]
    assert [name for name in names if not name.endswith(".bn")] == [layer.name for layer in NanoNet(weights=None).layers]
    assert names.count("b7.dw.bn") == 1 and sum(name.endswith(".bn") for name in names) == 22


def test_weights_round_trip_as_float16(tmp_path):
    first, second = NanoNet(weights=None), NanoNet(weights=None)
    save_weights(first, tmp_path / "w.npz")
    load_weights(second, tmp_path / "w.npz")
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a.astype(np.float16), b)
    assert NanoNet((28, 40, 1), weights=tmp_path / "w.npz").output_shape == (None, 96)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="batch_norm=True needs weights=None"):
        NanoNet(batch_norm=True)
    with pytest.raises(ValueError, match=r"'stem/kernel' in .* has shape \(3, 3, 1, 16\), the model needs \(3, 3, 3, 16\)"):
        NanoNet((32, 32, 3))
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="has no array 'stem/kernel'"):
        NanoNet(weights=tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        NanoNet(weights=tmp_path / "absent.npz")


def test_shipped_files():
    assert (WEIGHTS_FOLDER / "nano_omniglot.npz").stat().st_size < 400_000
    provenance = json.loads((WEIGHTS_FOLDER / "nano_omniglot.json").read_text())
    assert {"command", "data_source", "versions", "prototypes_5_way_5_shot"} <= set(provenance) and "MIT" in provenance[
        "data_source"
    ]


def test_every_channel_varies_over_data(model, shared_data):
    """A constant channel has no range, and int8 calibration needs one."""
    images = load_npz(shared_data / "omniglot" / "omniglot_evaluation_dev.npz").images[::20]
    probe = keras.Model(model.input, [layer.output for layer in model.layers[1:]])
    for layer, values in zip(model.layers[1:], probe.predict(images, verbose=0)):
        spread = values.reshape(-1, values.shape[-1]).std(axis=0)
        assert spread.min() > 1e-3, f"{layer.name}: channels {np.flatnonzero(spread <= 1e-3)} are constant"


def test_prototypes_tell_unseen_glyphs_apart(model, shared_data):
    domain = load_npz(shared_data / "omniglot" / "omniglot_evaluation_dev.npz")
    accuracy, half_width = prototype_accuracy(model, domain, num_episodes=50)
    assert accuracy > 0.97 and half_width < 0.01
