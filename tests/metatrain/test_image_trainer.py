"""Meta-training on episodes: it learns, repeats, resumes, and one device, two devices and two processes agree."""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_tinytrain.data import Domain
from keras_tinytrain.metatrain.image_trainer import EpisodicRecipe, EpisodicTrainer

RECIPE = EpisodicRecipe(episodes=8, ways=3, shots=2, queries=2, learning_rate=1e-2)
LOSSES = """
import json, sys, tensorflow as tf
sys.path[:0] = {path!r}
{setup}
from tests.metatrain.test_image_trainer import RECIPE, losses
print(json.dumps(losses(strategy)))
"""
TWO_DEVICES = """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
"""
WORKER = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
"""


def blocks(seed=0, *, name="blocks"):
    """Six classes of random 4x4 patterns, eight noisy images each, 8x8 grey."""
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(size=(6, 4, 4)).repeat(2, axis=1).repeat(2, axis=2)
    images = np.clip(patterns.repeat(8, axis=0) + rng.normal(0, 0.1, (48, 8, 8)), 0, 1)[..., None]
    return Domain(name, images.astype(np.float32), np.repeat(np.arange(6), 8))


def backbone():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(8, 3, strides=2),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
    ]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(8)], name="small")


def trainer(recipe=RECIPE, **options):
    return EpisodicTrainer(backbone(), [blocks(), blocks(1)], to_input=lambda x: x - 0.5, recipe=recipe, **options)


def losses(strategy=None):
    trained = trainer(strategy=strategy)
    return [trained.step() for _ in range(RECIPE.num_steps)]


def launch(setup, **environment):
    code = LOSSES.format(path=[path for path in sys.path if path], setup=setup)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finished(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def one_device():
    return losses()


def test_two_devices_equal_one(one_device):
    np.testing.assert_allclose(finished(launch(TWO_DEVICES)), one_device, rtol=1e-4)


def test_two_processes_equal_one(one_device):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}) for index in (0, 1)]
    received = [finished(process) for process in [launch(WORKER, TF_CONFIG=config) for config in configs]]
    np.testing.assert_array_equal(*received)
    np.testing.assert_allclose(received[0], one_device, rtol=1e-4)


def test_the_same_seed_repeats_and_another_does_not(one_device):
    assert losses() == one_device
    assert trainer(seed=1).step() != one_device[0]


def test_learns():
    trained = trainer(EpisodicRecipe(episodes=120, ways=5, shots=2, queries=2, learning_rate=1e-2))
    results = np.array([trained.step() for _ in range(60)])
    assert results[-10:, 0].mean() < 0.6 * results[:10, 0].mean()
    assert float(trained.scale) != 10


def test_batch_norm_statistics_stay():
    trained = trainer()
    before = [np.array(variable) for variable in trained.backbone.non_trainable_variables]
    trained.step()
    np.testing.assert_equal([np.array(variable) for variable in trained.backbone.non_trainable_variables], before)


def test_resuming_equals_going_on(tmp_path, one_device):
    first = trainer()
    first.step()
    first.save(tmp_path / "c.npz")
    resumed = trainer()
    resumed.restore(tmp_path / "c.npz")
    assert [resumed.step() for _ in range(3)] == one_device[1:]
    assert os.listdir(tmp_path) == ["c.npz"]


def test_a_checkpoint_of_another_seed_is_refused(tmp_path):
    trainer().save(tmp_path / "c.npz")
    with pytest.raises(ValueError, match="not a checkpoint of this recipe, seed, backbone and data"):
        trainer(seed=1).restore(tmp_path / "c.npz")


def test_a_domain_that_is_too_small_says_so_at_once():
    with pytest.raises(ValueError, match="7 ways was asked for, but there are 6 classes"):
        trainer(EpisodicRecipe(ways=7))
