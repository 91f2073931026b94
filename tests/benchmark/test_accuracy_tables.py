"""Tables of the accuracy benchmark: intervals and paired differences by hand, resumable files, the figure."""

import math

import numpy as np
import pytest

from keras_tinytrain.benchmark import accuracy_figure
from keras_tinytrain.benchmark.accuracy_figure import write_accuracy_figure
from keras_tinytrain.benchmark.accuracy_tables import Accuracies, Interval, report
from keras_tinytrain.benchmark.results import FIELDS, append_results, key, read_results

ABOUT = {"backbone": "nanonet", "pretrained": "omniglot", "task": "t", "seed": 0, "iterations": 20, "budget": "b"}
ABOUT |= {"learning_rate": 0.1}
FIGURES = {"trained_weights": 10, "memory_bytes": 2**20, "device_bytes": 2048, "backward_macs": 3e6, "seconds": 0.5}
# accuracy of (none, tinytrain, last_layer) by task; last_layer was not run on the last
VALUES = {("a", 0): (50, 60, 49), ("a", 1): (70, 76, 67), ("b", 0): (20, 17.5, None)}


@pytest.fixture
def rows():
    return [
        {**ABOUT, **FIGURES, "domain": domain, "episode": episode, "method": method, "accuracy": value / 100}
        for (domain, episode), values in VALUES.items()
        for method, value in zip(("none", "tinytrain", "last_layer"), values)
        if value is not None
    ]


def test_interval_by_hand():
    interval = Interval.of([1, 2, 6])
    assert interval.mean == 3 and interval.half == pytest.approx(1.96 * math.sqrt(7 / 3))  # variance 14 / 2, n = 3
    assert str(interval) == "3.00 +- 2.99"
    assert Interval.of([4]).mean == 4 and math.isnan(Interval.of([4]).half) and str(Interval.of([])) == "-"


def test_differences_are_paired(rows):
    accuracies = Accuracies(rows)
    difference = accuracies.difference("tinytrain", "none")
    assert difference.mean == pytest.approx(4.5)
    assert difference.half == pytest.approx(1.96 * np.std([10, 6, -2.5], ddof=1) / 3**0.5)
    assert accuracies.difference("tinytrain", "none", "a").mean == pytest.approx(8)
    only_common = accuracies.difference("tinytrain", "last_layer")
    assert (only_common.mean, only_common.count) == (pytest.approx(10), 2)
    assert accuracies.share_worse("tinytrain") == pytest.approx(1 / 3)  # -2.5 is worse than -2
    assert accuracies.share_worse("last_layer") == pytest.approx(1 / 2)  # -1 is not, -3 is


def test_report_holds_every_figure(rows):
    text = report(rows, ["none", "tinytrain", "last_layer"], ["none", "last_layer", "absent"])
    lines = [line.split() for line in text.splitlines()]
    assert ["tinytrain", "3", "68.0", "17.5", "51.17", "+-", f"{Interval.of([60, 76, 17.5]).half:.2f}"] in lines
    assert "absent" not in text
    half = 1.96 * np.std([10, 6, -2.5], ddof=1) / 3**0.5
    assert any(line[:4] == ["tinytrain", "4.50", "+-", f"{half:.2f}"] for line in lines)
    assert ["tinytrain", "10", "1.00", "2", "3.00", "0.50"] in lines


def test_figure_is_drawn(rows, tmp_path):
    write_accuracy_figure(rows, ["none", "tinytrain", "last_layer"], "none", tmp_path / "gains.svg")
    text = (tmp_path / "gains.svg").read_text()
    assert text.startswith("<?xml") and len(text) > 10_000


def test_rows_come_back(rows, tmp_path):
    path = tmp_path / "results.csv"
    append_results(path, rows[:3])
    append_results(path, rows[3:])
    read = read_results(path)
    assert [key(row) for row in read] == [key(row) for row in rows] and len(set(map(key, rows))) == len(rows)
    assert [float(row["accuracy"]) for row in read] == [row["accuracy"] for row in rows]


def test_a_line_that_was_cut_off_is_dropped(rows, tmp_path):
    path = tmp_path / "results.csv"
    append_results(path, rows)
    whole = path.read_text()
    path.write_text(whole[:-5])
    assert len(read_results(path)) == len(rows) - 1
    append_results(path, rows[-1:])
    assert path.read_text() == whole


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv is not a file of results: its columns are \['a', 'b'\]. Name another"):
        read_results(tmp_path / "other.csv")
    assert read_results(tmp_path / "none.csv") == [] and "accuracy" in FIELDS


def test_a_method_has_the_same_colour_in_both_charts(rows, tmp_path, monkeypatch):
    figures, new_figure = [], accuracy_figure.new_figure
    monkeypatch.setattr(accuracy_figure, "new_figure", lambda **options: figures.append(new_figure(**options)) or figures[-1])
    write_accuracy_figure(rows, ["none", "tinytrain", "last_layer"], "none", tmp_path / "figure.svg")
    gains, costs = figures[0].axes
    bars = {bar.get_label(): bar[0].get_facecolor() for bar in gains.containers if len(bar) > 0 and hasattr(bar, "patches")}
    points = dict(zip(("none", "tinytrain", "last_layer"), (line.get_color() for line in costs.lines[::3]), strict=True))
    assert bars.keys() == {"tinytrain", "last_layer"} and len(set(points.values())) == 3
    assert all(tuple(points[method]) == color for method, color in bars.items())
