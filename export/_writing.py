"""Step 5 of an export: write a bundle as a whole or, if anything fails, not at all; and keep what is not ours."""

import contextlib
import os
import pathlib
import shutil
import typing

from keras_tinytrain._files import sync_folder, write_new
from keras_tinytrain._renames import exchange, rename_onto_nothing
from keras_tinytrain.export._workplace import MANIFEST, foreign, listed, workplace
from keras_tinytrain.export.bundle_folder import Bundle

if typing.TYPE_CHECKING:
    from keras_tinytrain.export.files import BundleFiles


def write(files: "BundleFiles", out: pathlib.Path, *, replaces: bytes | None = None) -> Bundle:
    """Write all files into a hidden folder beside `out`, then let it take the place of `out` in one step.

    Args:
        files: of the new bundle.
        out: its folder.
        replaces: what `bundle_to_replace` returned before the export began.

    Returns:
        The bundle. Files in the old one that its manifest does not list are the user's, and stay.

    Raises:
        FileExistsError: something else has appeared at `out` since then, or a file of the user's has the name of a new one.
    """
    place = pathlib.Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    with workplace(place) as (new, old):
        for name, data in {MANIFEST: b"", **files.all_contents}.items():  # the manifest first: it says what is ours
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            write_new(new / name, data)
        try:
            _put(new, place, old, replaces)
        except FileNotFoundError:  # the old bundle was removed meanwhile
            _put(new, place, old, None)
        sync_folder(place.parent)
    return Bundle.load(out)


def _put(new, out, old, replaces):
    """Give `new` the name `out`, and the present bundle one in the hidden folder."""
    if replaces is not None:
        _carry(out, new, listed(replaces))
        _check_same(out, replaces)
    for folder, *_ in os.walk(new):
        sync_folder(pathlib.Path(folder))
    if replaces is None:
        with _said(out):
            rename_onto_nothing(new, out)
        return
    if exchange(new, out):
        with _undone_by(lambda: exchange(new, out)):
            _check_same(new, replaces, name=out)
        return
    rename_onto_nothing(out, old)
    with _undone_by(lambda: rename_onto_nothing(old, out)):
        rename_onto_nothing(new, out)


def _carry(out, new, ours):
    """Let `new` have all that is not `ours` in `out`: as links, so that nothing of it is ever without a name."""
    for name in foreign(out, ours):
        source, target = out / name, new / name
        if os.path.lexists(target):
            raise FileExistsError(f"{source} is no file of the old bundle, and the new one has one of that name: move it away.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():
            target.mkdir()
            continue
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(source, target, follow_symlinks=False)


def _check_same(folder, replaces, name=None):
    if (folder / MANIFEST).read_bytes() != replaces:
        raise FileExistsError(_meanwhile(name or folder))


@contextlib.contextmanager
def _said(out):
    try:
        yield
    except OSError as error:
        if os.path.lexists(out):
            raise FileExistsError(_meanwhile(out)) from error
        raise


@contextlib.contextmanager
def _undone_by(undo):
    try:
        yield
    except BaseException:
        undo()
        raise


def _meanwhile(out):
    return f"Something was written to {out} during this export, and is left as it is: export again, or name another folder."
