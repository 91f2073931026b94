"""Write a report: one .html file that needs nothing else, and a .json file with the same values."""

import base64
import json
import os
import pathlib
import struct
import zlib
from typing import Any

import numpy as np

from keras_tinytrain._files import write_file

Values = dict[str, Any]  # of `content`


def check_report(path: str | os.PathLike) -> None:
    """Raise ValueError or ImportError where no report can be written to `path`: before anything takes time."""
    file = pathlib.Path(path)
    if file.suffix != ".html":
        raise ValueError(f"--report expects a file that ends in .html, such as report.html. Received: {path}")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"There is no folder {file.absolute().parent} for the report: make it, or name another file.")
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ImportError('A report needs jinja2. Install it with: pip install "keras-tinytrain[host]"') from error


def write_report(path: str | os.PathLike, values: Values) -> None:
    """Write `values` as a page, and beside it as JSON with the page's name. Files that are there are replaced."""
    file = pathlib.Path(path)
    write_file(file, rendered(values))
    write_file(file.with_suffix(".json"), json.dumps(values, indent=1) + "\n")


def rendered(values: Values) -> str:
    """The page. All words of a bundle are escaped, and the page allows no script and no address outside itself."""
    import jinja2

    from keras_tinytrain._text import duration, kilobytes
    from keras_tinytrain.cli.report import drawings

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__), autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True
    )
    environment.filters |= {"duration": duration, "kilobytes": kilobytes}
    return environment.get_template("report.html.j2").render(values, draw=drawings)


def picture(image: np.ndarray) -> str:
    """A PNG of grey levels as an address that holds it.

    Args:
        image: (height, width, channels) in [0, 1], ink 1 on a background of 0; shown as dark ink on white.
    """
    grey = np.round(255 * (1 - np.clip(image.mean(axis=-1), 0, 1))).astype(np.uint8)
    height, width = grey.shape
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
