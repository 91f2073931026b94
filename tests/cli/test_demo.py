"""The demo, as a user runs it, away from the checkout: one JSON object on standard output, every step held, the bundle kept where asked.

TINYTRAIN_DEMO names another keras-tinytrain to run, such as that of an environment with the wheel.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from keras_tinytrain.cli.demo_report import mean_difference
from keras_tinytrain.cli.demo_settings import METHODS
from keras_tinytrain.export import Bundle

INSTALLED = os.environ.get("TINYTRAIN_DEMO")
COMMAND = [INSTALLED] if INSTALLED else [sys.executable, "-m", "keras_tinytrain"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(finished process, folder of the bundle)."""
    folder = tmp_path_factory.mktemp("demo")
    command = [*COMMAND, "demo", "--tasks", "1", "--json"]
    command += ["--out", str(folder / "bundle"), "--report", str(folder / "report.html")]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True), folder / "bundle"


def test_every_step_holds(demo):
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert set(summary["checks"].values()) == {True} and len(summary["checks"]) == 5
    assert summary["accuracy_percent"].keys() == METHODS.keys()
    assert summary["tasks"] == 1 and summary["seconds"] > 0 and summary["board_seconds"] > 0
    assert all(summary["plan"][key] > 0 for key in ("layers", "channels", "weights", "backward_macs"))


def test_learning_shows_in_keras_in_cpp_and_on_the_board(demo):
    """In the first of five tasks, which gains less than their mean."""
    gains = json.loads(demo[0].stdout)["gain_points"]
    assert min(gains[method][0] for method in ("tiny_train", "runtime", "board")) > 5
    assert gains["board"] == gains["runtime"]


def test_only_what_tinytrain_trains_fits_the_board(demo):
    needs = json.loads(demo[0].stdout)["training_bytes"]
    assert needs["board"] <= 262_144 < needs["last_layer"] < needs["full_train"]


def test_report_tells_what_was_printed(demo):
    summary, report = json.loads(demo[0].stdout), json.loads((demo[1].parent / "report.json").read_text())
    told = {row["method"]: round(row["percent"], 2) for row in report["accuracy"]}
    assert told == {METHODS[method]: percent for method, percent in summary["accuracy_percent"].items()}
    assert sum(map(sum, report["confusion"]["after"])) == 300 and len(report["losses"]) == 10
    assert report["layers"]["b6.pw1"]["reason"] and report["more_memory"][0].startswith("+25% memory")
    assert round(report["time"]["seconds"]["total"], 1) == summary["board_seconds"]
    assert "data:image/png" in (demo[1].parent / "report.html").read_text()


def test_promised_bytes_are_used_and_fit_the_board(demo):
    summary = json.loads(demo[0].stdout)
    promised = summary["bytes_promised"]
    assert promised == summary["bytes_used"]
    sram = {part: count for part, count in promised.items() if not part.startswith("flash_")}
    assert sram.pop("total") == sum(sram.values()) <= 262_144
    assert promised["flash_total"] <= 983_040


def test_tensorflow_does_not_chatter(demo):
    for line in demo[0].stderr.splitlines():
        assert "tensorflow" not in line.lower() and "absl" not in line.lower() and "Warning" not in line, line


def test_the_bundle_is_kept_and_whole(demo):
    bundle = Bundle.load(demo[1])
    bundle.check()
    assert sorted(bundle.class_names) == [str(digit) for digit in range(10)]


def test_a_folder_in_the_way_is_refused_before_anything_is_run(demo):
    command = [*COMMAND, "demo", "--out", str(demo[1])]
    done = subprocess.run(command, cwd=demo[1].parent, capture_output=True, text=True)
    assert done.returncode == 2 and "exists already" in done.stderr


def test_gain_is_the_mean_of_paired_differences_with_students_interval():
    mean, half = mean_difference([60.0, 70.0, 80.0], [40.0, 40.0, 40.0])
    assert mean == 30
    assert half == pytest.approx(4.302653 * 10 / 3**0.5, rel=1e-6)  # t of 2 degrees of freedom, 97.5 %
    mean, half = mean_difference([60.0], [40.0])
    assert mean == 20 and np.isnan(half)
