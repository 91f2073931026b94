"""`benchmark cost`: the paper's table to the printed digit, and what it leaves out."""

import json

import pytest

from keras_tinytrain.benchmark.cost import PAPER, cost_rows, cost_text, full_train_bytes, method_plans, paper_tables
from keras_tinytrain.benchmark.equal_batch import equal_batch_rows, fisher_elements, fisher_macs
from keras_tinytrain.choose import paper_cost
from keras_tinytrain.cli import main


@pytest.fixture(scope="module")
def tables():
    return paper_tables()


@pytest.fixture(scope="module")
def rows(tables):
    return {(row.backbone, row.method): row for row in cost_rows(tables)}


def millions(macs, digits):
    return round(macs / 1e6, digits)


@pytest.mark.parametrize(("backbone", "macs"), [("MCUNet", 44.9), ("MobileNetV2", 34.9), ("ProxylessNASNet", 38.4)])
def test_full_train(rows, backbone, macs):
    row = rows[backbone, "FullTrain"]
    assert millions(row.backward_macs, 1) == macs == row.paper_macs / 1e6
    assert row.memory_mib == pytest.approx(row.paper_memory_mb, rel=0.005)


@pytest.mark.parametrize(
    ("backbone", "memory", "macs"), [("MCUNet", 2.03, 1.47), ("MobileNetV2", 1.64, 0.80), ("ProxylessNASNet", 1.06, 0.59)]
)
def test_last_layer(rows, backbone, memory, macs):
    row = rows[backbone, "LastLayer"]
    assert (round(row.memory_mib, 2), millions(row.backward_macs, 2)) == (memory, macs)


def test_sparse_update_on_mcunet(rows):
    row = rows["MCUNet", "SparseUpdate"]
    assert (round(row.memory_mib, 2), millions(row.backward_macs, 1)) == (1.43, 11.9)


@pytest.mark.parametrize("backbone", ["MobileNetV2", "ProxylessNASNet"])
def test_sparse_update_on_the_others_is_the_nearest_public_scheme(rows, backbone):
    row = rows[backbone, "SparseUpdate"]
    assert row.memory_mib == pytest.approx(row.paper_memory_mb, rel=0.04)
    assert row.backward_macs == pytest.approx(row.paper_macs, rel=0.005)


@pytest.mark.parametrize("backbone", ["MCUNet", "MobileNetV2", "ProxylessNASNet"])
def test_tinytrain_stays_within_the_papers_figures(rows, backbone):
    row = rows[backbone, "TinyTrain"]
    assert row.memory_mib <= row.paper_memory_mb and round(row.memory_mib, 2) == row.paper_memory_mb
    assert row.backward_macs <= row.paper_macs


def test_every_row_of_the_paper_is_there(rows):
    assert set(rows) == set(PAPER) and len(rows) == 15
    assert all((row.memory_mib is None) == (row.method == "TinyTL") for row in rows.values())


@pytest.mark.parametrize(
    ("backbone", "updated", "ratio"),
    [("MCUNet", 17_650, 17.9), ("MobileNetV2", 12_310, 13.9), ("ProxylessNASNet", 18_380, 17.9)],
)
def test_at_equal_batch_the_ratio_is_not_a_thousand(tables, backbone, updated, ratio):
    table = tables[backbone]
    tiny_train = 16 * updated + 4 * paper_cost.peak_activation(table)
    assert full_train_bytes(table, 1) / tiny_train == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize(
    ("backbone", "elements", "macs"),
    [("MCUNet", 118_528, 8.2), ("MobileNetV2", 112_512, 5.0), ("ProxylessNASNet", 78_336, 5.1)],
)
def test_fisher_pass(tables, backbone, elements, macs):
    assert fisher_elements(tables[backbone]) == elements
    assert millions(fisher_macs(tables[backbone]), 1) == macs


def test_equal_batch_leaves_nothing_out(tables):
    table = tables["MCUNet"]
    rows = {row.method: row for row in equal_batch_rows("MCUNet", table, method_plans("MCUNet", table))}
    assert list(rows) == ["FullTrain", "LastLayer", "SparseUpdate", "TinyTrain"]
    parameters = sum(row.num_weights + row.num_channels for row in table.weighted)
    for row in rows.values():
        assert row.trained // 4 + row.frozen == 4 * parameters
        assert row.support == 25 * 128 * 128 * 3
    assert rows["FullTrain"].frozen == 0
    assert rows["FullTrain"].backward_macs < paper_cost.full_backward_macs(table)  # the first layer needs no input gradient
    assert rows["TinyTrain"].fisher == 4 * (118_528 + 4_384)
    assert rows["FullTrain"].total > rows["SparseUpdate"].total > rows["TinyTrain"].total


def run(capsys, *options):
    assert main(["benchmark", "cost", *options]) == 0
    return capsys.readouterr().out


def test_json(capsys):
    rows = json.loads(run(capsys, "--json"))
    keys = ["backbone", "method", "memory_mib", "backward_macs", "paper_memory_mb", "paper_macs"]
    assert len(rows) == 15 and all(list(row) == keys for row in rows)
    assert rows[0]["backward_macs"] == 44_907_008


def test_json_at_equal_batch(capsys):
    rows = json.loads(run(capsys, "--equal-batch", "--json"))
    assert len(rows) == 12 and rows[0]["trained"] > 0


def test_text(capsys, rows):
    text = run(capsys)
    assert cost_text(list(rows.values())) in text
    assert "44.91M" in text and "-6.1 %" in text and "nothing left out" in text
    assert len(max(text.splitlines(), key=len)) < 180
