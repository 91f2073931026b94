"""A bundle as a library: a .zip with the runtime, as five build systems take it, and the bundle's project as its example."""

import io
import zipfile

FILE = "TinyTrain.zip"
_FOLDER = FILE.removesuffix(".zip")  # the name in library.properties
_WHEN = (1980, 1, 1, 0, 0, 0)  # the same bytes on every export
_PACKAGE = (  # what makes src/ a library of each
    "LICENSE",
    "README.md",
    "library.properties",  # Arduino
    "keywords.txt",
    "library.json",  # PlatformIO
    "idf_component.yml",  # ESP-IDF
    "partitions.csv",
    "zephyr/module.yml",  # Zephyr
    "zephyr/Kconfig",
    "zephyr/CMakeLists.txt",
    "CMakeLists.txt",  # ESP-IDF and CMake
    "cmake/TinyTrainConfig.cmake",
    "cmake/TinyTrainWithTflm.cmake",
)


def library_zip(example: str, project: dict[str, bytes]) -> bytes:
    """The .zip: one folder with the library, and examples/<example>/.

    Args:
        example: name of the project; in the Arduino IDE that of the sketch in the menu.
        project: {path below its folder: contents}.
    """
    from keras_tinytrain.tflm_runtime import source_dir

    root = source_dir().parent
    files = {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(source_dir().rglob("*.*"))}
    files |= {name: (root / name).read_bytes() for name in _PACKAGE}
    files |= {f"examples/{example}/{name}": data for name, data in project.items()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"{_FOLDER}/{name}", _WHEN), data, zipfile.ZIP_DEFLATED)
    return target.getvalue()
