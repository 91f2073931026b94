"""Fill in the templates of a bundle: C++ sources, the sketch, README.md."""

import functools
import json
import re
import typing

import numpy as np

if typing.TYPE_CHECKING:
    import jinja2


def render(template: str, **values: object) -> str:
    """A file of export/templates/, filled in.

    Raises:
        ImportError: jinja2 is not installed.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> "jinja2.Environment":
    """One for all, since it keeps the templates that it has compiled."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('Writing a bundle needs jinja2. Install it with: pip install "keras-tinytrain[host]"') from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= _FILTERS
    return environment


def identifier(name: str) -> str:
    """The C++ namespace of a bundle. It is no keyword and never begins with a digit."""
    return "bundle_" + re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()


def float32(value: float) -> str:
    """A float literal that reads back as the same float32: nine significant digits."""
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def resolver_method(operator: str) -> str:
    """The method of MicroMutableOpResolver that registers an operator: DEPTHWISE_CONV_2D -> AddDepthwiseConv2D."""
    return "Add" + "".join(word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))


def _byte_rows(data: bytes) -> str:
    return "\n".join(" ".join(f"{byte}," for byte in data[row : row + 24]) for row in range(0, len(data), 24))


_FILTERS: dict[str, typing.Any] = {
    "float32": float32,
    "quoted": lambda text: json.dumps(text, ensure_ascii=False),
    "byte_rows": _byte_rows,
    "resolver": resolver_method,
}
