"""`benchmark classes`: figures before and after additions; a table comes of it, on the device too."""

import numpy as np
import pytest

from keras_tinytrain.benchmark.classes import figures
from keras_tinytrain.cli import main


def test_figures_tell_confusion_with_new_classes_from_forgetting():
    logits, labels = np.array([[3, 1, 2], [1, 2, 3], [2, 1, 0], [0, 0, 1]]), np.array([0, 1, 1, 2])
    found = figures(logits, labels, 2)
    assert found == {"first": pytest.approx(1 / 3), "among_first": pytest.approx(2 / 3), "all": 0.5}


def test_command_adds_classes_and_runs_nothing_again(tmp_path, capsys):
    arguments = ["benchmark", "classes", "--backbone", "nanonet", "--domains", "digits", "--episodes", "1", "--shots", "2"]
    arguments += ["--ways", "2", "--additions", "2", "--queries", "3", "--learners", "cosine", "ridge", "device"]
    for _ in range(2):
        assert main([*arguments, "--out", str(tmp_path / "rows.csv")]) == 0
    text, rows = capsys.readouterr().out, (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 3 and "forgotten, points" in text and "device" in text
