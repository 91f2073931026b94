"""Packages and the C++ extension; everything else stands in pyproject.toml."""

import glob

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

ParallelCompile().install()

setup(
    packages=[
        "keras_tinytrain",
        "keras_tinytrain.backbones",
        "keras_tinytrain.benchmark",
        "keras_tinytrain.benchmark.zoo",
        "keras_tinytrain.choose",
        "keras_tinytrain.cli",
        "keras_tinytrain.cli.report",
        "keras_tinytrain.data",
        "keras_tinytrain.delta",
        "keras_tinytrain.export",
        "keras_tinytrain.export.backward",
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
    cmdclass={"build_ext": build_ext},
)
