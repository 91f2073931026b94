"""Files written whole: beside the old file, then in its place, so that a full disk or a power cut leaves the old one.

Everything that this package writes goes through `write_file`. Only a benchmark's CSV is appended to, and a new bundle is a folder
of such files that is put in place by `_renames`.
"""

import contextlib
import fcntl
import os
import pathlib
import secrets
import stat
import typing

_PREFIX, _SUFFIX = ".tinytrain-", ".partial"


def write_file(path: str | os.PathLike, content: bytes | str) -> int:
    """Write a file so that `path` holds its old content or all of `content`, whatever happens meanwhile.

    The new content goes to a hidden file in the same folder and is forced to the disk. Then it takes the old file's place and
    its access rights; a link stays a link. A device or a pipe is written to directly. Hidden files of writers that were killed
    are removed from the folder.

    Args:
        path: of the file, in a folder that exists.
        content: text is written as UTF-8.

    Returns:
        The number of bytes written.

    Raises:
        OSError: the file cannot be written; it is named. The old file is as it was, and nothing is left beside it.
    """
    data = content.encode() if isinstance(content, str) else content
    if not (folder := pathlib.Path(path).parent).is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write {path} into: make it first.")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            pathlib.Path(path).write_bytes(data)
        else:
            _replace(pathlib.Path(os.path.realpath(path)), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    return len(data)


def write_new(path: pathlib.Path, data: bytes) -> None:
    """Write a file that is not there yet, and force it to the disk. Where that fails, a part of it may remain."""
    with open(path, "xb") as file:
        _fill(file, data)


def sync_folder(folder: pathlib.Path) -> None:
    """Force a folder's names to the disk, where its file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _replace(target, data):
    _remove_leftovers(target.parent)
    with _claimed(target.parent) as file:
        beside = pathlib.Path(file.name)
        try:
            _fill(file, data)
            with contextlib.suppress(FileNotFoundError), open(target, "r+b") as old:  # one that is read-only is refused
                beside.chmod(stat.S_IMODE(os.fstat(old.fileno()).st_mode))
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


def _fill(file: typing.IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _claimed(folder: pathlib.Path) -> typing.IO[bytes]:
    """A new hidden file, open and locked. Its lock ends with its process, and says to others whether that lives."""
    while True:
        file = open(folder / f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}", "xb")  # noqa: SIM115  the caller closes it
        _lock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another writer took it for a leftover before it was locked


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Remove the hidden files of writers that are no more. One that cannot be locked or removed stays."""
    for leftover in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError), leftover.open("rb") as file:
            if _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                leftover.unlink()


def _lock(file: typing.IO[bytes], operation: int) -> bool:
    """Whether the lock was had. False: another process has it, or the file system knows no locks."""
    try:
        fcntl.flock(file, operation)
    except OSError:
        return False
    return True
