"""What a callback replaces in a user's objects for the time of one `fit`, and how they become the user's own again."""

import weakref
from collections.abc import Callable
from typing import Any

import keras

from keras_tinytrain.fit._other_callbacks import callback_list


class Loan:
    """Replaced methods, until `give_back` or the end of the `fit` that is calling `callback` at this moment.

    Keras tells callbacks nothing when a `fit` breaks off: by Ctrl-C, by an error in a batch, in validation or in another
    callback. So a replaced method looks up the stack for its own `fit` at each call. Where it finds none, it gives everything
    back and calls what it had replaced. Nothing else of the user's objects differs between two batches.

    Args:
        callback: in the list of a running `fit`.
    """

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback = callback
        self._undo: list[Callable[[], None]] = []
        callbacks = callback_list(callback)
        self._checks = callbacks is not None  # a loop that calls the callback by hand has no list
        if self._checks:  # the list dies with its fit, unless an error that somebody keeps holds its frame
            weakref.finalize(callbacks, self.give_back).atexit = False

    @property
    def lasts(self) -> bool:
        """Whether the fit that it belongs to is running."""
        return not self._checks or callback_list(self._callback) is not None

    def replace(self, owner: Any, name: str, replacement: Callable) -> None:
        """Answer the method `name` of `owner` by `replacement`."""
        own = vars(owner).get(name)

        def answer(*args, **kwargs):
            if self.lasts:
                return replacement(*args, **kwargs)
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
