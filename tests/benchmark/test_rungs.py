"""`benchmark rungs`: which results count, what a rung costs, and what is written."""

import csv

import numpy as np
import pytest
from models import embedding_net, images

from keras_tinytrain.benchmark import rungs as command
from keras_tinytrain.benchmark.methods import find_method
from keras_tinytrain.benchmark.networks import Network
from keras_tinytrain.benchmark.results import FIELDS, append_results, given_results
from keras_tinytrain.benchmark.rungs_cost import Cost, Costs, has_cost
from keras_tinytrain.cli import main
from keras_tinytrain.data import Domain
from keras_tinytrain.export import board
from keras_tinytrain.plan import Budget

NANO = board("nano33ble")
SECONDS = {"none": 10, "ridge": 11, "tinytrain_ridge_avg": 4, "full_avg": 100}  # of trained ones: of an iteration


class _Costs:
    """Costs that are made up."""

    def __init__(self, *about):
        pass

    def of(self, method, iterations):
        return Cost(float(SECONDS[method.name] * (iterations or 1)), 0.5, 2048)


def _rows(method, iterations, accuracies):
    about = dict(zip(FIELDS, ("mcunet", "public", "signs", "5-way 5-shot", 0, 0, iterations, "1 MB 0.1", method, 0.001)))
    costs = dict.fromkeys(FIELDS[11:], 1)
    return [{**about, "episode": number, "accuracy": accuracy, **costs} for number, accuracy in enumerate(accuracies)]


@pytest.fixture
def files(tmp_path):
    """Results of two numbers of iterations."""
    forty, ten = tmp_path / "forty.csv", tmp_path / "ten.csv"
    append_results(
        forty, [*_rows("none", 40, [0.5, 0.7]), *_rows("ridge", 40, [0.8, 0.7]), *_rows("full_avg", 40, [0.75, 0.7])]
    )
    append_results(forty, [*_rows("tinytrain_gated_avg", 40, [0.9, 0.9]), *_rows("tinytrain_ridge_avg", 40, [0.9])])
    append_results(ten, [*_rows("none", 10, [0.5, 0.7]), *_rows("tinytrain_ridge_avg", 10, [0.85, 0.75])])
    return [str(forty), str(ten)]


def test_rungs_are_of_the_tasks_that_all_share(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "Costs", _Costs)
    out, page, figure = tmp_path / "rungs.csv", tmp_path / "rungs.md", tmp_path / "rungs.png"
    line = ["benchmark", "rungs", "--accuracy", *files, "--out", str(out), "--page", str(page), "--figure", str(figure)]
    assert main(line) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["rung"] for row in rows] == [
        "prototypes alone",
        "closed form alone",
        "chosen channels, closed form, 10",
        "FullTrain, 40",
    ]
    assert [row["seconds"] for row in rows] == ["10.0000", "11.0000", "40.0000", "4000.0000"]
    assert [row["on_front"] for row in rows] == ["1", "1", "1", "0"] and rows[2]["minus_none"] == "20.0000"
    notes = capsys.readouterr().err
    assert "tinytrain_gated_avg" in notes and "tinytrain_ridge_avg 40 (1 of 2)" in notes
    assert "| **closed form alone** | 75.00 | +15.00 +- 29.40 | 11.0 s | 0.50 | 2.0 | yes | yes |" in page.read_text()
    assert "](rungs.png)" in page.read_text() and figure.read_bytes().startswith(b"\x89PNG")


def test_results_that_contradict_each_other_are_refused(files, tmp_path):
    append_results(tmp_path / "other.csv", _rows("ridge", 10, [0.1]))
    rows = [row for path in (*files, tmp_path / "other.csv") for row in given_results(path, "--accuracy")]
    with pytest.raises(ValueError, match="ridge 0 has two results for task public, signs"):
        command.climb(rows, "mcunet", None, _Costs())
    with pytest.raises(ValueError, match="with the method none and others on the same tasks. Received methods: none 0"):
        command.climb(rows, "mcunet", ["last_layer"], _Costs())


def test_a_wrong_file_is_named(tmp_path, capsys):
    wrong = tmp_path / "task.npz"
    wrong.write_bytes(b"PK\x03\x04\0\0,\0")
    for path, text in ((wrong, f"{wrong} is none."), (tmp_path / "no.csv", f"There is no {tmp_path / 'no.csv'}.")):
        assert main(["benchmark", "rungs", "--accuracy", str(path), "--out", str(tmp_path / "rungs.csv")]) == 2
        expected = "keras-tinytrain: --accuracy expects a CSV file that `benchmark accuracy --out` wrote."
        assert capsys.readouterr().err == f"{expected} {text}\n"


def test_methods_whose_time_depends_on_samples_have_no_cost():
    names = (
        "none",
        "ridge",
        "tinytrain_late_ridge_avg",
        "sparse_update_avg",
        "full",
        "tinytrain_stop",
        "tinytrain_auto_avg",
        "tinytl",
    )
    assert [has_cost(find_method(name, "mcunet")) for name in names] == [True] * 5 + [False] * 3


@pytest.fixture
def costs(monkeypatch):
    """Of a tiny network."""
    model = embedding_net()
    pixels = images(model, 40)
    monkeypatch.setattr(
        "keras_tinytrain.benchmark.rungs_cost.load_domain", lambda name: Domain(name, pixels, np.arange(40) % 5)
    )
    monkeypatch.setattr(Network, "build", lambda network: model)
    return Costs(Network("tiny", "", Budget("1MB", 0.3)), "digits", 0, NANO)


def test_more_iterations_cost_as_much_more(costs):
    trained, alone = find_method("full_ridge_avg", "mcunet"), find_method("ridge", "mcunet")
    ten, twenty, forty = (costs.of(trained, iterations) for iterations in (10, 20, 40))
    assert forty.seconds - twenty.seconds == pytest.approx(2 * (twenty.seconds - ten.seconds))
    assert costs.of(alone, 0).seconds < ten.seconds and ten.sram_bytes == forty.sram_bytes
    assert ten.joules == pytest.approx(ten.seconds * 3.3e-3 * 3.0)
