"""What Python and C++ share, read from the C++ headers: nothing of it is written down a second time."""

import functools
import re

from keras_tinytrain.tflm_runtime import source_dir


@functools.cache
def constant(header: str, name: str) -> int:
    """The value of `constexpr <type> <name> = <number>;`.

    Args:
        header: path of the header below `source_dir()`.
        name: such as "kFlashBlockBytes".

    Raises:
        KeyError: the header has no such constant.

    Example:
        >>> constant("tinytrain_flash.h", "kFlashBlockBytes")
        256
    """
    text = (source_dir() / header).read_text(encoding="utf-8")
    found = re.search(rf"constexpr [\w:]+ {name} = (-?\d+);", text)
    if not found:
        raise KeyError(f"{header} has no constant {name}")
    return int(found[1])
