"""Every file is written whole: a full disk, a kill at any step or a read-only file leaves the old one, and nothing beside it."""

import argparse
import ast
import contextlib
import dataclasses
import errno
import fcntl
import functools
import json
import os
import pathlib
import resource
import signal
import stat
import subprocess
import sys
import time
import types

import keras
import pytest
from matplotlib.figure import Figure
from models import small_net

import keras_tinytrain
from keras_tinytrain import _files
from keras_tinytrain._figure import save_figure
from keras_tinytrain._files import write_file
from keras_tinytrain.backbones.imagenet_weights import save_pretrained
from keras_tinytrain.backbones.small_weights import save_weights
from keras_tinytrain.benchmark.results import FIELDS, KEY, append_results, key, read_results
from keras_tinytrain.delta import snapshot
from keras_tinytrain.metatrain.checkpoint import save_checkpoint
from keras_tinytrain.metatrain.provenance import write_provenance
from keras_tinytrain.plan import LayerPlan, Plan
from keras_tinytrain.run.bundle_runtime import BundleRuntime

PLAN = Plan((LayerPlan("project", (1, 4)),))
NET = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(20, 3), keras.layers.Dense(20)])
ROWS = [dict.fromkeys(KEY, number) | dict.fromkeys(FIELDS[len(KEY) :], 0.5) for number in range(30)]


def provenance(path):
    args = argparse.Namespace(command_of=lambda _: "x" * 2000, out=path)
    write_provenance(args, dataclasses.make_dataclass("Recipe", [])(), [], {})


WRITERS = {
    "device.delta": lambda path: BundleRuntime.save_delta(
        types.SimpleNamespace(trainer=types.SimpleNamespace(save_delta=lambda _: bytes(3000))), path
    ),
    "keras.delta": snapshot(small_net(), PLAN).save,
    "plan.json": Plan(tuple(LayerPlan(f"layer{n}", (1,)) for n in range(50))).save,
    "weights.npz": lambda path: save_weights(NET, path),
    "pretrained.npz": lambda path: save_pretrained(NET, path),
    "checkpoint.npz": lambda path: save_checkpoint(path, NET.variables, settings="", steps=1),
    "provenance.json": provenance,
    "figure.png": lambda path: save_figure(Figure(), path),
    "figure.svg": lambda path: save_figure(Figure(), path),
    "results.csv": lambda path: append_results(path, ROWS),
}


@contextlib.contextmanager
def full_disk(num_bytes):
    """No file grows beyond so many bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, name, tried):
    path, write = tmp_path / name, WRITERS[name]
    with full_disk(100), pytest.raises(OSError, match=name):
        write(path)
    assert not path.exists() or (name == "results.csv" and not path.stat().st_size)
    write(path)
    before = path.read_bytes()
    if name == "results.csv":  # which has the first rows already
        write = functools.partial(append_results, rows=[dict(ROWS[0], domain="another")])
    with full_disk(len(before) + 20 if name == "results.csv" else 100), pytest.raises(OSError, match=name):
        write(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [name]
    tried("full disk under a writer", 2)


KILL = """
import pathlib, sys
from trust.killed import at_every_step
from keras_tinytrain._files import write_file
path = pathlib.Path(sys.argv[1], "file")

def check(finished):
    assert path.read_bytes() in ((new,) if finished else (old, new))
    path.write_bytes(old)

old, new = bytes(5000), b"new" * 4000
path.write_bytes(old)
stopped = at_every_step(lambda: write_file(path, new), check, sys.argv[2])
write_file(path, new)
print(stopped)
"""


@pytest.mark.parametrize("way", ["kill", "full"])
def test_a_writer_stopped_at_any_step_leaves_the_old_file_or_the_new(tmp_path, way, tried):
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILL, tmp_path, way], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and int(done.stdout) >= 5, done.stderr
    assert os.listdir(tmp_path) == ["file"]  # what the killed ones left is gone
    tried({"kill": "kill of a writer", "full": "full disk under a writer"}[way], int(done.stdout))


def test_a_writer_that_lives_keeps_its_hidden_file(tmp_path):
    (tmp_path / ".tinytrain-dead.partial").write_bytes(b"half")
    (tmp_path / ".tinytrain-note.txt").write_bytes(b"a user's")
    with _files._claimed(tmp_path) as other:
        write_file(tmp_path / "file", "x")
        assert sorted(os.listdir(tmp_path)) == sorted([".tinytrain-note.txt", os.path.basename(other.name), "file"])
    write_file(tmp_path / "file", "y")
    assert sorted(os.listdir(tmp_path)) == [".tinytrain-note.txt", "file"]


def test_a_hidden_file_that_was_taken_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    """By another writer, between its making and its lock."""
    lock, taken = _files._lock, []

    def removed(file, operation):
        if not taken:
            taken.append(os.unlink(file.name))
        return lock(file, operation)

    monkeypatch.setattr(_files, "_lock", removed)
    assert write_file(tmp_path / "file", "x") == 1 and os.listdir(tmp_path) == ["file"]


def test_a_file_system_without_locks_is_written_to(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(_files.fcntl, "flock", refused)
    (tmp_path / ".tinytrain-dead.partial").write_bytes(b"half")
    assert write_file(tmp_path / "file", "x") == 1 and len(os.listdir(tmp_path)) == 2


def test_rights_and_links_stay(tmp_path):
    write_file(tmp_path / "file", "old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    assert write_file(tmp_path / "link", "größer") == 8
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text(encoding="utf-8") == "größer"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_new_file_has_the_rights_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        write_file(tmp_path / "folder", "x")
    with pytest.raises(FileNotFoundError, match="nowhere/file"):
        write_file(tmp_path / "nowhere" / "file", "x")
    assert write_file("/dev/null", "x") == 1 and not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    "text", ['{"all": "of it in one line"}', "first\nlast line", "\n", "a,b\n1,2\n", "\x00\xff", ",".join(FIELDS) + ",more"]
)
def test_a_benchmark_does_not_touch_a_foreign_file(tmp_path, text):
    (tmp_path / "notes").write_text(text, encoding="latin1")
    for use in (read_results, lambda path: append_results(path, ROWS)):
        with pytest.raises(ValueError, match="notes is not a file of results"):
            use(tmp_path / "notes")
    assert (tmp_path / "notes").read_text(encoding="latin1") == text


def test_a_results_file_cut_anywhere_is_completed(tmp_path):
    path = tmp_path / "results.csv"
    append_results(path, ROWS[:3])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(read_results(path)) <= 3
        append_results(path, ROWS[:3])
        assert path.read_bytes() == whole


SHARE = """
import json, sys
from keras_tinytrain.benchmark.results import append_results
append_results(sys.argv[1], json.loads(sys.argv[2]))
"""


def test_benchmarks_share_a_file_of_results(tmp_path):
    path = tmp_path / "results.csv"
    append_results(path, ROWS[:2])
    last = path.read_bytes().splitlines(keepends=True)[-1].replace(b"1,", b"7,")
    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(last[:9])
        command = [sys.executable, "-c", SHARE, path, json.dumps(ROWS[:9])]
        others = [subprocess.Popen(command) for _ in range(2)]
        time.sleep(1)  # they wait for the line that is being written, and take it for no torn one
        file.write(last[9:])
    assert [other.wait() for other in others] == [0, 0]
    assert sorted(map(key, read_results(path))) == sorted(map(key, ROWS[:9]))


PACKAGE = pathlib.Path(keras_tinytrain.__file__).parent
ELSEWHERE = {  # files that nobody keeps: in a temporary folder, a pipe, or a sink for output
    "_quiet.py": 1,
    "benchmark/model_steps.py": 1,
    "cli/__init__.py": 1,
    "export/tflite/arena.py": 1,
    "run/_rendered_sources.py": 1,
    "run/emulator.py": 1,
    "run/profiler.py": 1,
}


def test_nothing_is_written_past_the_writer():
    found = {}
    roots = {PACKAGE: "", pathlib.Path(sys.modules["keras_tinytrain.export"].__file__).parent: "export/"}
    for root, prefix in roots.items():
        for path in root.rglob("*.py"):
            name = prefix + path.relative_to(root).as_posix()
            if count := sum(map(_writes, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
                found[name] = count
    assert found.pop("_files.py") == 4 and found.pop("benchmark/results.py") == 1 and found.pop("_npz.py") == 2
    assert found == ELSEWHERE


def _writes(node):
    """Whether a node opens a file to write it, or is a call of what does."""
    if isinstance(node, ast.Attribute) and node.attr in ("savez", "savez_compressed", "tofile", "to_csv"):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in ("write_text", "write_bytes", "copytree", "copyfile"):
        return True
    modes = [
        each.value
        for each in (*node.args[:2], *(k.value for k in node.keywords if k.arg == "mode"))
        if isinstance(each, ast.Constant)
    ]
    return name == "open" and any(
        isinstance(mode, str) and set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes
    )
