"""However a fit ends, the model is the user's own again: optimizer, train step, train function, settings."""

import gc

import keras
import numpy as np
import pytest
from callbacks import callback, compiled
from models import batch


class Stop(keras.callbacks.Callback):
    """Raises in one hook."""

    def __init__(self, hook, error):
        super().__init__()
        self.error = error
        setattr(self, hook, self._raise)

    def _raise(self, *_, **__):
        raise self.error("stop")


def assert_is_its_users(model, optimizer):
    assert model.optimizer is optimizer and "train_step" not in vars(model)
    assert model.get_layer("norm").trainable
    before = model.get_weights()
    model.fit(*batch(), verbose=0)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights())), "a plain fit moves everything"
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize("hook", ["train_begin", "train_batch_begin", "test_batch_end", "epoch_end"])
def test_error_in_another_callback(hook):
    model = compiled()
    optimizer = model.optimizer
    with pytest.raises(KeyboardInterrupt):
        model.fit(*batch(), validation_data=batch(), callbacks=[callback(), Stop(f"on_{hook}", KeyboardInterrupt)], verbose=0)
    gc.collect()
    assert model.train_function.__qualname__.startswith("TensorFlowTrainer")
    assert_is_its_users(model, optimizer)


def test_interrupt_while_validating_with_the_traceback_kept():
    """As in a notebook, where sys.last_traceback keeps the frame of `fit` alive."""
    model, kept = compiled(), []
    optimizer = model.optimizer

    def interrupted(*_):
        raise KeyboardInterrupt

    model.test_function = interrupted
    try:
        model.fit(*batch(), validation_data=batch(), callbacks=[callback()], verbose=0)
    except KeyboardInterrupt as error:
        kept.append(error)
    assert kept and model.optimizer is optimizer
    assert_is_its_users(model, optimizer)


def test_model_is_compiled_anew_after_a_broken_fit():
    model = compiled()
    with pytest.raises(RuntimeError):
        model.fit(*batch(), callbacks=[callback(), Stop("on_epoch_end", RuntimeError)], verbose=0)
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    gc.collect()
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert_is_its_users(model, model.optimizer)


def test_callback_of_a_broken_fit_trains_in_the_next_one():
    model, tiny = compiled(), callback()
    optimizer = model.optimizer
    with pytest.raises(RuntimeError):
        model.fit(*batch(), callbacks=[tiny, Stop("on_epoch_end", RuntimeError)], verbose=0)
    first = tiny.plan
    frozen = model.get_layer("stem").kernel.numpy() if "stem" not in [layer.name for layer in first.layers] else None
    model.fit(*batch(), callbacks=[tiny], verbose=0)
    assert tiny.delta is not None and model.optimizer is optimizer
    if frozen is not None:
        assert np.array_equal(frozen, model.get_layer("stem").kernel)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_broken_fit_of_either_keras(package):
    package = pytest.importorskip(package)
    package.utils.set_random_seed(0)
    model = package.Sequential([package.Input((6,)), package.layers.Dense(8), package.layers.Dense(3, name="head")])
    model.compile("adam", "mse")
    optimizer, x = model.optimizer, np.ones((8, 6), np.float32)

    class Broken(package.callbacks.Callback):
        def on_test_begin(self, logs=None):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        model.fit(x, x[:, :3], validation_data=(x, x[:, :3]), callbacks=[callback(), Broken()], verbose=0)
    assert model.optimizer is optimizer
    before = model.get_weights()
    model.fit(x, x[:, :3], verbose=0)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
