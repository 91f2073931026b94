"""A bundle for the Arduino IDE: a .zip for "Add .ZIP Library" with the runtime, and the bundle's sketch as its example."""

import io
import zipfile

FILE = "TinyTrain.zip"
_FOLDER = FILE.removesuffix(".zip")  # the name in library.properties
_WHEN = (1980, 1, 1, 0, 0, 0)  # the same bytes on every export


def arduino_library(example: str, sketch: dict[str, bytes]) -> bytes:
    """The .zip: one folder with library.properties and keywords.txt at its root, src/ and examples/<example>/.

    Args:
        example: name of the sketch in the IDE's menu.
        sketch: {file name: contents}; "sketch.ino" becomes <example>.ino, as the IDE wants it.
    """
    from keras_tinytrain.tflm_runtime import source_dir

    root = source_dir().parent
    files = {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(source_dir().rglob("*.*"))}
    files |= {name: (root / name).read_bytes() for name in ("library.properties", "keywords.txt")}
    files |= {f"examples/{example}/{name.replace('sketch.ino', f'{example}.ino')}": data for name, data in sketch.items()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", _WHEN), data, zipfile.ZIP_DEFLATED)
    return target.getvalue()
