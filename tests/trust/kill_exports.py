"""Kill an export that replaces a bundle, or makes a new one, at every step; run by test_bundle_folder.py.

Usage: kill_exports.py BUNDLE FOLDER exchange|renames kill|full: with the kernel's exchange of two names, or without it.
"""

import hashlib
import json
import os
import pathlib
import shutil
import sys
import types

from killed import at_every_step

from keras_tinytrain import _renames
from keras_tinytrain.export._workplace import bundle_to_replace
from keras_tinytrain.export._writing import write
from keras_tinytrain.export.bundle_folder import Bundle

source, folder, (renaming, way) = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:]
os.fsync = lambda _: None
if renaming == "renames":
    _renames._renameat2 = lambda *_: False
KEPT = ("manifest.json", "plan.json", "tables.cpp", "frozen.tflite", "trainable.tflite", "README.md", "sketch/sketch.ino")
mine = {"learned.delta": b"learned", "notes/today.txt": b"text"}


def bundle_of(**texts):
    """{name: bytes} of a small bundle: some files of `source`, and `texts`."""
    files = {name: (source / name).read_bytes() for name in KEPT} | texts
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def export():
    write(types.SimpleNamespace(all_contents=new), out, replaces=bundle_to_replace(out, overwrite=True))


def lay_out(contents):
    shutil.rmtree(folder)
    for name, data in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


def check(finished):
    """The old bundle or the new one stands under its name, with the user's files; a next export leaves no trace of the kill."""
    Bundle.load(out)
    readme = (out / "README.md").read_bytes()
    assert readme in ((new["README.md"],) if finished else (old["README.md"], new["README.md"]))
    assert {name: (out / name).read_bytes() for name in mine} == mine
    export()
    assert [path.name for path in folder.iterdir()] == ["b"]
    present = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert present == {**new, **mine}
    lay_out({**old, **mine})


def check_new(finished):
    """Nothing has the name, or the whole bundle."""
    assert not out.exists() or Bundle.load(out)
    export()
    assert [path.name for path in folder.iterdir()] == ["b"]
    shutil.rmtree(out)


old = bundle_of(**{"sketch/tables.h": b"in the old one only"})
new, out = bundle_of(**{"README.md": b"the new one"}), folder / "b"
folder.mkdir()
lay_out({**old, **mine})
kills = at_every_step(export, check, way)
shutil.rmtree(folder)
folder.mkdir()
kills += at_every_step(export, check_new, way)
print(kills)
