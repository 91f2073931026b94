"""The other callbacks of the running `fit`, which Keras does not tell a callback about."""

import sys
import types

import keras


def other_callbacks(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The callbacks of the `fit` that is running, except `callback`; empty where no list is calling it."""
    running = callback_list(callback)
    return [] if running is None else [member for member in running.callbacks if member is not callback]


def callback_list(callback: keras.callbacks.Callback) -> keras.callbacks.CallbackList | None:
    """The list with `callback` that a `fit` further up the stack is using at this moment, None where there is none.

    `fit` of Keras and of tf_keras has it in a variable `callbacks`; the list calls each callback from a method of its own.
    """
    frame: types.FrameType | None = sys._getframe(1)  # its own frame would refer to itself, and keep all others alive
    while frame is not None:
        for name in ("callbacks", "self"):
            found = frame.f_locals.get(name)
            members = getattr(found, "callbacks", None)
            if isinstance(members, list) and any(member is callback for member in members):
                return found
        frame = frame.f_back
    return None
