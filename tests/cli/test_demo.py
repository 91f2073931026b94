"""The demo, as a user runs it: one JSON object on standard output, every step held, the bundle kept where asked."""

import json
import os
import subprocess
import sys

import pytest

from keras_tinytrain.export import Bundle


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(finished process, folder of the bundle)."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "keras_tinytrain", "demo", "--json", "--out", str(folder / "bundle")]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True), folder / "bundle"


def test_every_step_holds(demo):
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert set(summary["checks"].values()) == {True} and len(summary["checks"]) == 4
    assert set(summary["accuracy_percent"]) == {"none", "last_layer", "full_train", "tiny_train", "runtime"}
    assert summary["accuracy_percent"]["tiny_train"] > 85
    assert summary["tasks"] == 1 and summary["seconds"] > 0
    assert all(summary["plan"][key] > 0 for key in ("layers", "channels", "weights", "backward_macs"))


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
    Bundle.load(demo[1]).check()


def test_a_folder_in_the_way_is_refused_before_anything_is_run(demo):
    command = [sys.executable, "-m", "keras_tinytrain", "demo", "--out", str(demo[1])]
    done = subprocess.run(command, cwd=demo[1].parent, capture_output=True, text=True)
    assert done.returncode == 2 and "exists already" in done.stderr
