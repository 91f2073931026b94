"""Meta-training on drawn toy glyphs: it learns, repeats, resumes, folds exactly, and writes what it promises."""

import argparse
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tinytrain.backbones.nano import NanoNet
from keras_tinytrain.backbones.small_network import folded_network
from keras_tinytrain.cli import metatrain
from keras_tinytrain.data import Domain, resize
from keras_tinytrain.metatrain.evaluation import coarse_scans, prototype_accuracy
from keras_tinytrain.metatrain.glyph_trainer import GlyphRecipe, GlyphTrainer
from keras_tinytrain.metatrain.glyph_views import glyph_boxes, glyph_views
from keras_tinytrain.metatrain.glyphs import run

TINY = GlyphRecipe(epochs=1, batch_size=8, episodes=2, ways=2, shots=2)


@pytest.fixture(scope="module")
def glyphs():
    """Four classes, each a pattern of 4x4 blocks, five drawings each that are a little apart, 64x64."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (4, 4, 4)).repeat(10, axis=1).repeat(10, axis=2)
    images = np.zeros((20, 64, 64, 1), np.float32)
    for index in range(20):
        y, x = rng.integers(10, 15, 2)
        images[index, y : y + 40, x : x + 40, 0] = patterns[index // 5]
    return Domain("blocks", images, np.repeat(np.arange(4), 5))


def save_packed(domain, path):
    bits = (domain.images > 0.5).reshape(len(domain.images), -1)
    np.savez(path, images_packed=np.packbits(bits, axis=1), image_hw=domain.images.shape[1:3], class_id=domain.labels)


def small_model():
    """Stands in for NanoNet where the network does not matter, which compiles for seconds."""
    inputs = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(8, 5, strides=4, use_bias=False, kernel_initializer=keras.initializers.HeNormal(0))(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Flatten()(x))


@pytest.fixture(scope="module")
def trained(glyphs, tmp_path_factory):
    """(trainer after both rounds, what round 2 returned, checkpoint after round 1)."""
    trainer, checkpoint = GlyphTrainer(glyphs, TINY, 5, model=small_model()), tmp_path_factory.mktemp("metatrain") / "c.npz"
    trainer.run_round(0)
    trainer.save(checkpoint, 1)
    return trainer, trainer.run_round(1), checkpoint


def test_views_are_images_and_a_function_of_the_seed(glyphs):
    pixels, boxes = (glyphs.images * 255).astype(np.uint8), glyph_boxes(glyphs.images)

    def draw(seed):
        return glyph_views(pixels, boxes, np.zeros(20, int), tf.constant([0, seed]), size=32, num_styles=4).numpy()

    first = draw(1)
    assert first.shape == (20, 32, 32, 1) and first.min() >= 0 and first.max() <= 1
    assert (first.max(axis=(1, 2, 3)) > 0.3).all()  # the ink stays in the frame
    np.testing.assert_array_equal(first, draw(1))
    assert np.abs(first - draw(2)).max() > 0.3


def test_boxes():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 4:8, 2:4] = 1  # rows 4..7: centre +0.5 of half the frame, height half of it
    np.testing.assert_allclose(glyph_boxes(image), [[0.5, -0.25, 0.5]])


def test_quarter_turn_turns():
    bar = np.zeros((1, 64, 64, 1), np.uint8)
    bar[0, 30:34, 12:52] = 255
    extents = []
    for turns in (0, 1):
        view = glyph_views(bar, glyph_boxes(bar / 255), np.array([turns]), tf.constant([3, 3]), size=32, num_styles=1).numpy()[
            0, ..., 0
        ]
        rows, columns = np.nonzero(view > 0.3)
        extents.append(np.ptp(columns) - np.ptp(rows))
    assert extents[0] > 8 and extents[1] < -8


def test_resuming_equals_going_on(glyphs, trained):
    trainer, results, checkpoint = trained
    resumed = GlyphTrainer(glyphs, TINY, 5, model=small_model())
    assert resumed.restore(checkpoint) == 1 and resumed.run_round(1) == results
    for a, b in zip(trainer.model.variables, resumed.model.variables):
        np.testing.assert_array_equal(a, b)


def test_checkpoint_of_another_seed_is_refused(glyphs, trained):
    with pytest.raises(ValueError, match="not a checkpoint of this recipe, seed and data"):
        GlyphTrainer(glyphs, TINY, 6, model=small_model()).restore(trained[2])


def test_defaults_of_the_command_are_the_recipe():
    assert arguments("--data", "d.npz", "--out", "w.npz").epochs == GlyphRecipe().epochs


@pytest.mark.parametrize(
    "recipe, message",
    [
        (GlyphRecipe(), "a batch of 128 glyphs. Received: 20"),
        (
            GlyphRecipe(epochs=0),
            "20 classes, turned ones included, of at least 10 glyphs each. Received: 16 classes, the smallest of 5",
        ),
    ],
)
def test_too_little_data(glyphs, recipe, message):
    with pytest.raises(ValueError, match=message):
        GlyphTrainer(glyphs, recipe, 0)


def test_classes_come_apart(glyphs):
    recipe = GlyphRecipe(epochs=60, batch_size=20, learning_rate=1e-2, episodes=0)
    trainer = GlyphTrainer(glyphs, recipe, 0, model=small_model())
    losses = [trainer.run_round(index)[0] for index in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_episodes_beat_chance_and_train_the_scale(glyphs):
    recipe = GlyphRecipe(epochs=0, episodes=100, ways=4, shots=2, episode_learning_rate=1e-2)
    trainer = GlyphTrainer(glyphs, recipe, 0, model=small_model())
    loss, accuracy = trainer.run_round(0)
    assert loss < 1 < np.log(4) and accuracy > 0.5 and trainer.scale != 10


def test_folded_features_equal_batch_norm_in_inference(glyphs):
    images, rng, model = resize(glyphs.images, 32, 32), np.random.default_rng(0), NanoNet(weights=None, batch_norm=True)
    for variable in model.variables:
        if variable.ndim == 1:  # gamma, beta, mean and variance
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    expected, folded = (m.predict(images, verbose=0) for m in (model, folded_network(model, NanoNet)))
    assert np.abs(folded - expected).max() <= 1e-5 * np.abs(expected).max()


def arguments(*options):
    parser = argparse.ArgumentParser()
    metatrain.add_arguments(parser)
    return parser.parse_args(options)


def test_command_writes_weights_and_their_provenance(tmp_path, capsys, glyphs):
    data, out = str(tmp_path / "blocks.npz"), str(tmp_path / "w.npz")
    many = Domain("many", np.tile(glyphs.images, (10, 1, 1, 1)), np.tile(np.repeat(np.arange(10), 2), 10))
    save_packed(many, data)
    assert run(arguments("--data", data, "--evaluate", data, "--out", out, "--epochs", "0", "--episodes", "1")) == 0
    printed = capsys.readouterr().out
    assert "round 1/1 episodes: loss " in printed and "5-way 5-shot accuracy" in printed
    assert NanoNet(weights=out).count_params() == NanoNet(weights=None).count_params()
    provenance = json.loads((tmp_path / "w.json").read_text())
    assert provenance["command"].endswith("--episodes 1 --epochs 0") and str(tmp_path) not in json.dumps(provenance)


def test_command_wants_one_file(tmp_path):
    for data in ([], ["--data", "a.npz", "b.npz"]):
        with pytest.raises(ValueError, match="trained on one file of glyphs: --data glyphs.npz"):
            run(arguments(*data, "--out", str(tmp_path / "w.npz")))


def test_command_names_a_bad_file(tmp_path):
    np.savez(tmp_path / "sensor.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"needs arrays x \(or images\) and y .* It holds \['x'\]"):
        run(arguments("--data", str(tmp_path / "sensor.npz"), "--out", str(tmp_path / "w.npz")))


@pytest.mark.parametrize("name", ["w", "absent/w.npz"])
def test_command_refuses_a_place_it_cannot_write_to(tmp_path, name):
    with pytest.raises(ValueError, match="ends in .npz, in a folder that exists"):
        run(arguments("--data", "d.npz", "--out", str(tmp_path / name)))


def test_glyphs_of_the_wrong_shape(glyphs):
    colour = Domain("colour", np.repeat(glyphs.images, 3, axis=-1), glyphs.labels)
    with pytest.raises(ValueError, match=r"one channel, \(N, S, S, 1\). Received: \(20, 64, 64, 3\)"):
        GlyphTrainer(colour, TINY, 0)


def test_prototype_accuracy_of_features_that_are_labels():
    labels = np.repeat(np.arange(6), 20)
    domain = Domain("one-hot", np.eye(6, dtype=np.float32)[labels].reshape(-1, 1, 1, 6), labels)
    inputs = keras.Input((1, 1, 6))
    flat = keras.Model(inputs, keras.layers.Flatten()(inputs))
    assert prototype_accuracy(flat, domain, num_episodes=5) == (1.0, 0.0)
    noise = Domain("noise", domain.images, np.random.default_rng(0).permutation(labels))
    accuracy, half_width = prototype_accuracy(flat, noise, num_episodes=50)
    assert abs(accuracy - 0.2) < 0.05 and 0.005 < half_width < 0.05


def test_coarse_scans_are_smooth(glyphs):
    coarse = coarse_scans(glyphs, resolution=8)
    assert coarse.name == "blocks at 8x8" and coarse.images.shape == glyphs.images.shape
    assert np.abs(np.diff(coarse.images, axis=1)).max() < 0.2 < np.abs(np.diff(glyphs.images, axis=1)).max()
