"""Runs a command that ends with whoever started it: `python _ended_with.py PIPE COMMAND ...`.

PIPE is the number of a pipe's reading end. Its writing end is the starter's alone, and closes when the starter ends, however that
happens: then the command is killed. Standard input and output and all inherited files are the command's. The exit code, too.
"""

import os
import subprocess
import sys
import threading


def main(pipe: str, *command: str) -> int:
    """Run the command. Returns its exit code; negative: the signal that ended it."""
    with subprocess.Popen(command, close_fds=False) as process:
        threading.Thread(target=_kill_after, args=(int(pipe), process), daemon=True).start()
        return process.wait()


def _kill_after(pipe: int, process: subprocess.Popen) -> None:
    os.read(pipe, 1)  # nothing is ever written
    process.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
