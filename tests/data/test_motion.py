"""Recordings of a motion sensor: units, and the loaders that know them."""

import json

import numpy as np
import pytest

from keras_tinytrain.backbones.images import network_images
from keras_tinytrain.data import load_npz
from keras_tinytrain.data.motion import network_motion
from keras_tinytrain.data.samples import load_samples


@pytest.fixture
def recordings(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 119, 6)).astype(np.float32)
    about = json.dumps({"units": "g and deg/s (LSM9DS1)"})
    np.savez(tmp_path / "moves.npz", x=x, labels=np.int16([0, 0, 1, 1]), meta_json=about)
    return tmp_path / "moves.npz", x


def test_both_systems_of_units_give_the_same():
    x = np.random.default_rng(0).normal(size=(2, 5, 6))
    ours = network_motion(x, '{"units": "g and deg/s"}')
    assert ours.shape == (2, 5, 1, 6) and ours.dtype == np.float32
    np.testing.assert_allclose(ours[:, :, 0, 3:], x[..., 3:] / 250, rtol=1e-6)
    metric = np.concatenate([x[..., :3] * 9.80665, np.radians(x[..., 3:])], axis=-1)
    np.testing.assert_allclose(network_motion(metric, '{"units": "m/s^2 and rad/s (Android)"}'), ours, rtol=1e-6)


@pytest.mark.parametrize("units", ["", "furlongs", "g and turns", None])
def test_unknown_units_are_shown(units):
    with pytest.raises(ValueError, match=r'"m/s\^2 or g" "and" "rad/s or deg/s"\. Received: '):
        network_motion(np.zeros((1, 1, 6)), json.dumps({"units": units}))


def test_a_domain_and_samples_are_in_the_networks_units(recordings):
    path, x = recordings
    domain = load_npz(path)
    expected = x[:, :, None] * np.float32([1, 1, 1, 0.004, 0.004, 0.004])
    np.testing.assert_allclose(domain.images, expected, rtol=1e-6)
    assert domain.name == "moves" and domain.num_classes == 2
    samples, labels = load_samples(path, (119, 1, 6))
    np.testing.assert_array_equal(samples, domain.images)
    assert labels.tolist() == [0, 0, 1, 1]


def test_motion_is_not_resized(recordings):
    windows = load_npz(recordings[0]).images
    assert network_images(windows, (119, 1, 6)) is windows
    with pytest.raises(ValueError, match=r"samples \(119, 1, 6\), the network takes \(32, 32, 1\)"):
        network_images(windows, (32, 32, 1))


def test_real_recordings(shared_data):
    nano, phone = (load_npz(shared_data / "domains" / f"{name}_dev.npz") for name in ("nano33ble_gesture", "imu_digit_gesture"))
    assert nano.images.shape == (265, 119, 1, 6) and phone.images.shape == (250, 250, 1, 6)
    for domain in (nano, phone):  # at rest a sensor feels 1 g
        assert np.median(np.linalg.norm(domain.images[..., :3], axis=-1)) == pytest.approx(1, abs=0.08)
