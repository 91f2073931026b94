"""Where the runtime's sources lie."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tflm_runtime" / "src"
