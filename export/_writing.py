"""Step 5 of an export: write a bundle as a whole or, if anything fails, not at all."""

import pathlib
import shutil
import tempfile

from keras_tinytrain.export.bundle_folder import Bundle
from keras_tinytrain.export.files import BundleFiles


def write(files: BundleFiles, out: pathlib.Path) -> Bundle:
    """Write all files into a folder beside `out`, then move the folder into place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, data in files.all_contents.items():
            (scratch / "new" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "new" / name).write_bytes(data)
        _replace(out, scratch / "new", aside=scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Bundle.load(out)


def _replace(out: pathlib.Path, new: pathlib.Path, *, aside: pathlib.Path) -> None:
    """Put `new` where `out` is. If that fails, `out` comes back."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(aside)
    try:
        new.rename(out)
    except OSError:
        aside.rename(out)
        raise
