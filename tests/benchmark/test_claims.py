"""`benchmark claims`: the abstract's figures in their own accounting, what is measured once, and the page."""

import dataclasses
import json

import pytest

from keras_tinytrain.benchmark.claims import abstract, command, measured, page
from keras_tinytrain.benchmark.claims import evidence as evidences
from keras_tinytrain.benchmark.cost import paper_tables
from keras_tinytrain.benchmark.networks import NETWORKS
from keras_tinytrain.benchmark.results import append_results
from keras_tinytrain.cli import main

PAPER = [network for network in NETWORKS.values() if network.paper_name]
MEMORY, COMPUTE, RIVAL, SIZE = (abstract.CLAIMS[i].title for i in (1, 2, 5, 6))
BOARD = {
    "full": {"sram_bytes": 9000, "flash_bytes": 5000, "instructions": 800, "cycles": 1600, "joules": 4.0, "seconds": 6.0},
    "tinytrain": {"sram_bytes": 3000, "flash_bytes": 2000, "instructions": 100, "cycles": 400, "joules": 1.0, "seconds": 2.0},
}


@pytest.fixture(scope="module")
def tables():
    return paper_tables()


@pytest.fixture(autouse=True)
def same_tables(tables, monkeypatch):
    monkeypatch.setattr(evidences, "paper_tables", lambda: tables)


def rows(network):
    return [{"network": network, "method": method, **map_values(figures)} for method, figures in BOARD.items()]


def map_values(figures):
    return {name: str(value) for name, value in {"trained_weights": 5, **figures}.items()}


def accuracies(network, pretrained, by_method):
    about = {"backbone": network, "pretrained": pretrained, "domain": "signs", "task": "5-way", "seed": "0", "iterations": "40"}
    return [
        {**about, "budget": "b", "episode": str(episode), "method": method, "accuracy": str(value)}
        for method, values in by_method.items()
        for episode, value in enumerate(values)
    ]


def test_the_papers_accounting_gives_its_figures_within_a_percent():
    found = page.values(evidences.evidence(PAPER, [], [], ""))
    every = ["MCUNet", "MobileNetV2", "ProxylessNASNet"]
    within = {MEMORY: every, SIZE: every, COMPUTE: [every[0], every[2]], RIVAL: every[:1]}  # the page says why not the others
    for title, networks in within.items():
        for network in networks:
            assert abs(found[title][network]["difference, %"]) < 1
    at_batch_1 = [found[MEMORY][network]["the same at batch 1"] for network in every]
    assert at_batch_1 == [pytest.approx(17.9, rel=0.01), pytest.approx(13.9, rel=0.01), pytest.approx(17.9, rel=0.01)]
    assert round(max(each["paper"] for each in found[MEMORY].values())) == 1099  # 857 / 0.78, printed as 1,098
    assert max(each["paper"] for each in found[COMPUTE].values()) == pytest.approx(7.68)
    assert max(each["paper"] for each in found[RIVAL].values()) == pytest.approx(2.23, abs=0.005)
    assert [len(each) for each in found.values()] == [3] * 7
    means = [sum(each["paper"] for each in found[abstract.CLAIMS[i].title].values()) / 3 for i in (3, 4)]
    assert means == [pytest.approx(9.5, abs=0.2), pytest.approx(3.5, abs=0.05)]


def test_measurements_become_ratios():
    results = accuracies("mcunet", "mcunet-5fps", {"tinytrain": [0.8, 0.6], "full": [0.7, 0.5], "full_avg": [0.9]})
    results += accuracies("mcunet", "meta", {"tinytrain": [0.9, 0.6, 0.1]})
    found = page.values(evidences.evidence(PAPER, rows("mcunet"), results, "meta"))
    memory, compute, time, energy = (found[abstract.CLAIMS[i].title]["MCUNet"] for i in (1, 2, 3, 4))
    assert memory["SRAM of the board"] == 3 and compute["instructions of a task"] == 8
    assert time["cycles of a task"] == 4 and time["seconds on this processor"] == 3 and energy["joules of a task"] == 4
    accuracy = found[abstract.CLAIMS[0].title]["MCUNet"]
    assert accuracy["same weights"] == pytest.approx(100 / 6) and accuracy["same weights, points"] == pytest.approx(10)
    assert accuracy["TinyTrain meta-trained, FullTrain not"] == pytest.approx(25) and accuracy["tasks"] == 2
    assert "answers of both averaged, points" not in accuracy


def test_a_table_leaves_out_what_nobody_has():
    assert (
        "chosen there" not in page.text(evidences.evidence(PAPER, rows("mcunet"), [], ""), rows("mcunet")).split("Measured")[0]
    )


def test_quick_measures_once_and_writes_a_page(tmp_path, monkeypatch, capsys):
    """One of its two methods here, to take less time."""
    monkeypatch.setattr(command, "_QUICK", dataclasses.replace(command._QUICK, methods=("tinytrain",)))
    out, written = tmp_path / "claims.csv", tmp_path / "claims.md"
    line = ["benchmark", "claims", "--quick", "--out", str(out), "--page", str(written)]
    assert main([*line, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)[SIZE]["nanonet"]
    assert 0.05 < figures["SRAM of the board"] < figures["flash of the board"] < 1
    monkeypatch.setattr(command, "measure", lambda *args, **options: pytest.fail("measured again"))
    assert main(line) == 0
    text = written.read_text()
    assert f"keras-tinytrain {' '.join(line)}" in text and all(claim.title[1:] in text for claim in abstract.CLAIMS)
    assert "| nanonet | TinyTrain | " in text
    assert "same weights, points" in capsys.readouterr().out


def test_measurements_of_another_version_do_not_count(tmp_path, monkeypatch):
    out = tmp_path / "claims.csv"
    settings = {"version": "0.0", "domain": "digits", "seed": 0, "iterations": 1}
    old = {"network": "nanonet", "method": "full", **settings, **BOARD["full"], "trained_weights": 5}
    append_results(out, [old], measured.FIELDS, num_keys=measured.NUM_KEYS)
    made = []

    def measure(network, method, **options):
        made.append(method)
        return {**BOARD[method], "trained_weights": 5}

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "_small_tasks", lambda *args: [])
    assert main(["benchmark", "claims", "--quick", "--out", str(out)]) == 0
    assert made == ["full", "tinytrain"]
