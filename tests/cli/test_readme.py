"""The README's few-shot and export code runs as it is printed, on handwritten digits."""

import pathlib
import re

import numpy as np

from keras_tinytrain import Delta, adapt
from keras_tinytrain.backbones import NanoNet
from keras_tinytrain.data import load_digits, sample_episode
from keras_tinytrain.fewshot import classifier_from_delta

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def _run(first_line, names):
    """Run the one code block of the README that begins with `first_line`."""
    (code,) = (
        code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if code.startswith(first_line)
    )
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 the project's own README


def test_readme_few_shot_code_learns_adds_a_class_and_saves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = sample_episode(load_digits(), ways=6, shots=5, queries=10, rng=np.random.default_rng(1))
    known, backbone = task.support_y < 5, NanoNet()
    names = {"adapt": adapt, "backbone": backbone, "x": task.support_x[known], "y": task.support_y[known]}
    names |= {"x_of_another": task.support_x[~known], "x_held": task.query_x, "y_held": task.query_y}
    _run("learned = adapt(", names)
    again = classifier_from_delta(backbone, Delta.load("task.delta"))
    np.testing.assert_allclose(again.logits(task.query_x), names["learned"].logits(task.query_x), rtol=1e-5, atol=1e-5)


def test_readme_export_code_learns_in_the_exported_c_plus_plus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = sample_episode(load_digits(), ways=5, shots=5, queries=10, rng=np.random.default_rng(1))
    names = {"backbone": NanoNet(), "support_x": task.support_x, "support_y": task.support_y, "query_x": task.query_x}
    _run("from keras_tinytrain import Budget, adapt\n", names)
    assert np.mean(names["host"].predict(task.query_x).argmax(axis=1) == task.query_y) > 0.85
