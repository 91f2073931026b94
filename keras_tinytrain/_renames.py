"""Two renames that lose nothing: onto a name that is free, and of two folders for one another (Linux' renameat2)."""

import ctypes
import errno
import os

_HERE, _NOREPLACE, _EXCHANGE = -100, 1, 2  # AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)  # by the kernel or by the file system


def rename_onto_nothing(source: os.PathLike, target: os.PathLike) -> None:
    """Rename a folder. Raises FileExistsError where anything has the new name, and leaves it alone."""
    if not _renameat2(source, target, _NOREPLACE):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
        os.rename(source, target)


def exchange(one: os.PathLike, other: os.PathLike) -> bool:
    """Let two files or folders change names in one step. Returns False where the file system cannot; then nothing has changed."""
    return _renameat2(one, other, _EXCHANGE)


def _renameat2(source, target, flags):
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_HERE, os.fsencode(source), _HERE, os.fsencode(target), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))
