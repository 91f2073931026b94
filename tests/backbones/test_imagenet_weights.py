"""Where weights are looked for, how they are read, and what is refused; the pickles are made here, without torch."""

import pickle

import numpy as np
import pytest

from keras_tinytrain.backbones import MCUNet, MobileNetV2, imagenet_weights
from keras_tinytrain.backbones.imagenet_weights import find_weights, load_pretrained, read_weights
from tests.backbones.torch_files import Tensor, save_legacy, save_plain, save_zip


def tiny_training_network(model, torch=None):
    """The weights of `model` as the public files hold them, and the float arrays that they stand for."""
    rng = np.random.default_rng(0)
    wrap = Tensor if torch else np.asarray
    arrays = {}

    def layer(name):
        depthwise = name.endswith(".dw")
        shape = tuple(model.get_layer(name).kernel.shape)
        order = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
        shape = (1, 1, *shape) if len(shape) == 2 else shape
        weight = rng.integers(-127, 128, tuple(shape[axis] for axis in order))
        scales, bias = rng.uniform(1e-3, 1e-2, len(weight)).astype(np.float32), rng.integers(-(2**20), 2**20, len(weight))
        x_scale = np.float32(0.02)
        kernel = weight * scales.astype(np.float64)[:, None, None, None]
        arrays[f"{name}.kernel"] = kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        arrays[f"{name}.bias"] = bias * scales.astype(np.float64) * x_scale
        parameters = {"weight": weight.astype(np.float32), "bias": bias.astype(np.int32), "w_scales": scales}
        parameters = {key: wrap(value) for key, value in parameters.items()}
        return {"groups": len(weight) if depthwise else 1, "params": {**parameters, "x_scale": float(x_scale), "y_zero": 0}}

    names = {part.name for part in model.layers if part.weights}
    blocks = []
    for index in range(sum(name.endswith(".dw") for name in names)):
        roles = {"pointwise1": "pw1", "depthwise": "dw", "pointwise2": "pw2"}
        block = {role: layer(f"b{index}.{short}") if f"b{index}.{short}" in names else None for role, short in roles.items()}
        blocks.append({**block, "residual": None})
    network = {"first_conv": layer("stem"), "blocks": blocks, "feature_mix": None, "classifier": layer("classifier")}
    return network, arrays


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_plain])
def test_a_published_pickle_is_read(tmp_path, torch, save):
    model = MCUNet((32, 32, 3), weights=None, include_top=True)
    network, arrays = tiny_training_network(model, torch if save is not save_plain else None)
    save(tmp_path / "net.pkl", network, torch)
    load_pretrained(model, "mcunet-5fps", tmp_path / "net.pkl")
    for layer in model.layers:
        if layer.weights:
            np.testing.assert_allclose(layer.kernel, arrays[f"{layer.name}.kernel"].reshape(layer.kernel.shape), rtol=1e-6)
            np.testing.assert_allclose(layer.bias, arrays[f"{layer.name}.bias"], rtol=1e-6)


def write_npz(path, model, **changes):
    arrays = {}
    for layer in model.layers:
        if layer.weights:
            arrays |= {f"{layer.name}.kernel_f32": np.array(layer.kernel), f"{layer.name}.bias_f32": np.array(layer.bias)}
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})


def test_an_npz_is_read(tmp_path):
    source, target = (MCUNet((32, 32, 3), weights=None) for _ in range(2))
    write_npz(tmp_path / "net.npz", source)
    load_pretrained(target, "mcunet-5fps", tmp_path / "net.npz")
    for expected, received in zip(source.get_weights(), target.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)


def test_mix_layer_keeps_its_values_where_the_file_has_none(tmp_path):
    write_npz(tmp_path / "net.npz", MobileNetV2((32, 32, 3), weights=None))
    model = MobileNetV2((32, 32, 3), weights=tmp_path / "net.npz", mix=True)
    assert np.any(model.get_layer("mix").kernel)


def test_a_file_that_does_not_fit_is_named(tmp_path):
    model = MCUNet((32, 32, 3), weights=None)
    write_npz(tmp_path / "lacks.npz", model, **{"b3.dw.bias_f32": None})
    with pytest.raises(ValueError, match="lacks.npz has no array 'b3.dw.bias_f32'"):
        load_pretrained(model, "mcunet-5fps", tmp_path / "lacks.npz")
    with pytest.raises(ValueError, match="has shape .* the model needs"):
        MobileNetV2((32, 32, 3), width=1.0, weights=_npz_of(tmp_path, MobileNetV2))
    (tmp_path / "text.npz").write_text("no weights")
    with pytest.raises(ValueError, match="text.npz is not an .npz of weights"):
        read_weights(tmp_path / "text.npz")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"state": [1]}))
    with pytest.raises(ValueError, match="other.pkl does not hold a network"):
        read_weights(tmp_path / "other.pkl")


def _npz_of(folder, build):
    write_npz(folder / "own.npz", build((32, 32, 3), weights=None))
    return folder / "own.npz"


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """(KERAS_TINYTRAIN_HOME, Keras' cache), both empty."""
    own, cache = tmp_path / "own", tmp_path / "keras" / "keras_tinytrain"
    own.mkdir()
    cache.mkdir(parents=True)
    monkeypatch.setenv("KERAS_TINYTRAIN_HOME", str(own))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return own, cache


def test_own_folder_comes_before_the_cache(homes):
    own, cache = homes
    (cache / "mcunet-5fps.npz").touch()
    assert find_weights("mcunet-5fps") == cache / "mcunet-5fps.npz"
    (own / "mcunet-5fps.npz").touch()
    assert find_weights("mcunet-5fps") == own / "mcunet-5fps.npz"


def test_imagenet_weights_come_from_the_folder(homes):
    source = MCUNet((32, 32, 3), weights=None)
    write_npz(homes[0] / "mcunet-5fps.npz", source)
    np.testing.assert_array_equal(MCUNet((32, 32, 3)).get_layer("stem").kernel, source.get_layer("stem").kernel)


def test_a_pickle_with_another_sha256_is_refused(homes):
    (homes[0] / "mcunet-5fps.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="not the published file, whose sha256 is 4de2e06e"):
        find_weights("mcunet-5fps")


def test_a_download_is_checked_and_kept(homes, monkeypatch):
    asked = {}

    def get_file(file_name, url, **options):
        asked.update(file_name=file_name, url=url, **options)
        return str(homes[1] / file_name)

    monkeypatch.setattr(imagenet_weights.keras.utils, "get_file", get_file)
    assert find_weights("proxyless-w0.3") == homes[1] / "proxyless-w0.3.pkl"
    assert asked["url"].startswith("https://") and asked["url"].endswith("/proxyless-w0.3.pkl")
    assert asked["file_hash"].startswith("0da06d02") and asked["cache_subdir"] == "keras_tinytrain"


def test_without_network_the_error_says_where_to_put_the_file(homes, monkeypatch):
    def get_file(*_, **__):
        raise Exception("URL fetch failure")  # as Keras does  # noqa: TRY002

    monkeypatch.setattr(imagenet_weights.keras.utils, "get_file", get_file)
    with pytest.raises(OSError, match="URL fetch failure.*KERAS_TINYTRAIN_HOME.*weights=None"):
        MCUNet()


def test_real_files_are_those_of_the_pinned_pickles(shared_data):
    import json

    for name, sha256 in imagenet_weights._SHA256.items():
        meta = json.loads(str(np.load(shared_data / "weights" / f"{name}.npz")["meta_json"]))
        assert meta["source_sha256"] == sha256
        assert meta["commit"] in imagenet_weights._URL and meta["path"] in imagenet_weights._URL.format(name)
