"""Nothing goes on after whoever started it has ended, however that happened."""

import os
import signal
import subprocess
import sys
import time

import pytest

BOARD = """
import signal, sys
from keras_tinytrain.run.emulator import COMMAND, _on_a_leash
board = _on_a_leash([*COMMAND, "-serial", "none", "-S", "-pidfile", sys.argv[1]], [])
signal.pause()
"""


def wait_for(condition):
    """Within ten minutes, on however busy a machine; it takes seconds."""
    for _ in range(6000):
        if condition():
            return True
        time.sleep(0.1)
    return False


def runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_emulator_ends_with_whoever_started_it(number, tmp_path, tried):
    file = tmp_path / "pid"
    starter = subprocess.Popen([sys.executable, "-c", BOARD, file])
    assert wait_for(lambda: file.is_file() and file.read_text().endswith("\n"))
    pid = int(file.read_text())
    assert runs(pid)
    starter.send_signal(number)
    starter.wait()
    assert wait_for(lambda: not runs(pid))
    tried("kill of whoever started the emulator", 1)
