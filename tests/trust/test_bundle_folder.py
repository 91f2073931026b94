"""An export loses nothing: killed or out of space at any step, beside other files, beside another export."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import types

import pytest

from keras_tinytrain import _renames
from keras_tinytrain.export import Bundle
from keras_tinytrain.export._workplace import bundle_to_replace, workplace
from keras_tinytrain.export._writing import write

HERE = pathlib.Path(__file__).parent
WRITTEN = HERE.parent / "fixtures" / "version_0_1" / "bundle"


@pytest.fixture
def bundle(tmp_path):
    return pathlib.Path(shutil.copytree(WRITTEN, tmp_path / "b"))


@pytest.fixture
def files():
    contents = {path.relative_to(WRITTEN).as_posix(): path.read_bytes() for path in WRITTEN.rglob("*") if path.is_file()}
    return types.SimpleNamespace(all_contents=contents)


@pytest.fixture(params=["exchange", "renames"])
def renaming(request, monkeypatch):
    """With the kernel's exchange of two names, and as on a file system that has none."""
    if request.param == "renames":
        monkeypatch.setattr(_renames, "_renameat2", lambda *_: False)


def export(files, out, **options):
    return write(files, out, replaces=bundle_to_replace(out, **{"overwrite": True, **options}))


@pytest.mark.parametrize("way", ["kill", "full"])
@pytest.mark.parametrize("renaming", ["exchange", "renames"])
def test_an_export_stopped_at_any_step_leaves_the_old_bundle_or_the_new(tmp_path, renaming, way, tried):
    command = [sys.executable, str(HERE / "kill_exports.py"), str(WRITTEN), str(tmp_path / "place"), renaming, way]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80
    tried({"kill": "kill of an export", "full": "full disk under an export"}[way], int(done.stdout))


def test_a_full_disk_leaves_the_old_bundle_and_nothing_beside_it(bundle, files, tmp_path):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            export(files, bundle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert os.listdir(tmp_path) == ["b"]


def test_files_of_the_user_stay(bundle, files, renaming, tmp_path):
    (bundle / "deltas" / "empty").mkdir(parents=True)
    (bundle / "deltas" / "monday.delta").write_bytes(b"learned")
    (bundle / "latest").symlink_to("deltas")
    del files.all_contents["models.h"]
    files.all_contents["manifest.json"] = _manifest_without("models.h")
    export(files, bundle)
    assert (bundle / "latest" / "monday.delta").read_bytes() == b"learned" and (bundle / "deltas" / "empty").is_dir()
    assert not (bundle / "models.h").exists() and os.listdir(tmp_path) == ["b"]


def test_a_user_file_with_the_name_of_a_new_one_is_not_replaced(bundle, files, renaming):
    (bundle / "manifest.json").write_bytes(_manifest_without("models.h"))
    (bundle / "models.h").write_text("my own")
    with pytest.raises(FileExistsError, match=r"models.h is no file of the old bundle, .*: move it away"):
        export(files, bundle)
    assert (bundle / "models.h").read_text() == "my own" and Bundle.load(bundle)


@pytest.mark.parametrize("text", ['{"name": "my web app"}', '{"files": {"index.html": ""}}', "[", "[]", "[" * 100_000, ""])
def test_a_folder_with_another_manifest_is_no_bundle(tmp_path, files, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(FileExistsError, match="exists and is no bundle"):
        export(files, tmp_path)
    assert (tmp_path / "manifest.json").read_text() == text


@pytest.mark.parametrize("empty", [True, False])
def test_what_appears_during_an_export_is_left_alone(tmp_path, files, renaming, empty):
    expected = bundle_to_replace(tmp_path / "b", overwrite=True)
    (tmp_path / "b").mkdir()
    if not empty:
        (tmp_path / "b" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="Something was written to .* during this export"):
        write(files, tmp_path / "b", replaces=expected)
    assert os.listdir(tmp_path) == ["b"] and os.listdir(tmp_path / "b") == ["thesis.txt"] * (not empty)


def test_of_two_exports_that_replace_one_bundle_the_second_says_so(bundle, files, renaming):
    expected = [bundle_to_replace(bundle, overwrite=True) for _ in range(2)]
    other = dict(files.all_contents)
    files.all_contents["manifest.json"] = files.all_contents["manifest.json"] + b"\n"
    write(files, bundle, replaces=expected[0])
    with pytest.raises(FileExistsError, match="Something was written to .* during this export"):
        write(types.SimpleNamespace(all_contents=other), bundle, replaces=expected[1])
    assert (bundle / "manifest.json").read_bytes() == files.all_contents["manifest.json"]


def test_two_exports_never_write_at_the_same_time(tmp_path, files):
    with workplace(tmp_path / "b"), pytest.raises(FileExistsError, match="Another export is writing .*b: name another"):
        export(files, tmp_path / "b")
    assert export(files, tmp_path / "b").path == tmp_path / "b"


def test_a_bundle_that_was_removed_meanwhile_is_written_anew(bundle, files, renaming):
    expected = bundle_to_replace(bundle, overwrite=True)
    shutil.rmtree(bundle)
    assert write(files, bundle, replaces=expected).manifest["name"]


def test_a_link_to_a_bundle_stays_a_link(bundle, files, tmp_path):
    (tmp_path / "link").symlink_to("b")
    export(files, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and Bundle.load(bundle) and sorted(os.listdir(tmp_path)) == ["b", "link"]


def test_unasked_nothing_is_replaced(bundle, files):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export(files, bundle, overwrite=False)


def _manifest_without(name):
    manifest = json.loads((WRITTEN / "manifest.json").read_text())
    del manifest["files"][name]
    return json.dumps(manifest).encode()
