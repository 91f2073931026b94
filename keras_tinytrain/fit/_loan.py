"""What a callback replaces in a user's objects for the time of one `fit`, and how they become the user's own again."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_tinytrain.fit._other_callbacks import callback_list


class Loan:
    """Replaced methods, until `give_back` or the end of the `fit` that is calling `callback` at this moment.

    Keras tells callbacks nothing when a `fit` breaks off: by Ctrl-C, by an error in a batch, in validation or in another
    callback. Where an error passes a replaced method or another callback, everything is given back at once. Where it does not,
    the end of the `fit` is seen when its list of callbacks is deleted; or, where somebody keeps the traceback as notebooks do,
    by the next call of a replaced method, which finds no `fit` of its own up the stack and calls what it had replaced.

    Args:
        callback: in the list of a running `fit`.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback = callback
        self._undo: list[Callable[[], None]] = []
        callbacks = callback_list(callback)
        self._has_list = callbacks is not None  # a loop that calls the callback by hand has none
        if callbacks is not None:
            weakref.finalize(callbacks, self.give_back).atexit = False
            self._listen(callbacks)

    @property
    def lasts(self) -> bool:
        """Whether the fit that it belongs to is running."""
        return not self._has_list or callback_list(self._callback) is not None

    def replace(self, owner: Any, name: str, replacement: Callable) -> None:
        """Answer the method `name` of `owner` by `replacement`."""
        own = vars(owner).get(name)

        def answer(*args, **kwargs):
            if self.lasts:
                return self._passing_on(replacement, *args, **kwargs)
            self.give_back()
            return getattr(owner, name)(*args, **kwargs)

        def undo():
            if vars(owner).get(name) is answer:  # a new compile, or its user, may have set another
                vars(owner).pop(name)
                if own is not None:
                    vars(owner)[name] = own

        vars(owner)[name] = answer
        self.at_end(undo)

    def at_end(self, undo: Callable[[], None]) -> None:
        """Call `undo` when all is given back; the last one first."""
        self._undo.append(undo)

    def give_back(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _listen(self, callbacks):
        """Notice an error in another callback. The list is referred to weakly, so that it dies with its fit."""
        itself = weakref.ref(callbacks)
        for name in filter(lambda name: name.startswith("on_"), dir(callbacks)):
            method = getattr(type(callbacks), name)
            vars(callbacks)[name] = functools.partial(
                self._passing_on, lambda *args, method=method, **kwargs: method(itself(), *args, **kwargs)
            )

    def _passing_on(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (StopIteration, tf.errors.OutOfRangeError):  # the end of the data
            raise
        except BaseException:
            self.give_back()
            raise
