"""A trainer refuses settings, samples and tables that cannot work, and lets a model's own errors out."""

import dataclasses

import numpy as np
import pytest

from keras_tinytrain import _runtime
from tests.runtime.int8_net import NONE, STORED_SAMPLE
from tests.runtime.net_tables import load_tables
from tests.runtime.small_net import small_net

# ---- misuse --------------------------------------------------------------------------------------------------------------


def test_wrong_labels_and_too_many_samples(setup):
    trainer = setup.trainer(add=False, max_samples=2)
    for label in (-1, 3):
        with pytest.raises(ValueError, match="label"):
            trainer.add_sample(setup.images[0], label)
    trainer.add_sample(setup.images[0], 0)
    trainer.add_sample(setup.images[1], 1)
    with pytest.raises(RuntimeError, match="max_samples"):
        trainer.add_sample(setup.images[2], 2)
    with pytest.raises(RuntimeError, match="every class"):
        trainer.step()
    trainer.clear_samples()
    assert trainer.num_samples == 0
    with pytest.raises(RuntimeError, match="every class"):
        trainer.train()


def test_images_of_another_type_or_size(setup):
    trainer = setup.trainer(add=False)
    with pytest.raises(ValueError, match="int8 numpy array, received float64"):
        trainer.add_sample(setup.images[0].astype(float), 0)
    with pytest.raises(ValueError, match="480 elements, received 20"):
        trainer.add_sample(np.zeros(20, np.int8), 0)


def test_no_prototypes_yet(setup):
    trainer = setup.trainer()
    with pytest.raises(RuntimeError, match="nothing is learned yet"):
        trainer.predict(setup.images[0])
    with pytest.raises(RuntimeError, match="nothing is learned yet"):
        trainer.save_delta()


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"optimizer": "adam", "beta_2": 1.0},
        {"optimizer": "adam", "epsilon": 0.0},
        {"optimizer": "momentum", "momentum": 1.5},
        {"num_classes": 0},
        {"num_classes": 256},
        {"max_samples": 0},
        {"iterations": -1},
        {"logit_scale": 0.0},
        {"max_samples": 2**31 - 1},
        {"average": -0.1},
        {"average": 1.1},
        {"average": float("nan")},
        {"optimizer": "adam_per_channel", "epsilon": 0.0},
        {"optimizer": "rmsprop", "epsilon": 0.0},
        {"optimizer": "rmsprop", "beta_2": 1.0},
    ],
)
def test_settings_out_of_range(setup, settings):
    with pytest.raises(ValueError, match="setting is out of range"):
        setup.trainer(**settings)


def test_unknown_setting(setup):
    with pytest.raises(ValueError, match="unknown setting 'lr'"):
        setup.trainer(lr=1.0)
    with pytest.raises(ValueError, match="weights must be one of float_masters, int8, received float16"):
        setup.trainer(weights="float16")


def test_softmax_needs_as_many_classes_as_outputs(softmax):
    with pytest.raises(ValueError, match="setting is out of range"):
        softmax.trainer(num_classes=2)


def test_exceptions_of_the_model_come_out(setup):
    def broken(features):
        raise KeyError("from the model")

    trainer = _runtime.Trainer(setup.tables, broken, setup.net.run_frozen)
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    with pytest.raises(KeyError, match="from the model"):
        trainer.step()
    trainer = _runtime.Trainer(setup.tables, lambda x: setup.net.run_trainable(x)[:-1], setup.net.run_frozen)
    for image, label in zip(setup.images, setup.labels):
        trainer.add_sample(image, label)
    with pytest.raises(ValueError, match="must return 7 arrays, received 6"):
        trainer.step()


def break_tensor(index, **changes):
    return lambda net: net.tensors.__setitem__(index, dataclasses.replace(net.tensors[index], **changes))


def break_layer(index, **changes):
    return lambda net: net.layers.__setitem__(index, dataclasses.replace(net.layers[index], **changes))


def break_planes(num_planes):
    """Of an interior that could go by channel; it has 8."""

    def change(net):
        net.tensors[2].num_planes, net.tensors[3].num_planes = num_planes, 1

    return change


def replace_trained(**changes):
    return lambda net: net.trained.update({int(k[1:]): v for k, v in changes.items()})


@pytest.mark.parametrize(
    "change",
    [
        break_tensor(3, shape=(6, 5, 9)),
        break_tensor(3, scale=0.0),
        break_tensor(3, scale=-0.1),
        break_tensor(3, zero_point=200),
        break_tensor(3, kept=STORED_SAMPLE),
        break_tensor(3, kept=NONE),
        break_tensor(0, kept=NONE),
        break_tensor(5, kept=NONE),
        break_tensor(2, gradient_offset=2),
        break_tensor(2, gradient_offset=-8),
        break_tensor(3, num_planes=1),
        break_tensor(2, num_planes=1),
        break_planes(9),
        break_planes(17),
        break_planes(-1),
        break_tensor(6, num_planes=1),
        break_tensor(8, num_planes=1),
        break_tensor(11, num_planes=1),
        break_tensor(0, num_planes=1),
        break_tensor(2, gradient_offset=0),
        break_tensor(1, gradient_offset=NONE),
        break_tensor(11, gradient_offset=NONE),
        break_tensor(8, gradient_offset=NONE),
        break_tensor(0, gradient_offset=0),
        break_tensor(1, shape=(0, 5, 6)),
        break_layer(1, input=12),
        break_layer(1, input=-1),
        break_layer(1, input=5),
        break_layer(1, output=3),
        break_layer(4, input2=NONE),
        break_layer(4, input2=6),
        break_layer(1, input2=0),
        break_layer(1, accumulate=(False, False)),
        break_layer(3, accumulate=(True, False)),
        break_layer(4, accumulate=(False, True)),
        break_layer(2, window=(3, 3, 1, 1, 3, 1)),
        break_layer(2, window=(3, 3, 2, 1, 1, 1)),
        break_layer(2, window=(3, 0, 1, 1, 1, 0)),
        break_layer(2, window=(3, 3, 0, 1, 1, 1)),
        break_layer(10, kernel=None),
        break_layer(0, scales=np.zeros(6, np.float32)),
        replace_trained(_0=[3, 0]),
        replace_trained(_0=[3, 3]),
        replace_trained(_0=[6]),
        replace_trained(_4=[0]),
    ],
)
def test_tables_that_cannot_work_are_refused(change, tmp_path):
    net = small_net()
    change(net)
    tables, library = load_tables(net, tmp_path)
    assert _runtime.check_tables(tables) == "an index, size or pointer in the tables is out of range"
    with pytest.raises(ValueError, match="in the tables is out of range"):
        _runtime.Trainer(tables, net.run_trainable, net.run_frozen, owner=library)
