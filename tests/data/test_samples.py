"""Labelled samples from .npz files and folders, and what is said of files that cannot be used."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.data import load_folder, load_npz, load_samples
from keras_tinytrain.data.reader import read_picture

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


def test_scale_and_offset_follow_pixels_of_0_to_1(tmp_path):
    pixels = np.full((2, *SHAPE), 255, np.uint8)
    x, _ = load_samples(write(tmp_path / "task.npz", x=pixels, y=np.array([0, 1])), SHAPE, scale=2, offset=-1)
    np.testing.assert_allclose(x, 1.0, atol=1e-6)


def test_floats_are_scaled_as_stored(tmp_path):
    values = np.full((2, *SHAPE), 255.0, np.float32)
    x, _ = load_samples(write(tmp_path / "task.npz", x=values, y=np.array([0, 1])), SHAPE, scale=2 / 255, offset=-1)
    np.testing.assert_allclose(x, 1.0, atol=1e-6)


def test_a_scale_for_0_to_255_is_refused_for_pixels(tmp_path):
    """Version 0.1 left pixels at 0..255, so that its users wrote 1/255."""
    path = write(tmp_path / "task.npz", x=np.zeros((2, *SHAPE), np.uint8), y=np.array([0, 1]))
    with pytest.raises(ValueError, match="0..1 before scale 0.00392157 is applied .* or multiply it by 255"):
        load_samples(path, SHAPE, scale=1 / 255)


def test_a_folder_of_class_folders(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index in range(2):
            image = keras.utils.array_to_img(np.full((6, 5, 1), 100 * label + 50), scale=False)
            image.save(tmp_path / name / f"{index}.png")
    x, y = load_samples(tmp_path, SHAPE)
    assert y.tolist() == [0, 0, 1, 1]
    assert x[:2].max() == np.float32(50) / np.float32(255) and x[2:].min() == np.float32(150) / np.float32(255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((8, 6, 6, 1))}, r"shape \(6, 6, 1\), the model expects \(6, 5, 1\)"),
        ({"y": np.zeros(8, int)}, "all 8 samples have label 0"),
        ({"y": np.array([0, 1, 2, 4] * 2)}, r"labels must be 0..K-1 .* Received \[0, 1, 2, 4\]"),
        ({"y": np.array([-1, 0] * 4)}, "labels must be 0..K-1"),
        ({"y": np.zeros(8)}, r"one integer label.* float64 of shape \(8,\): y.astype\(int\)"),
        ({"y": np.eye(4)[np.arange(8) % 4]}, r"one integer label.* shape \(8, 4\), one-hot rows: y.argmax\(axis=1\)"),
        ({"y": np.array(["cat", "dog"] * 4)}, r"one integer label.* such as \['cat', 'dog', 'cat'\]: np.unique"),
        ({"y": np.array(["cat", None] * 4)}, "task.npz: array y holds Python objects. Save numbers"),
        ({"y": np.arange(8)[:, None] % 2}, r"one integer label.* shape \(8, 1\): y.ravel\(\)"),
        ({"y": np.arange(8) % 2 + 1}, r"labels must be 0..K-1 .* Received \[1, 2\]: np.unique"),
        ({"y": np.linspace(0, 1, 8)}, r"one integer label.* shape \(8,\): one class a sample is learned here; values"),
        (
            {"y": np.ones((8, 3))},
            r"one integer label.* shape \(8, 3\): .*several classes at once, train in Keras with TinyTrainCallback",
        ),
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
    (tmp_path / "cut.npz").write_bytes(write(tmp_path / "task.npz", **good()).read_bytes()[:300])
    with pytest.raises(ValueError, match="begins like one and is cut off"):
        load_samples(tmp_path / "cut.npz", SHAPE)
    none = {name: values[:0] for name, values in good().items()}
    with pytest.raises(ValueError, match="there are no samples; at least two classes are needed"):
        load_samples(write(tmp_path / "none.npz", **none), SHAPE)
    with pytest.raises(ValueError, match=r"needs arrays x .* It holds \['a'\]"):
        load_samples(write(tmp_path / "other.npz", a=np.zeros(3)), SHAPE)
    with pytest.raises(ValueError, match="one folder of pictures per class"):
        load_samples(tmp_path, SHAPE)


@pytest.mark.parametrize(
    "images",
    [
        np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.uint8),
        np.random.default_rng(0).uniform(size=(4, *SHAPE)).astype(np.float32),
        np.random.default_rng(0).uniform(size=(4, *SHAPE)) > 0.5,
    ],
    ids=["uint8", "float32", "bool"],
)
def test_a_file_gives_the_same_values_as_samples_and_as_a_domain(tmp_path, images):
    path = write(tmp_path / "task.npz", images=images, labels=np.array([0, 1, 1, 0]))
    x, y = load_samples(path, SHAPE)
    domain = load_npz(path, size=None)
    np.testing.assert_array_equal(x, domain.images)
    np.testing.assert_array_equal(y, domain.labels)
    assert x.dtype == domain.images.dtype == np.float32 and 0 <= x.min() < x.max() <= 1


def test_packed_bits_give_the_same_values_as_samples_and_as_a_domain(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (4, 30)).astype(np.uint8)
    path = write(tmp_path / "glyphs.npz", images_packed=np.packbits(bits, axis=1), image_hw=[6, 5], class_id=np.arange(4) % 2)
    x, _ = load_samples(path, SHAPE)
    np.testing.assert_array_equal(x, bits.reshape(4, *SHAPE))
    np.testing.assert_array_equal(x, load_npz(path, size=None).images)


def test_a_folder_gives_the_same_values_as_samples_and_as_a_domain(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image = np.random.default_rng(len(name)).integers(0, 256, (9, 7, 3)).astype(np.uint8)
        keras.utils.save_img(tmp_path / name / "0.png", image, scale=False)
    x, y = load_samples(tmp_path, (6, 6, 3))
    domain = load_folder(tmp_path, size=6)
    np.testing.assert_array_equal(x, domain.images)
    np.testing.assert_array_equal(y, domain.labels)
    assert 0.5 < x.max() <= 1


def test_reading_samples_takes_no_tensorflow(tmp_path):
    path = write(tmp_path / "task.npz", **good())
    for name in ("cat", "dog"):
        picture(tmp_path / "pictures" / name / "0.png", np.zeros((6, 5, 3), np.uint8))
    code = (
        "import sys; from keras_tinytrain.data import load_samples\n"
        f"load_samples({str(path)!r}, {SHAPE}); load_samples({str(tmp_path / 'pictures')!r}, {SHAPE}); print(sorted(sys.modules.keys() & {{'tensorflow', 'keras'}}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "[]\n", done.stderr


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(np.asarray(pixels)).numpy())
    return path


def test_a_broken_picture_is_named(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / name / "0.png", np.zeros((6, 5, 3), np.uint8))
    (tmp_path / "dog" / "1.jpg").write_bytes(b"no jpeg")
    with pytest.raises(ValueError, match=r"dog/1.jpg is not an image that can be read"):
        load_samples(tmp_path, (6, 5, 3))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif"])
def test_a_picture_has_the_pixels_that_tensorflow_reads(tmp_path, suffix):
    pixels = np.random.default_rng(1).integers(0, 256, (9, 13, 3)).astype(np.uint8)
    path = tmp_path / f"0{suffix}"
    keras.utils.array_to_img(pixels, scale=False).save(path)
    if suffix == ".jpg":
        decoded = tf.io.decode_jpeg(path.read_bytes(), 3, dct_method="INTEGER_ACCURATE")  # its default is the faster one
    else:
        decoded = tf.io.decode_image(path.read_bytes(), 3, expand_animations=False)
    expected = tf.image.resize(decoded, (12, 7)).numpy()
    assert np.array_equal(read_picture(path, height=12, width=7, channels=3), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_any_depth_get_the_channels_of_the_model(tmp_path, channels):
    rng = np.random.default_rng(0)
    for number, depth in enumerate((1, 2, 3, 4)):
        picture(tmp_path / "cat" / f"{depth}.png", rng.integers(0, 256, (6, 5, depth)).astype(np.uint8))
        grey = rng.integers(0, 65536, (6, 5, 1)).astype(np.uint16)
        picture(tmp_path / "dog" / f"{number}.png", grey)
    x, y = load_samples(tmp_path, (6, 5, channels))
    assert x.shape == (8, 6, 5, channels) and y.tolist() == [0] * 4 + [1] * 4
    assert x.min() >= 0 and 0.5 < x.max() <= 1


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / name / "0.png", np.zeros((6, 5, 1), np.uint8))
        (tmp_path / name / "._0.png").write_bytes(b"what another system left")
    (tmp_path / ".thumbnails").mkdir()
    assert load_samples(tmp_path, SHAPE)[1].tolist() == [0, 1]


def test_a_class_without_pictures_and_a_format_that_is_not_read_are_named(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / name / "0.png", np.zeros((6, 5, 1), np.uint8))
    (tmp_path / "emu").mkdir()
    with pytest.raises(ValueError, match="emu holds no pictures"):
        load_samples(tmp_path, SHAPE)
    (tmp_path / "emu" / "0.webp").write_bytes(b"")
    with pytest.raises(ValueError, match="0.webp is of a format that is not read. Save it as PNG or JPEG"):
        load_samples(tmp_path, SHAPE)
