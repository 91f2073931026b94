"""Warnings of the package on the command line: lines like its others, in the words of its options."""

import argparse
import contextlib
import logging
from collections.abc import Iterator

import keras_tinytrain
from keras_tinytrain.cli.options import remark
from keras_tinytrain.cli.words import in_options


class _Remarks(logging.Handler):
    def __init__(self, args: argparse.Namespace):
        super().__init__()
        self._args = args

    def emit(self, record: logging.LogRecord) -> None:
        remark(in_options(record.getMessage(), self._args))


@contextlib.contextmanager
def warnings_as_remarks(args: argparse.Namespace) -> Iterator[None]:
    """What the package's modules log is told by `remark`, and not in the form of `logging`."""
    logger, handler = logging.getLogger(keras_tinytrain.__name__), _Remarks(args)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
