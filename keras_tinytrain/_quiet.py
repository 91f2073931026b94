"""Keep the chatter of TensorFlow's C++ and Python parts from the terminal."""

import contextlib
import os
import sys
import tempfile
import warnings


@contextlib.contextmanager
def quiet():
    """Swallow what is written to standard output and error, by C++ too; the yielded function returns it so far."""
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = _redirect(sink.fileno())

        def output():
            sink.seek(0)
            text = sink.read().decode(errors="replace")
            sink.seek(0, os.SEEK_END)
            return text

        try:
            with open(os.dup(sink.fileno()), "w", buffering=1) as python_sink, contextlib.redirect_stdout(python_sink):
                yield output
        finally:
            _restore(saved)


def load_tensorflow() -> None:
    """Import TensorFlow and Keras without a word."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        tf.zeros(1)  # the first operation writes about the devices it found


def _redirect(descriptor):
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    return saved


def _restore(saved):
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, original in enumerate(saved, start=1):
        os.dup2(original, descriptor)
        os.close(original)
