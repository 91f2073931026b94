"""Packages, the C++ extension, and README's links; everything else stands in pyproject.toml."""

import glob
import pathlib
import re
import shutil
import sysconfig

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

REPOSITORY = "https://github.com/keras-tinytrain/keras-tinytrain"

ParallelCompile().install()


class BuildWithACompiler(build_ext):
    """Builds the extension; without a C++ compiler it is left out, for those who train in Keras alone. An error of the compiler
    is an error."""

    def run(self):
        compiler = sysconfig.get_config_var("CXX") or "c++"
        if not any(shutil.which(name) for name in (compiler.split()[0], "c++", "g++", "clang++")):
            self.extensions.clear()
            self.warn(
                "no C++ compiler was found: keras_tinytrain._runtime, which HostRuntime and EdgeRuntime need, is left out"
            )
        super().run()


def readme():
    """README with links into the repository, so that they lead somewhere on an index too."""
    text = pathlib.Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{REPOSITORY}/raw/main/", text)
    return re.sub(r"(?<=\]\()(?!https?:|#)", f"{REPOSITORY}/blob/main/", text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    packages=[
        "keras_tinytrain",
        "keras_tinytrain.backbones",
        "keras_tinytrain.benchmark",
        "keras_tinytrain.benchmark.claims",
        "keras_tinytrain.benchmark.zoo",
        "keras_tinytrain.choose",
        "keras_tinytrain.cli",
        "keras_tinytrain.cli.report",
        "keras_tinytrain.data",
        "keras_tinytrain.delta",
        "keras_tinytrain.export",
        "keras_tinytrain.export.backward",
        "keras_tinytrain.export.page",
        "keras_tinytrain.export.tflite",
        "keras_tinytrain.fewshot",
        "keras_tinytrain.fit",
        "keras_tinytrain.metatrain",
        "keras_tinytrain.model",
        "keras_tinytrain.run",
        "keras_tinytrain.tflm_runtime",
    ],
    package_dir={"keras_tinytrain.export": "export", "keras_tinytrain.tflm_runtime": "tflm_runtime"},
    include_package_data=False,  # what is named here, and nothing that only MANIFEST.in names
    package_data={
        "keras_tinytrain": ["py.typed"],
        "keras_tinytrain.backbones": ["weights/*"],
        "keras_tinytrain.cli.report": ["templates/*.j2"],  # filled in by Jinja2, which the extra "host" has for bundles already
        "keras_tinytrain.export": ["templates/*.j2", "templates/projects/**/*"],
        "keras_tinytrain.export.page": ["templates/*"],
        "keras_tinytrain.tflm_runtime": [
            "src/**/*",
            "firmware/*",
            "zephyr/*",
            "cmake/*",
            *("CMakeLists.txt", "library.properties", "keywords.txt", "library.json", "idf_component.yml", "partitions.csv"),
            *("README.md", "LICENSE"),
        ],
    },
    ext_modules=[
        Pybind11Extension(
            "keras_tinytrain._runtime",
            sorted(glob.glob("tflm_runtime/python/*.cpp") + glob.glob("tflm_runtime/src/**/*.cpp", recursive=True)),
            include_dirs=["tflm_runtime/src"],
            depends=sorted(glob.glob("tflm_runtime/**/*.h", recursive=True)),
            cxx_std=17,
            # The same floats as on the device; a gap in a switch is an error.
            extra_compile_args=["-O2", "-ffp-contract=off", "-Werror=switch"],
        )
    ],
    cmdclass={"build_ext": BuildWithACompiler},
)
