"""Motions for meta-training obey mechanics, and training on them learns, repeats and writes what it promises."""

import argparse
import json

import keras
import numpy as np
import pytest

from keras_tinytrain.backbones.gesture import WINDOW, GestureNet
from keras_tinytrain.cli import metatrain
from keras_tinytrain.metatrain import motions
from keras_tinytrain.metatrain.invented_motions import RATE, _as_measured, invented_motions
from keras_tinytrain.metatrain.motion_geometry import reverse, rotate, rotations
from keras_tinytrain.metatrain.motions import MotionRecipe, draw_episode
from keras_tinytrain.metatrain.recorded_motions import Recordings, held_otherwise

QUICK = MotionRecipe(episodes=2, ways=4, shots=2)


@pytest.fixture(scope="module")
def recordings():
    """Two classes of six recordings, 4 s at 50 Hz, held with gravity along y."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(200) / 50 * rng.uniform(3, 20, (2, 6, 1))) * np.repeat([0.3, 50], 3)[:, None]
    motion = np.repeat(np.swapaxes(waves, 1, 2), 6, axis=0) + rng.normal(0, 0.02, (12, 200, 6))
    motion[..., :3] -= motion[..., :3].mean(axis=1, keepdims=True) - [0, 1, 0]
    return Recordings(motion, np.repeat([0, 1], 6), 50.0)


def test_rotation_vectors():
    quarter = rotations(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ [1, 0, 0], [0, 1, 0], atol=1e-9)
    many = rotations(np.random.default_rng(0).normal(size=(5, 3)))
    np.testing.assert_allclose(many @ np.swapaxes(many, 1, 2), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(many), 1)


def test_a_mirrored_board_turns_the_other_way():
    """A position p(t) seen in a mirror: acceleration is mirrored, the sense of rotation about the mirror's axis stays."""
    window = np.arange(6.0).reshape(1, 1, 6) + 1
    mirrored = rotate(window, np.diag([-1.0, 1, 1]))
    assert mirrored.ravel().tolist() == [-1, 2, 3, 4, -5, -6]
    assert reverse(np.stack([window[0, 0], 10 * window[0, 0]])[None]).tolist() == [
        [[10, 20, 30, -40, -50, -60], [1, 2, 3, -4, -5, -6]]
    ]


def test_gravity_turns_against_the_board():
    """Where nothing accelerates the board, what it feels is gravity, whose change is - w x a."""
    rng = np.random.default_rng(0)
    windows = invented_motions(rng, 1, 1)
    assert windows.shape == (1, 119, 6) and np.isfinite(windows).all()
    rate = np.zeros((1, 119, 3))
    rate[..., 0] = 90.0  # degrees a second about x
    down = _as_measured(np.zeros((1, 119, 3)), rate, np.random.default_rng(0))[0, :, :3]
    np.testing.assert_allclose(np.linalg.norm(down, axis=1), 1)
    change = (down[1:] - down[:-1]) * RATE
    np.testing.assert_allclose(change, -np.cross(np.radians(rate[0, :-1]), down[:-1]), atol=0.03)


def test_samples_of_a_class_are_alike_and_repeat(recordings):
    for draw in (invented_motions, lambda *args: recordings.sample(*args)):
        windows = draw(np.random.default_rng(3), 6, 8)
        assert windows.shape == (48, 119, 6)
        np.testing.assert_array_equal(windows, draw(np.random.default_rng(3), 6, 8))
    flat = invented_motions(np.random.default_rng(3), 6, 8).reshape(6, 8, -1)
    within = np.linalg.norm(flat - flat.mean(axis=1, keepdims=True), axis=-1).mean()
    between = np.linalg.norm(flat[:, :1] - flat.mean(axis=1)[None], axis=-1)
    assert within < between[~np.eye(6, dtype=bool)].mean()


def test_recordings_stand_upright(recordings):
    windows = recordings.sample(np.random.default_rng(0), 10, 4)
    np.testing.assert_allclose(windows[..., :3].mean(axis=(0, 1)), [0, 0, 1], atol=0.15)


def test_a_board_held_otherwise_feels_as_much(recordings):
    windows = recordings.sample(np.random.default_rng(0), 4, 4)
    turned = held_otherwise(windows, np.random.default_rng(1))
    feels = lambda x: np.linalg.norm(x[..., :3], axis=-1)
    np.testing.assert_allclose(feels(turned), feels(windows), atol=0.12)  # its noise is 0.02 g an axis
    assert np.abs(held_otherwise(10 * windows, np.random.default_rng(1))[..., :3]).max() == 4.0


@pytest.mark.parametrize("motions", ["recorded", "invented", "both"])
def test_an_episode_is_support_then_queries(recordings, motions):
    recipe = MotionRecipe(ways=4, shots=3, motions=motions)
    windows = draw_episode(recordings, recipe, np.random.default_rng(0))
    assert windows.shape == (24, *WINDOW) and windows.dtype == np.float32
    halves = windows.reshape(2, 4, 3, -1).mean(axis=2)
    distances = np.linalg.norm(halves[0][:, None] - halves[1][None], axis=-1)
    assert np.trace(distances) < distances.sum() / 4  # the same class in both halves


def small_network(input_shape=WINDOW, *, weights=None, batch_norm=False):
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, (9, 1), strides=8, use_bias=not batch_norm, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem.bn")(x) if batch_norm else x
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))


def test_training_repeats_and_folds(recordings):
    lines = []
    train = lambda seed: motions.train_on_motions(recordings, recipe=QUICK, seed=seed, report=lines.append, build=small_network)
    first, again, other = train(1), train(1), train(2)
    for ours, same, another in zip(first.weights, again.weights, other.weights):
        np.testing.assert_array_equal(ours, same)
        assert np.abs(np.asarray(ours) - np.asarray(another)).max() > 0
    assert not any("bn" in layer.name for layer in first.layers)


def test_the_command_writes_weights_and_their_provenance(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 119, 6))
    np.savez(tmp_path / "moves.npz", x=x, labels=np.repeat(np.arange(5), 12), meta_json=json.dumps({"units": "g and deg/s"}))
    monkeypatch.setattr(motions, "REPORT_STEPS", 1)
    parser = argparse.ArgumentParser()
    metatrain.add_arguments(parser)
    moves, out = str(tmp_path / "moves.npz"), tmp_path / "w.npz"
    args = ["--backbone", "gesture", "--data", moves, "--evaluate", moves, "--rate", "119", "--motions", "both"]
    args += ["--episodes", "1"]
    assert motions.run(parser.parse_args([*args, "--out", str(out)])) == 0
    provenance = json.loads(out.with_suffix(".json").read_text())
    assert provenance["data"] == ["moves: 60 samples of 5 classes"] and "--backbone gesture" in provenance["command"]
    assert 0 < provenance["prototypes_5_way_5_shot"]["moves"]["accuracy"] < 1
    with pytest.raises(ValueError, match="ends in .npz"):
        motions.run(parser.parse_args([*args, "--out", str(tmp_path / "w.txt")]))


def test_invented_motions_need_no_recordings(recordings):
    train = lambda known: motions.train_on_motions(known, recipe=QUICK, seed=1, report=lambda line: None, build=small_network)
    assert QUICK.motions == "invented"
    for ours, same in zip(train(None).weights, train(recordings).weights):
        np.testing.assert_array_equal(ours, same)


def test_a_file_that_is_not_read_is_not_in_the_provenance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(motions, "train_on_motions", lambda recordings, **_: GestureNet(weights=None))
    parser = argparse.ArgumentParser()
    metatrain.add_arguments(parser)
    out = tmp_path / "w.npz"
    command = ["--backbone", "gesture", "--out", str(out)]
    for options, said in (([], ""), (["--data", "nowhere.npz"], "--data nowhere.npz is not read")):
        assert motions.run(parser.parse_args([*command, *options])) == 0
        assert said in capsys.readouterr().out
        provenance = json.loads(out.with_suffix(".json").read_text())
        assert provenance["data"] == [] and "--data" not in provenance["command"]
    with pytest.raises(ValueError, match="one file of recordings: --data"):
        motions.run(parser.parse_args([*command, "--motions", "both"]))
