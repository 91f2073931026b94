"""Where a bundle is written before it takes its place: a hidden folder beside it, for one export at a time.

An export that was killed leaves this folder. The next export, or the next reader of the bundle, puts everything right.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from keras_tinytrain._renames import rename_onto_nothing

MANIFEST = "manifest.json"
_OLD, _NEW = "old", "new"


@contextlib.contextmanager
def workplace(out: pathlib.Path, *, wait: bool = False) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """(a name for the new bundle, a name for the old one on its way out) in the hidden folder beside `out`.

    On the way in and out, the user's files in it return to `out`, and the rest is removed.

    Args:
        out: the bundle's folder, resolved.
        wait: for another export; otherwise FileExistsError.
    """
    folder = _hidden(out)
    folder.mkdir(exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, out, wait)
        _tidy(folder, out)
        yield folder / _NEW, folder / _OLD
    finally:
        if _is_ours(handle, folder):
            _tidy(folder, out)
            folder.rmdir()
        os.close(handle)


def bundle_to_replace(out: pathlib.Path, *, overwrite: bool) -> bytes | None:
    """The manifest of the bundle at `out`; None where nothing is there.

    Raises:
        FileExistsError: there is something that may not be replaced: no bundle of this package, or `overwrite` is False.
    """
    recover(out)
    if not os.path.lexists(out):
        return None
    manifest = (out / MANIFEST).read_bytes() if (out / MANIFEST).is_file() else b""
    if not listed(manifest):
        raise FileExistsError(f"{out} exists and is no bundle: name another folder.")
    if not overwrite:
        raise FileExistsError(f"{out} is there already: pass overwrite=True to replace it.")
    return manifest


def recover(out: pathlib.Path) -> None:
    """Give a bundle its name back, where an export was killed while it had none."""
    out = pathlib.Path(os.path.realpath(out))
    if not out.exists() and (_hidden(out) / _OLD).exists():
        with workplace(out, wait=True):
            pass


def listed(manifest: bytes) -> set[str]:
    """Files that a manifest lists, their folders, and the manifest; empty where it is not one of this package."""
    try:
        fields = json.loads(manifest)
        names = [pathlib.PurePosixPath(name) for name in fields["files"]] if "keras_tinytrain_bundle" in fields else []
    except (ValueError, TypeError, KeyError, RecursionError):
        return set()
    return {MANIFEST, *(str(path) for name in names for path in (name, *name.parents))} if names else set()


def foreign(folder: pathlib.Path, ours: set[str]) -> Iterator[str]:
    """Paths below `folder` of everything in it that is not `ours`: files, links, and empty folders."""
    for where, folders, names in os.walk(folder):
        here = pathlib.Path(where)
        links = [name for name in folders if (here / name).is_symlink()]
        found = [here / name for name in (*names, *links)] or ([here] if here != folder and not folders else [])
        yield from {path.relative_to(folder).as_posix() for path in found} - ours


def _hidden(out):
    return out.with_name(f".{out.name}.export")


def _lock(handle, folder, out, wait):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        busy = True
    else:
        busy = not _same(handle, folder)  # the other has finished, and removed it
    if busy:
        raise FileExistsError(f"Another export is writing {out}: name another folder, or export again when it is done.")


def _is_ours(handle, folder):
    """Whether this process holds the lock on the folder that has the name."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _same(handle, folder)


def _same(handle, folder):
    return folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())


def _tidy(folder, out):
    old = folder / _OLD
    if old.exists() and not out.exists():
        rename_onto_nothing(old, out)
    for leftover in (folder / _NEW, old):
        if leftover.exists():
            _return_foreign(leftover, out)
            shutil.rmtree(leftover)


def _return_foreign(leftover, out):
    """Move the user's files back to `out`; of two the newer one stays."""
    manifest = leftover / MANIFEST
    ours = listed(manifest.read_bytes()) if manifest.is_file() else set()
    if not ours:
        return  # the manifest is written first, so that nothing of the user's is here yet
    for name in foreign(leftover, ours):
        source, target = leftover / name, out / name
        if not os.path.lexists(target) or (not source.is_dir() and _newer(source, target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)


def _newer(source, target):
    return source.lstat().st_mtime_ns > target.lstat().st_mtime_ns
