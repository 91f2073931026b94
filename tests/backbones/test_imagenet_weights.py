"""Where weights are looked for, how they are read, and what is refused; the pickles are made here, without torch."""

import collections
import io
import os
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pytest

from keras_tinytrain.backbones import MCUNet, MobileNetV2, imagenet_weights
from keras_tinytrain.backbones.imagenet_weights import find_weights, load_pretrained, read_weights
from keras_tinytrain.backbones.safe_pickle import load_pickle


@pytest.fixture
def torch(monkeypatch):
    """A stand-in whose names are those that torch.save writes."""

    def rebuild(*arguments):
        raise AssertionError("called")

    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "IntStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", "_rebuild_tensor_v2", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, module._utils = rebuild, utils
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module


class Tensor:
    """Pickles as torch's tensors do: a storage by reference, offset, shape, strides."""

    def __init__(self, array, *, offset=0, strides=None):
        self.array, self.offset, self.strides = np.ascontiguousarray(array), offset, strides


class TorchPickler(pickle.Pickler):
    def __init__(self, file, torch):
        super().__init__(file, protocol=2)
        self.torch, self.storages = torch, []

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray):
            return None
        self.storages.append(value)
        kind = self.torch.FloatStorage if value.dtype == np.float32 else self.torch.IntStorage
        return ("storage", kind, str(len(self.storages) - 1), "cpu", value.size)

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        strides = value.strides or tuple(s // value.array.itemsize for s in value.array.strides)
        arguments = (value.array.ravel(), value.offset, value.array.shape, strides, False, collections.OrderedDict())
        return self.torch._utils._rebuild_tensor_v2, arguments


def save_zip(path, content, torch):
    buffer = io.BytesIO()
    pickler = TorchPickler(buffer, torch)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def save_legacy(path, content, torch):
    with open(path, "wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(head, file, protocol=2)
        pickler = TorchPickler(file, torch)
        pickler.dump(content)
        pickle.dump([str(key) for key in range(len(pickler.storages))], file, protocol=2)
        file.writelines(struct.pack("<q", array.size) + array.tobytes() for array in pickler.storages)


def save_plain(path, content, torch):
    path.write_bytes(pickle.dumps(content))


SAVERS = {"zip": save_zip, "legacy": save_legacy}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_tensors_are_read(tmp_path, torch, save):
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[7, 8]], np.int32)
    save(tmp_path / "net.pkl", {"a": [Tensor(first), None], "b": (Tensor(second), "text", 1.5)}, torch)
    read = load_pickle(tmp_path / "net.pkl")
    np.testing.assert_array_equal(read["a"][0], first)
    np.testing.assert_array_equal(read["b"][0], second)
    assert read["b"][1:] == ("text", 1.5) and read["a"][1] is None


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_arrays_are_read(tmp_path, protocol):
    arrays = {"f": np.arange(6.0).reshape(2, 3), "i": np.array([-1, 2], np.int8), "s": np.float32(0.5), "t": np.eye(3)[::2].T}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(collections.OrderedDict(arrays), protocol=protocol))
    read = load_pickle(tmp_path / "net.pkl")
    assert list(read) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(np.asarray(read[key]), array)


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = {
    "os.system": lambda: Calls(os.system, "true"),
    "builtins.eval": lambda: Calls(eval, "1"),
    "builtins.getattr": lambda: Calls(getattr, "text", "upper"),
    "builtins.exec": lambda: {"weights": [Calls(exec, "raise SystemExit")]},
    "numpy.load": lambda: Calls(np.load, "x.npy", None, True),
    "numpy.ndarray of objects": lambda: np.array([Calls(os.system, "true")], object),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("in_zip", [False, True])
def test_a_hostile_pickle_is_refused(tmp_path, case, in_zip, tried):
    path, content = tmp_path / "net.pkl", pickle.dumps(HOSTILE[case]())
    path.write_bytes(content)
    if in_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    with pytest.raises(ValueError, match="net.pkl cannot be read safely: "):
        load_pickle(path)
    tried("hostile pickle", 1, 1)


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize(
    "bad", [{"offset": 1}, {"offset": -1}, {"strides": (3, 2)}, {"strides": (10**9, 1)}, {"strides": (-3, 1)}]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, torch, save, bad, tried):
    save(tmp_path / "net.pkl", [Tensor(np.zeros((2, 3), np.float32), **bad)], torch)
    with pytest.raises(ValueError, match="beyond the end of its storage"):
        load_pickle(tmp_path / "net.pkl")
    tried("hostile pickle", 1, 1)


@pytest.mark.parametrize("bad", [{"offset": np.int64(2**63 - 1)}, {"strides": (np.int64(2**62), np.int64(2**62))}])
def test_sizes_that_overflow_numpys_integers_are_refused(tmp_path, torch, bad, tried):
    save_legacy(tmp_path / "net.pkl", [Tensor(np.zeros((2, 2), np.float32), **bad)], torch)
    with pytest.raises(ValueError, match="beyond the end of its storage"):
        load_pickle(tmp_path / "net.pkl")
    tried("hostile pickle", 1, 1)


ENDLESS = {  # what would take more memory or depth than its few bytes tell
    "memo": b"\x80\x04Nr\xff\xff\xff\xff.",
    "bytearray": b"\x80\x05\x96" + (2**50).to_bytes(8, "little") + b".",
    "lists in lists": b"\x80\x04" + b"](" * 5000 + b"e" * 5000 + b".",
    "itself": b"\x80\x04]q\x00h\x00a.",
    "copies": b"\x80\x04](X"
    + (9000).to_bytes(4, "little")
    + b"a" * 9000
    + b"q\x010"
    + b"c_codecs\nencode\n(h\x01X\x06\x00\x00\x00latin1tR" * 90
    + b"e.",
    "key": b"\x80\x04}K\x01K\x02\x86Ns.",
    "legacy storage": None,
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_pickle_that_wants_more_than_it_holds_is_refused(tmp_path, torch, case, tried):
    path = tmp_path / "net.pkl"
    if ENDLESS[case] is None:
        save_legacy(path, [Tensor(np.zeros(4, np.float32))], torch)
        path.write_bytes(path.read_bytes().replace(b"K\x04", b"J\xff\xff\xff\x7f", 1))
    else:
        path.write_bytes(ENDLESS[case])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="net.pkl cannot be read safely: ") as error:
            load_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23 and len(str(error.value)) < 500
    finally:
        tracemalloc.stop()
    tried("hostile pickle", 1, 1)


def test_a_packed_storage_of_more_than_the_file_is_refused(tmp_path, torch):
    save_zip(tmp_path / "net.pkl", [Tensor(np.zeros(1_000_000, np.float32))], torch)
    with (
        zipfile.ZipFile(tmp_path / "net.pkl") as whole,
        zipfile.ZipFile(tmp_path / "packed.pkl", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="more memory than a file of its size can fill"):
        load_pickle(tmp_path / "packed.pkl")


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_any_cut_is_refused(tmp_path, torch, save, tried):
    save(tmp_path / "net.pkl", [Tensor(np.ones((2, 3), np.float32)), "end"], torch)
    whole = (tmp_path / "net.pkl").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut.pkl").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut.pkl cannot be read safely"):
            load_pickle(tmp_path / "cut.pkl")
    tried("pickle cut at a byte", len(whole), len(whole))


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
