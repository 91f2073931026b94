"""load_model: files of Keras 2 and tf_keras give what their writer computes; other files are refused in a sentence."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import small_net

from keras_tinytrain.model import load_model

tf_keras = pytest.importorskip("tf_keras", reason="pip install keras-tinytrain[tfmot]")
LAYERS = tf_keras.layers


def sequential():
    """As a tutorial writes it: the shape of the input is an argument of the first layer."""
    head = [LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(3, activation=tf.nn.softmax)]
    return tf_keras.Sequential([LAYERS.Conv2D(4, (3, 3), activation="relu", input_shape=(8, 8, 3)), LAYERS.ReLU(6.0), *head])


def nested():
    """As Teachable Machine exports it, with layers of one name inside and outside."""
    image = tf_keras.Input((8, 8, 3))
    x = LAYERS.DepthwiseConv2D(3, use_bias=False, name="conv")(image)
    x = LAYERS.BatchNormalization(momentum=0.5)(x)
    base = tf_keras.Model(image, LAYERS.LeakyReLU(0.3, name="leaky")(x))
    base(np.random.default_rng(0).normal(1, 2, (16, 8, 8, 3)), training=True)
    base.trainable = False
    body = tf_keras.Sequential([base, LAYERS.GlobalAveragePooling2D()])
    return tf_keras.Sequential([body, tf_keras.Sequential([LAYERS.Dense(5, name="conv"), LAYERS.Dense(3)])])


def functions():
    """Arithmetic on tensors, concatenation, slices; a name with a slash; the output in a list."""
    image = tf_keras.Input((8, 8, 3))
    x = (255.0 * image - [100.0, 110.0, 120.0])[:, 1:, :, ::-1] / 127.5 - 1.0
    x = LAYERS.Conv2D(4, 3, name="block/conv")(x)
    other = LAYERS.SeparableConv2D(4, 3, depthwise_constraint=tf_keras.constraints.MaxNorm(1.0))(image)[:, 1:]
    x = tf.nn.relu6(tf.concat([x, 2.0 - other], axis=-1))
    x = tf.reduce_mean(x * tf.sigmoid(x), axis=[1, 2])
    return tf_keras.Model([image], [LAYERS.Dense(3)(x)])


def wrappers():
    """Layers inside layers, and one whose state is adapted."""
    norm = LAYERS.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 2, (20, 8, 6)))
    held = [LAYERS.TimeDistributed(LAYERS.Dense(5)), LAYERS.Bidirectional(LAYERS.SimpleRNN(3))]
    return tf_keras.Sequential([LAYERS.InputLayer((8, 6)), norm, *held])


def written(model, folder, kind):
    path = folder / {"saved_model": "saved", "h5": "model.h5", "keras": "model.keras"}[kind]
    model.save(path)
    return path


@pytest.mark.parametrize("kind", ["h5", "keras", "saved_model"])
@pytest.mark.parametrize("build", [sequential, nested, functions, wrappers])
def test_models_of_keras_2_answer_alike(tmp_path, build, kind):
    tf_keras.utils.set_random_seed(0)
    model = build()
    x = np.random.default_rng(1).uniform(size=(4, *((8, 6) if build is wrappers else (8, 8, 3)))).astype(np.float32)
    expected = tf.nest.flatten(model(x))[0]
    model.compile("adam", "mse")
    loaded = load_model(written(model, tmp_path, kind))
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(loaded(x), expected, rtol=0, atol=1e-5)


def test_code_in_a_file_is_not_run(tmp_path):
    ran = tmp_path / "ran"
    marker = str(ran)
    for package in (tf_keras, keras):
        step = package.layers.Lambda(lambda x: (open(marker, "w").close(), x)[1], output_shape=(4,), name="step")
        model = package.Sequential([package.layers.InputLayer((4,)), step, package.layers.Dense(2)])
        kinds = ("h5", "keras", "saved_model") if package is tf_keras else ("h5", "keras")
        for kind in kinds:
            path = written(model, tmp_path, kind)
            ran.unlink(missing_ok=True)
            with pytest.raises(ValueError, match="Lambda is Python code, and code in a file is not run"):
                load_model(path)
            assert not ran.exists(), kind


def test_files_that_hold_no_model_are_named(tmp_path):
    (tmp_path / "text.h5").write_text("no model")
    np.savez(tmp_path / "task.npz", x=np.zeros(3))
    small_net().save_weights(tmp_path / "only.weights.h5")
    tf_keras.Sequential([LAYERS.Dense(2, input_shape=(3,))]).save_weights(tmp_path / "weights.h5")
    model = small_net()
    model.save(tmp_path / "whole.keras")
    model.save(tmp_path / "whole.h5")
    model.export(tmp_path / "exported", verbose=False)
    for name in ("whole.keras", "whole.h5"):
        (tmp_path / f"cut_{name}").write_bytes((tmp_path / name).read_bytes()[:-2000])
    messages = {
        "nowhere.keras": "nowhere.keras is not a model that Keras can load: there is no such file",
        "text.h5": "text.h5 cannot be loaded: it is no model, which would be a .keras or .h5 file",
        "task.npz": "task.npz cannot be loaded: it is an .npz file of arrays, such as samples",
        "only.weights.h5": "it holds weights without a model",
        "weights.h5": "it holds weights without a model",
        "cut_whole.keras": "begins like one and is cut off",
        "cut_whole.h5": "cut_whole.h5 cannot be loaded: .*truncated",
        ".": "expected to be a SavedModel",
        "exported": "holds TensorFlow functions and no Keras layers",
    }
    for name, message in messages.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_model(tmp_path / name)


def test_a_newer_file_says_so(tmp_path):
    small_net().save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as old, zipfile.ZipFile(tmp_path / "newer.keras", "w") as new:
        for name in old.namelist():
            text = old.read(name)
            text = text.replace(b'"Dense"', b'"Denser"') if name == "config.json" else text
            new.writestr(name, text.replace(keras.__version__.encode(), b"9.1.0") if name == "metadata.json" else text)
    with pytest.raises(ValueError, match=r"written by Keras 9.1.0, this is .*: pip install -U keras"):
        load_model(tmp_path / "newer.keras")


class Scale(keras.layers.Layer):
    def call(self, x):
        return 2 * x


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_class_of_the_users_own_is_asked_for_and_taken(tmp_path, kind):
    keras.Sequential([keras.Input((3,)), Scale(), keras.layers.Dense(2)]).save(tmp_path / f"own.{kind}")
    with pytest.raises(ValueError, match="Scale.*--custom module:Name"):
        load_model(tmp_path / f"own.{kind}")
    assert load_model(tmp_path / f"own.{kind}", custom_objects={"Scale": Scale}).output_shape == (None, 2)


def test_arguments_with_an_effect_that_keras_3_lacks_are_named(tmp_path):
    model = tf_keras.Sequential([LAYERS.InputLayer((8, 6)), LAYERS.LSTM(3, time_major=True, name="major")])
    model.save(tmp_path / "major.h5")
    with pytest.raises(ValueError, match="Layer 'major', a LSTM of Keras 2, has time_major=True, which Keras 3 does not have"):
        load_model(tmp_path / "major.h5")
