"""What every test needs: import order, the source tree as a package, and no silent skips in CI."""

import contextlib
import importlib.util
import os
import pathlib
import sys

with contextlib.suppress(ImportError):  # tflite-runtime must be imported before TensorFlow, or the two share one set of kernels
    import tflite_runtime.interpreter  # noqa: F401

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis
import pytest

import keras_tinytrain

hypothesis.settings.register_profile("ci", derandomize=True)  # the same examples for the same code; elsewhere they vary
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent

# Folders and files that compile much C++, run an emulator, meta-train, or use the paper's networks: `-m "not slow"` leaves them out.
SLOW = (
    "backbones/test_backbones.py",
    "backbones/test_imagenet_weights.py",
    "benchmark",
    "choose/test_estimate.py",
    "choose/test_promises.py",
    "cli/test_demo.py",
    "cli/test_examples.py",
    "cli/test_profile.py",
    "cli/test_route.py",
    "export/test_board_arenas.py",
    "export/test_qat.py",
    "firmware",
    "metatrain",
    "page",
    "run/test_on_grid.py",
    "runtime/test_arduino.py",
    "runtime/test_camera.py",
    "runtime/test_cortex_m4.py",
    "runtime/test_fuzz.py",
    "runtime/test_networks.py",
    "runtime/test_projects.py",
    "runtime/test_sanitizers.py",
    "runtime/test_sketch.py",
    "runtime/test_sources.py",
    "runtime/test_tflm.py",
    "runtime/test_tflm_layouts.py",
    "runtime/test_tidy.py",
    "trust",
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """The same weights, dropout and shuffles in every run: before the fixtures, those of a module too."""
    import keras  # not above: where it is missing, this file is read too

    keras.utils.set_random_seed(0)


def _map_package(name):
    """Import folder `name` of the source tree into keras_tinytrain where the installed package is not editable."""
    full_name, folder = f"keras_tinytrain.{name}", ROOT / name
    try:
        importlib.util.find_spec(full_name)
    except ImportError:
        spec = importlib.util.spec_from_file_location(
            full_name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        setattr(keras_tinytrain, name, module)
        spec.loader.exec_module(module)


_map_package("tflm_runtime")
_map_package("export")

# Beside an installed wheel the source tree has no compiled extension: take the wheel's.
_installed = [pathlib.Path(entry) / "keras_tinytrain" for entry in sys.path if pathlib.Path(entry) != ROOT]
keras_tinytrain.__path__ += [str(folder) for folder in _installed if folder.is_dir()]

if path := os.environ.get("TINYTRAIN_RUNTIME"):  # an extension with sanitizers, built by trust/reliability.py
    spec = importlib.util.spec_from_file_location("keras_tinytrain._runtime", path)
    sys.modules[spec.name] = keras_tinytrain._runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keras_tinytrain._runtime)


@pytest.fixture
def tried(record_property):
    """`tried(kind, number, refused=None)`: so many trials of a kind had no other end than they should.

    trust/reliability.py adds them up. `refused` of them ended in an error of one sentence; None: where nothing is refused.
    """

    def record(kind, number, refused=None):
        record_property("tried", f"{kind}|{number}|{'' if refused is None else refused}")

    return record


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real weights and data sets beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the development data in {folder}, which is not part of the package")
    return folder


def pytest_configure():
    if missing := [name for name in SLOW if not (TESTS / name).exists()]:
        raise pytest.UsageError(f"tests/conftest.py: SLOW names what is not there: {', '.join(missing)}")


def pytest_collection_modifyitems(items):
    for item in items:
        if any(item.path.is_relative_to(TESTS / name) for name in SLOW):
            item.add_marker("slow")
        if item.path.is_relative_to(TESTS / "trust"):
            item.add_marker("trust")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # what takes long comes first


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
