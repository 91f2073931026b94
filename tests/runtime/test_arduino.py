"""An export's .zip for an Arduino user: laid out as the IDE wants it; its sketch compiles against it alone."""

import io
import re
import shutil
import subprocess
import zipfile

import keras
import numpy as np
import pytest

from keras_tinytrain.export import TrainingSettings, export_tflm
from keras_tinytrain.export._library_zip import library_zip
from keras_tinytrain.plan import LayerPlan, Plan
from tests.runtime.paths import ROOT
from tests.runtime.programs import unpacked
from tests.runtime.test_sources import EMBEDDED, NANO_33_BLE
from tests.runtime.tflm import NAMESPACE, tflm  # noqa: F401

CORE = ROOT / "tests" / "runtime" / "arduino" / "nano33ble"
SKETCHES = ("serial", "imu")


@pytest.fixture(scope="module", params=SKETCHES)
def bundle(request, tmp_path_factory):
    """Of a model that takes windows of motion; "serial" without, "imu" with samples in flash and a frozen part."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 1, 6))
    x = keras.layers.Conv2D(8, (3, 1), activation="relu", name="first")(inputs)
    x = keras.layers.Conv2D(8, (3, 1), activation="relu", name="second")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    layer, features = {"serial": ("first", "ram"), "imu": ("second", "flash")}[request.param]
    x = np.random.default_rng(0).normal(size=(8, 16, 1, 6)).astype(np.float32)
    training = TrainingSettings(num_classes=2, max_samples=4)
    options = {"calibration": x, "training": training, "features": features, "sketch": request.param}
    return export_tflm(
        model,
        Plan((LayerPlan(layer, (0, 1)),)),
        out=tmp_path_factory.mktemp("arduino") / "wave 1",
        head="prototypes",
        **options,
    )


@pytest.fixture
def library(bundle, tmp_path):
    """The .zip, unpacked where the IDE would put it."""
    return unpacked(bundle, tmp_path)[0]


def test_library_has_the_layout_that_the_ide_wants(bundle, library):
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert library.name == properties["name"] and re.fullmatch(r"[A-Za-z0-9][\w.-]*", library.name)
    assert {path.name for path in library.iterdir()} >= {
        "library.properties",
        "keywords.txt",
        "README.md",
        "LICENSE",
        "src",
        "examples",
    }
    assert (library / "src" / properties["includes"]).is_file()
    sources = {path.name for path in (ROOT / "tflm_runtime" / "src").iterdir()}
    assert {path.name for path in (library / "src").iterdir()} == sources
    (example,) = (library / "examples").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]*", example.name) and (example / f"{example.name}.ino").is_file()
    (example / f"{example.name}.ino").rename(example / "sketch.ino")
    ours, theirs = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (bundle.path / "sketch", example))
    assert ours == theirs
    readme = (bundle.path / "README.md").read_text()
    assert f"Examples > TinyTrain > {example.name}" in readme and "TinyTrain.zip" in readme
    assert ("Arduino_LSM9DS1" in readme) == (bundle.manifest["sketch"] == "imu")


@pytest.mark.skipif(
    shutil.which("arm-none-eabi-g++") is None,
    reason="needs apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
)
def test_sketch_compiles_with_the_flags_of_the_boards_core(library, tflm, tmp_path):
    (example,) = (library / "examples").iterdir()
    flags = [
        *NANO_33_BLE,
        *EMBEDDED,
        f"-Dtflite={NAMESPACE}",
        *tflm.flags,
        f"-I{library / 'src'}",
        f"-I{CORE}",
        "-include",
        "Arduino.h",
    ]
    for source in (f"{example.name}.ino", "tables.cpp"):
        command = ["arm-none-eabi-g++", *flags, "-Wall", "-Werror", "-x", "c++", "-c", example / source]
        done = subprocess.run([*command, "-o", tmp_path / "object.o"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_library_keeps_arduino_lints_strict_rules(library):
    """By number, those that a library can break with what is in its folder."""
    lines = [line.split("=", 1) for line in (library / "library.properties").read_text().splitlines()]
    properties = dict(lines)
    fields = [
        "name",
        "version",
        "author",
        "maintainer",
        "sentence",
        "paragraph",
        "category",
        "url",
        "architectures",
        "includes",
        "depends",
    ]
    assert [name for name, _ in lines] == sorted(properties, key=fields.index)  # LP006: none is misspelled; none comes twice
    assert len(properties["name"]) <= 16 and " " not in properties["name"]  # LP010, LP015
    assert not re.search("arduino|library", properties["name"] + properties["maintainer"], re.IGNORECASE)  # LP012 to 16, LP057
    assert re.fullmatch(r"\d+\.\d+\.\d+", properties["version"])  # LP021
    assert properties["sentence"] not in properties["paragraph"]  # LP036
    assert properties["category"] == "Data Processing"  # LP037, LP039: one of the list
    assert properties["architectures"] == "*"  # LP043, LP045, LP046
    assert re.fullmatch(r"[\w ]+(,[\w ]+)*", properties["depends"])
    assert {path.name for path in library.iterdir()} >= {"README.md", "LICENSE"}  # LD001, LD002
    names = [path.relative_to(library).as_posix() for path in library.rglob("*")]
    assert not [name for name in names if re.search(r"\.development|\.exe$|\.pde$|(^|/)[Ee]xtra$", name)]  # LS006, LS011
    sources = "".join(path.read_text() for path in library.rglob("*") if path.suffix in (".h", ".cpp", ".ino"))
    assert "<arduino.h>" not in sources  # LC001


def test_two_archives_of_one_bundle_are_equal():
    with zipfile.ZipFile(io.BytesIO(library_zip("x", {"x.ino": b"1"}))) as archive:
        assert archive.read("TinyTrain/examples/x/x.ino") == b"1"
    assert library_zip("x", {"x.ino": b"1"}) == library_zip("x", {"x.ino": b"1"})


def test_unknown_kinds_of_sketches_are_refused(tmp_path):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, name="c")(inputs)))
    plan, options = Plan((LayerPlan("c", (0,)),)), {"calibration": np.zeros((1, 8, 8, 1), np.float32), "out": tmp_path / "b"}
    with pytest.raises(ValueError, match="sketch expects one of serial, imu, camera. Received: 'radar'"):
        export_tflm(model, plan, sketch="radar", **options)
    with pytest.raises(ValueError, match=r"takes windows \(steps, 1, 6\). Received a model that takes \(8, 8, 1\)"):
        export_tflm(model, plan, sketch="imu", **options)
