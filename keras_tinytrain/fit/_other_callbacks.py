"""The other callbacks of the running `fit`, which Keras does not tell a callback about."""

import sys
import types

import keras


def other_callbacks(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The callbacks of the list that is calling `callback` at this moment, except itself; empty where no list calls it.

    The `CallbackList` of Keras and of tf_keras calls each callback from a method, so the list is found further up the stack.
    """
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        members = getattr(frame.f_locals.get("self"), "callbacks", None)
        if isinstance(members, list) and any(member is callback for member in members):
            return [member for member in members if member is not callback]
        frame = frame.f_back
    return []
