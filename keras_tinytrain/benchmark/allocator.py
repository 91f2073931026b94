"""Memory that TensorFlow holds, as its own CPU allocator counts it, in a process of its own."""

import os
import subprocess
import sys

import tensorflow as tf

_SMALL_BYTES = 4096  # of a tensor by which an allocator that counts all is told from one that counts large ones
_COUNTS_EVERY_BYTE = {"TF_CPU_ALLOCATOR_USE_BFC": "1"}


def check_allocator() -> None:
    """Raise ValueError where the allocator of this process does not count every byte.

    TensorFlow's plain allocator counts nothing; oneDNN's, the default on some CPUs, only tensors above 256 KB.
    """
    try:
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
        small = tf.random.uniform([_SMALL_BYTES // 4])
        counted = tf.config.experimental.get_memory_info("CPU:0")["current"] - before >= small.dtype.size * small.shape[0]
    except ValueError:
        counted = False
    if not counted:
        raise ValueError(
            "There are no full memory stats for device CPU:0: set TF_CPU_ALLOCATOR_USE_BFC=1 before TensorFlow starts."
        )


def forget_peak() -> None:
    """Let `peak_bytes` count from here."""
    tf.config.experimental.reset_memory_stats("CPU:0")


def peak_bytes() -> int:
    """Most bytes that the allocator held at once since `forget_peak`."""
    return tf.config.experimental.get_memory_info("CPU:0")["peak"]


def run_elsewhere(code: str, *arguments: str, what: str) -> str:
    """The last line that Python code prints in a fresh process whose allocator counts every byte.

    Args:
        code: of the process; `arguments` are its sys.argv[1:].
        what: that is measured, for the error.

    Raises:
        OSError: the process failed; the message ends in the last line of its errors.
    """
    environment = {**os.environ, **_COUNTS_EVERY_BYTE, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"measuring {what} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.splitlines()[-1]
