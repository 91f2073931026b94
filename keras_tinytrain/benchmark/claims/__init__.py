"""`keras-tinytrain benchmark claims`: the paper's abstract, claim by claim, computed and measured."""

import typing

from keras_tinytrain._public import lazy_names

if typing.TYPE_CHECKING:
    from keras_tinytrain.benchmark.claims.command import run

__all__ = ["run"]
__getattr__, __dir__ = lazy_names(__name__, {"run": "command"})
