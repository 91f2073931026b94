"""The user's optimizer, which stays the model's, and the one that trains the chosen channels in its place."""

import contextlib
import functools
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.fit._loan import Loan
from keras_tinytrain.model.private_keras import step_counter


class BorrowedOptimizer:
    """Lets the optimizer of the chosen channels follow the model's own, which callbacks read and set.

    The learning rate goes from the model's optimizer to that of the channels before each call of the train function; the number
    of steps goes the other way after it, and is as before once the loan ends.

    Args:
        loan: of the running `fit`.
        model: compiled.
        channels: what `sparse.channel_optimizer` made of the model's optimizer.
    """

    def __init__(self, loan: Loan, model: keras.Model, channels: keras.optimizers.Optimizer):
        self._loan, self._model, self._own, self.channels = loan, model, model.optimizer, channels
        inner = getattr(self._own, "inner_optimizer", self._own)
        self._has_schedule = not isinstance(inner.get_config()["learning_rate"], numbers.Number)
        self._steps = step_counter(self._own)
        loan.at_end(functools.partial(self._steps.assign, int(self._steps)))
        if hasattr(channels, "finalize_variable_values"):  # `fit` calls it on the model's optimizer when it ends
            loan.replace(self._own, "finalize_variable_values", channels.finalize_variable_values)

    def following(self, function: Callable[[Any], dict]) -> Callable[[Any], dict]:
        """The train function `function`, before and after which the two optimizers are made equal."""

        def run(iterator):
            if not self._has_schedule:
                self.channels.learning_rate.assign(float(self._own.learning_rate))
            logs = function(iterator)
            self._steps.assign(step_counter(self.channels))
            return logs

        return run

    def forget(self) -> None:
        """Set the channels' state to zero, for other channels; the counters, which are scalars, stay."""
        variables = self.channels.variables
        for variable in variables() if callable(variables) else variables:
            if len(variable.shape):
                variable.assign(tf.zeros_like(variable))

    @contextlib.contextmanager
    def in_model(self) -> Iterator[None]:
        """Inside it, the model's optimizer is that of the channels."""
        self._model.optimizer = self.channels
        try:
            yield
        finally:
            self._model.optimizer = self._own

    def back_up_with(self, callback: keras.callbacks.Callback) -> None:
        """Let a BackupAndRestore of this fit save the state of the channels' optimizer, from which a later fit resumes."""
        for name in ("on_train_batch_end", "on_epoch_end"):
            self._loan.replace(callback, name, self._inside(getattr(callback, name)))

    def _inside(self, method):
        def call(*args, **kwargs):
            with self.in_model():
                return method(*args, **kwargs)

        return call
