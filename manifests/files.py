"""Files that appear whole or not at all.

Every file that stemloom writes goes through `replacing`: the bytes land in a temporary file beside the
target, are synced to the disk, and take the target's name in one rename. Whoever sees the name sees the whole
file, so that existence can stand for completion. A killed process leaves at most a temporary file, whose name
starts with `TEMPORARY_PREFIX`; it may be deleted whenever no build is running.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from manifests.errors import BuildError

TEMPORARY_PREFIX = ".stemloom-"

_FIXES = {
    errno.ENOSPC: "free some space, then run the same command again: it resumes",
    errno.EDQUOT: "free some of your quota, then run the same command again: it resumes",
    errno.EFBIG: "raise the file size limit (ulimit -f) or choose a file system that takes larger files",
    errno.EROFS: "choose a folder on a writable file system",
    errno.EACCES: "choose a folder that you may write to, or change its permissions",
    errno.EPERM: "choose a folder that you may write to, or change its permissions",
    errno.ENAMETOOLONG: "shorten the file's name",
    errno.EISDIR: "remove the folder of that name, or choose another build folder",
    errno.ENOTDIR: "a parent of this path is a file: move it, or choose another build folder",
}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes `path` when the block ends without an exception.

    Parameters
    ----------
    path : Path
        The file to create or to replace. Missing parent folders are created.

    Yields
    ------
    BinaryIO
        The temporary file, open for writing and seeking.

    Raises
    ------
    BuildError
        When the file system refuses (full, read-only, no permission ...). The temporary file is removed and
        whatever was at `path` before is untouched.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def appending(path: Path, size: int) -> Iterator[BinaryIO]:
    """Write on from some size, for files whose valid length is told by another that `replacing` writes.

    Parameters
    ----------
    path : Path
        The file, created if it is missing; its folder must be there.
    size : int
        Bytes that stay. What is behind them, from a run that was killed, is cut off.

    Yields
    ------
    BinaryIO
        Open for writing at its end; on the disk when the block ends without an exception.

    Raises
    ------
    BuildError
        When the file system refuses.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 1 << 20) as file:
            file.truncate(size)
            file.seek(size)
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> BuildError:
    fix = _FIXES.get(error.errno or 0, "check the disk, then run the same command again")
    return BuildError(f"{path}: cannot be written ({error.strerror or error}); {fix}")


def _created(temporary: Path) -> BinaryIO:
    # Not tempfile: it makes files that only their owner may read, and a corpus is shared.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    return os.fdopen(descriptor, "w+b")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Not every system can sync a folder; those that cannot do not need it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
