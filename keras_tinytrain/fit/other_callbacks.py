"""The other callbacks of the `fit` that is running, which Keras does not tell a callback of."""

import sys


def callbacks_beside(callback) -> list:
    """Callbacks of the list that is calling `callback` at this moment, without it; empty where no list is.

    Keras' and tf_keras' `CallbackList` call each callback from a method of theirs, so the list stands further up the stack.
    """
    frame = sys._getframe()
    while frame is not None:
        members = getattr(frame.f_locals.get("self"), "callbacks", None)
        if isinstance(members, list) and any(member is callback for member in members):
            return [member for member in members if member is not callback]
        frame = frame.f_back
    return []
