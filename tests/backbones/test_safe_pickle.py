"""Pickles are read without running them: what torch.save and NumPy write, and nothing that a stranger may put in its place."""

import collections
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_tinytrain.backbones.safe_pickle import load_pickle
from tests.backbones.torch_files import SAVERS, Tensor, save_legacy, save_zip


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
