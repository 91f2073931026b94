"""Labelled samples from .npz files and folders, and what is said of files that cannot be used."""

import keras
import numpy as np
import pytest

from keras_tinytrain.data.samples import load_samples

SHAPE = (6, 5, 1)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def good():
    rng = np.random.default_rng(0)
    return {"x": rng.uniform(size=(8, *SHAPE)).astype(np.float32), "y": np.arange(8) % 3}


def test_npz_under_either_pair_of_names(tmp_path):
    arrays = good()
    for names in (("x", "y"), ("images", "labels")):
        x, y = load_samples(write(tmp_path / "task.npz", **dict(zip(names, arrays.values()))), SHAPE)
        assert np.array_equal(x, arrays["x"]) and np.array_equal(y, arrays["y"]) and x.dtype == np.float32


def test_scale_and_offset(tmp_path):
    pixels = np.full((2, *SHAPE), 255, np.uint8)
    x, _ = load_samples(write(tmp_path / "task.npz", x=pixels, y=np.array([0, 1])), SHAPE, scale=2 / 255, offset=-1)
    np.testing.assert_allclose(x, 1.0, atol=1e-6)


def test_a_folder_of_class_folders(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index in range(2):
            image = keras.utils.array_to_img(np.full((6, 5, 1), 100 * label + 50), scale=False)
            image.save(tmp_path / name / f"{index}.png")
    x, y = load_samples(tmp_path, SHAPE)
    assert y.tolist() == [0, 0, 1, 1]
    assert x[:2].max() == 50 and x[2:].min() == 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((8, 6, 6, 1))}, r"shape \(6, 6, 1\), the model expects \(6, 5, 1\)"),
        ({"y": np.zeros(8, int)}, "all 8 samples have label 0"),
        ({"y": np.array([0, 1, 2, 4] * 2)}, r"labels must be 0..K-1 .* Received \[0, 1, 2, 4\]"),
        ({"y": np.array([-1, 0] * 4)}, "labels must be 0..K-1"),
        ({"y": np.zeros(8)}, "one integer label"),
        ({"y": np.zeros(7, int)}, "one integer label for each of 8"),
        ({"x": np.full((8, *SHAPE), np.nan)}, "240 values are NaN"),
    ],
)
def test_unusable_arrays_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_samples(write(tmp_path / "task.npz", **{**good(), **change}), SHAPE)


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no samples at .*nowhere.npz"):
        load_samples(tmp_path / "nowhere.npz", SHAPE)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match="neither an .npz file nor a folder"):
        load_samples(tmp_path / "text.npz", SHAPE)
    with pytest.raises(ValueError, match=r"needs arrays x .* It holds \['a'\]"):
        load_samples(write(tmp_path / "other.npz", a=np.zeros(3)), SHAPE)
    with pytest.raises(ValueError, match="one folder of images per class"):
        load_samples(tmp_path, SHAPE)
