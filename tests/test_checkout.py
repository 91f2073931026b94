"""Python that runs in the root of a checkout says what hides the installed package."""

import pathlib
import shutil
import subprocess
import sys

import pytest

import keras_tinytrain


@pytest.mark.parametrize(
    "statement",
    [
        "import keras_tinytrain.export",
        "from keras_tinytrain import _runtime",
        "from keras_tinytrain.tflm_runtime import headers",
        "from keras_tinytrain.run import HostRuntime",
    ],
)
def test_import_in_a_checkout_that_is_not_installed_names_the_remedy(statement, tmp_path):
    sources = pathlib.Path(keras_tinytrain.__file__).parent
    shutil.copytree(sources, tmp_path / "keras_tinytrain", ignore=shutil.ignore_patterns("*.so", "__pycache__", "weights"))
    installed = f"import sys; sys.path += {[entry for entry in sys.path if entry.endswith('-packages')]}"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"{installed}; {statement}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "belongs to a checkout, which hides the installed package: start Python in another folder" in done.stderr
