"""Every example runs as it stands, and the README shows the same lines."""

import ast
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    accuracies = [float(text) for text in re.findall(r"accuracy (\d\.\d+)", done.stdout)]
    assert accuracies and min(accuracies) > 0.85, done.stdout
    assert (tmp_path / "digits.delta").stat().st_size > 100


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_imports_public_names_only(example):
    imports = [node for node in ast.walk(ast.parse(example.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.partition(".")[0] == "keras_tinytrain"]
    assert ours
    for node in ours:
        assert {alias.name for alias in node.names} <= set(importlib.import_module(node.module).__all__), node.module


def test_the_readme_begins_with_the_first_example():
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert code.strip() in (ROOT / "examples" / "quickstart.py").read_text()
