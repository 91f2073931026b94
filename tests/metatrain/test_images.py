"""`keras-tinytrain metatrain --backbone mcunet`: from files to weights, through the real network at a small size."""

import argparse
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.backbones import MCUNet
from keras_tinytrain.backbones.imagenet_weights import save_pretrained
from keras_tinytrain.cli import metatrain
from keras_tinytrain.metatrain.images import run
from tests.metatrain.test_image_trainer import blocks


def arguments(*options):
    parser = argparse.ArgumentParser()
    metatrain.add_arguments(parser)
    return parser.parse_args(list(map(str, options)))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(folder, two domains of twelve classes, an .npz and a folder of pictures, initial weights) as files."""
    folder = tmp_path_factory.mktemp("metatrain")
    images, labels = twelve_classes(0)
    np.savez(folder / "one.npz", images=images, labels=labels)
    for number, (image, label) in enumerate(zip(*twelve_classes(2))):
        path = folder / "two" / f"{label:02}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(path, image, scale=False)
    save_pretrained(MCUNet((32, 32, 3), weights=None), folder / "start.npz")
    return folder, [folder / "one.npz", folder / "two"], folder / "start.npz"


def twelve_classes(seed):
    """uint8 images (192, H, W, C) and their labels."""
    parts = [blocks(seed), blocks(seed + 1)]
    images = np.concatenate([np.round(255 * part.images).astype(np.uint8) for part in parts])
    labels = np.concatenate([parts[0].labels, parts[1].labels + 6])
    return np.tile(images, (2, 1, 1, 1)), np.tile(labels, 2)


@pytest.fixture(scope="module")
def trained(files):
    """The options of a finished run whose checkpoint stays; it wrote out.npz."""
    folder, data, start = files
    options = ["--backbone", "mcunet", "--weights", start, "--size", 32, "--classes", "even", "--data", *data]
    options += ["--episodes", 4, "--checkpoint", folder / "c.npz"]
    written = ["--evaluate", data[0], f"odd:{data[1]}", "--log-dir", folder / "logs", "--out", folder / "out.npz"]
    assert run(arguments(*options, *written)) == 0
    return options


def test_command(files, trained):
    folder, _, start = files
    network, initial = MCUNet((32, 32, 3), weights=folder / "out.npz"), MCUNet((32, 32, 3), weights=start)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(network.get_weights(), initial.get_weights()))
    provenance = json.loads((folder / "out.json").read_text())
    assert provenance["recipe"]["episodes"] == 4 and "two (even classes): 96 samples of 6 classes" in provenance["data"]
    assert list(provenance["prototypes_5_way_5_shot"]) == ["one (odd classes)", "two (odd classes)"]
    assert "--backbone mcunet" in provenance["command"] and str(folder) not in json.dumps(provenance)
    assert "--data one.npz two" in provenance["command"] and "--evaluate one.npz odd:two" in provenance["command"]
    events = [event for path in (folder / "logs").iterdir() for event in tf.compat.v1.train.summary_iterator(str(path))]
    tags = {value.tag for event in events for value in event.summary.value}
    assert tags == {"metatrain/loss", "metatrain/accuracy", "metatrain/learning_rate"}

    # All is done: once more trains nothing, and finds the same weights.
    assert run(arguments(*trained, "--out", folder / "again.npz")) == 0
    with np.load(folder / "out.npz") as first, np.load(folder / "again.npz") as again:
        assert all((first[name] == again[name]).all() for name in first.files)


def test_half_of_what_training_changed_is_written_by_default(files, trained):
    folder, _, start = files
    whole = folder / "whole.npz"
    assert run(arguments(*trained, "--mix", 1, "--out", whole)) == 0
    before, half, after = (MCUNet((32, 32, 3), weights=path).get_weights() for path in (start, folder / "out.npz", whole))
    for first, at, last in zip(before, half, after, strict=True):
        np.testing.assert_allclose(at, first + 0.5 * (last - first), atol=1e-6)
    assert any(np.abs(last - first).max() > 1e-4 for first, last in zip(before, after))
    assert "--mix 1" in json.loads(whole.with_suffix(".json").read_text())["command"]


@pytest.mark.parametrize("mix", ["0", "-1", "1.5", "half"])
def test_a_share_is_above_0_and_up_to_1(mix, capsys):
    with pytest.raises(SystemExit):
        arguments("--out", "w.npz", "--mix", mix)
    assert f"--mix: expects a number above 0 and up to 1. Received: {mix}" in capsys.readouterr().err


def test_command_wants_domains(tmp_path):
    with pytest.raises(ValueError, match="name them, --data signs.npz"):
        run(arguments("--backbone", "mcunet", "--out", tmp_path / "w.npz"))
