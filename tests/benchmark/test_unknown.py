"""`benchmark unknown`: what is known, what is not, and what is given to learn from do not overlap; a table comes of it."""

import dataclasses

import numpy as np
import pytest

from keras_tinytrain.benchmark.jobs import Settings
from keras_tinytrain.benchmark.runner import Runner
from keras_tinytrain.benchmark.tasks import TaskShape, draw_task
from keras_tinytrain.benchmark.unknown import auroc, draw_open_task
from keras_tinytrain.cli import main


@pytest.fixture(scope="module")
def runner():
    return Runner(Settings("nanonet", "", ("digits",), TaskShape("fixed", 5, 3, 4)))


def test_known_unknown_and_negatives_are_of_different_classes(runner):
    task = draw_open_task(runner, "digits", 0, 5)
    seen = {name: {x.tobytes() for x in samples} for name, samples in draw_all(runner).items()}
    assert sorted(np.unique(task.known.support_y)) == [0, 1, 2, 3, 4] and len(task.known.query_x) == 20
    assert len(task.negatives) == 5 and len(task.unknown) == 12  # of 10 digits: 5 known, 2 to learn from, 3 unknown
    assert {x.tobytes() for x in task.negatives} <= seen["given"]
    assert {x.tobytes() for x in task.unknown} == seen["asked"]


def draw_all(runner):
    """The same task as one of 10 ways: supports of ways 5, 6 and queries of ways 7, 8, 9."""
    shape = dataclasses.replace(runner.settings.shape, ways=10)
    task = draw_task(runner.domains["digits"], shape, runner.backbone.input_shape[1:], seed=0, episode=0)
    return {"given": task.support_x[np.isin(task.support_y, [5, 6])], "asked": task.query_x[task.query_y >= 7]}


def test_area_under_the_curve_counts_ties_half():
    assert auroc(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == 0.75


def test_command_runs_and_runs_nothing_again(tmp_path, capsys):
    arguments = ["benchmark", "unknown", "--backbone", "nanonet", "--domains", "digits", "--episodes", "1", "--shots", "3"]
    arguments += ["--queries", "4", "--methods", "none", "--out", str(tmp_path / "rows.csv")]
    for _ in range(2):
        assert main(arguments) == 0
    text, rows = capsys.readouterr().out, (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 and "none familiarity with negatives" in text and "AUROC" in text
