"""Run an action in a child process that is killed, or meets a full disk, at its n-th step on the file system, for every n.

Python reports each step (open, rename, link, mkdir, remove, the call of renameat2) to its audit hooks; `os.fsync` is not among
them and is counted here. A child is forked from a process without TensorFlow and without threads.
"""

import errno
import itertools
import os
import sys
from collections.abc import Callable

EVENTS = ("open", "os.", "shutil.", "ctypes.dlsym")


def at_every_step(action: Callable[[], object], check: Callable[[bool], None], way: str = "kill") -> int:
    """Call `check(finished)` after each child, and at last after the one that met nothing.

    Args:
        action: what each child does.
        check: raises where something was lost.
        way: "kill", or "full": the step fails as on a full disk, and the child goes on from there.

    Returns:
        The number of children that were stopped.
    """
    for step in itertools.count(1):
        child = os.fork()
        if child == 0:
            left = _stop_at(step, way)
            try:
                action()
            finally:
                os._exit(left[0] <= 0)
        finished = os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0
        check(finished)
        if finished:
            return step - 1
    raise AssertionError("unreachable")


def _stop_at(step, way):
    left = [step]

    def count():
        left[0] -= 1
        if left[0] == 0 and way == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if left[0] == 0:
            os._exit(9)

    os.fsync = lambda _: count()
    sys.addaudithook(lambda event, _: count() if event.startswith(EVENTS) else None)
    return left
