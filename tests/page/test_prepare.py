"""The browser makes of pictures and arrays what the command line makes of them, bit for bit."""

import argparse
import base64

import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.cli.samples import command_samples
from keras_tinytrain.run.quantise import quantise_samples
from tests.page.conftest import FACTS

INPUTS = {  # the network's input, and the convention of its values
    "grey": ({"height": 7, "width": 9, "channels": 1, "scale": 1 / 255, "zero_point": -128}, (1.0, 0.0)),
    "colour": ({"height": 12, "width": 12, "channels": 3, "scale": 0.0078431377, "zero_point": -1}, (2.0, -1.0)),
    "with_alpha": ({"height": 5, "width": 4, "channels": 4, "scale": 1.0, "zero_point": -128}, (255.0, 0.0)),
}
SIZES = [(7, 9), (12, 12), (31, 17), (5, 40), (3, 2), (1, 1)]  # of pictures


def as_the_command_line(path, model_input, values):
    args = argparse.Namespace(scale=None, offset=None)
    shape = [model_input[name] for name in ("height", "width", "channels")]
    samples = command_samples(args, str(path), shape, values=values)
    return quantise_samples(model_input, samples.x).reshape(len(samples.x), -1), samples.y


def in_the_browser(browser, files):
    """[(int8 values, label or None)] of the files' samples."""
    sent = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    return browser.run(
        """const found = [];
        for (const [name, text] of args[0]) {
          const types = { png: "image/png", bmp: "image/bmp", gif: "image/gif", npz: "" };
          const file = new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: types[name.split(".")[1]] });
          for (const { image, label } of await samplesOfFile(file, facts)) found.push([Array.from(image), label ?? null]);
        }
        return found;""",
        sent,
    )


@pytest.mark.parametrize("kind", INPUTS)
def test_pictures(open_page, tmp_path, kind):
    model_input, (scale, offset) = INPUTS[kind]
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        for channels in (1, 3, 4):
            picture = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
            folder = tmp_path / "pictures" / f"class {number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}_{channels}.png").write_bytes(tf.io.encode_png(picture).numpy())
    files = sorted((tmp_path / "pictures").rglob("*.png"))
    expected, _ = as_the_command_line(tmp_path / "pictures", model_input, (scale, offset))
    browser = open_page(input=model_input, sample_values={"scale": scale, "offset": offset})
    found = in_the_browser(browser, files)
    assert browser.console() == []
    for path, image, (seen, _) in zip(files, expected, found, strict=True):
        np.testing.assert_array_equal(seen, image, err_msg=path.name)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "bool", "int16"])
def test_arrays(open_page, tmp_path, dtype, save):
    model_input = {"height": 20, "width": 1, "channels": 3, "scale": 0.0123, "zero_point": 7}
    rng = np.random.default_rng(1)
    x = (rng.normal(0, 1, (4, 20, 3)) * (100 if dtype in ("uint8", "int16") else 1)).astype(dtype)
    if dtype != "bool":
        x[0, :4, 0] = [0, 1, 2, 3]
    save(tmp_path / "task.npz", x=x, y=np.array([0, 1, 2, 1]))
    expected, labels = as_the_command_line(tmp_path / "task.npz", model_input, (1.7, -0.3))
    browser = open_page(input=model_input, sample_values={"scale": 1.7, "offset": -0.3})
    found = in_the_browser(browser, [tmp_path / "task.npz"])
    np.testing.assert_array_equal([image for image, _ in found], expected)
    assert [label for _, label in found] == labels.tolist()


def test_every_half_is_rounded_to_even_and_the_ends_are_clipped(open_page):
    x = np.array([-1e9, -200.5, -3.5, -2.5, -0.5, 0, 0.5, 1.5, 2.5, 126.5, 127.5, 1e9], np.float32) * 0.25
    model_input = {"height": 12, "width": 1, "channels": 1, "scale": 0.25, "zero_point": 0}
    browser = open_page(input=model_input)
    found = browser.run("return Array.from(quantise(args[0], 1, facts.sample_values, facts.input));", x.tolist())
    assert found == quantise_samples(model_input, x[None]).ravel().tolist()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("no.npz", b"PK", "it is no .npz file"),
        ("no.npz", b"PK\x05\x06" + b"\x01" * 18, "it is damaged. Choose PNG"),
        ("no.png", b"\x89PNG\r\n\x1a\nno", "cannot be read: it is no picture, or a damaged one. Choose PNG"),
        ("no.png", b"", "cannot be read: it is no picture, or a damaged one. Choose PNG"),
        ("no.bmp", b"hello", "cannot be read: it is no picture, or a damaged one. Choose PNG"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(open_page, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    browser = open_page()
    with pytest.raises(AssertionError, match=told) as caught:
        in_the_browser(browser, [tmp_path / name])
    assert name in str(caught.value)


def test_an_array_that_does_not_fit_is_refused(open_page, tmp_path):
    browser = open_page(input={**FACTS["input"], "height": 4})
    for arrays, told in (
        ({"x": np.zeros((2, 3, 3)), "y": np.zeros(2, int)}, "it holds samples of 3 x 3, the board takes 4 x 2 x 1"),
        ({"x": np.zeros((2, 4, 2))}, "it needs arrays x"),
        ({"x": np.full((1, 4, 2), np.nan), "y": [0]}, "not finite"),
        ({"x": np.zeros((1, 4, 2), complex), "y": [0]}, "an array of kind <c16"),
        ({"x": np.zeros((1, 4, 2)), "y": ["cup"]}, "it holds words where numbers are expected"),
        ({"x": np.zeros((0, 4, 2)), "y": np.zeros(0, int)}, "it holds no samples"),
    ):
        np.savez(tmp_path / "task.npz", **arrays)
        with pytest.raises(AssertionError, match=told):
            in_the_browser(browser, [tmp_path / "task.npz"])


def test_labels_of_an_array_go_by_the_names_of_its_classes(open_page, tmp_path):
    np.savez(tmp_path / "task.npz", x=np.zeros((3, 2, 2)), y=[0, 1, 0], class_names=["größer", "cup"])
    found = in_the_browser(open_page(class_names=["cup", "ball", "größer"]), [tmp_path / "task.npz"])
    assert [label for _, label in found] == [2, 0, 2]
    assert [label for _, label in in_the_browser(open_page(), [tmp_path / "task.npz"])] == [0, 1, 0]
    with pytest.raises(AssertionError, match="it holds classes größer, and the board has cup, ball, tent"):
        in_the_browser(open_page(class_names=["cup", "ball", "tent"]), [tmp_path / "task.npz"])


def test_a_picture_for_a_network_of_motion_is_answered_with_an_array(open_page, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(AssertionError, match="takes no pictures. Choose an .npz with arrays x and y"):
        in_the_browser(open_page(input={**FACTS["input"], "width": 1, "channels": 6}), [tmp_path / "a.png"])
