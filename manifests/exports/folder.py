"""A folder that appears when it is complete, or not at all.

Everything is written into a hidden folder beside the target, which takes the target's name in one rename. Whoever
sees the name sees all of it. A process that is killed leaves the hidden folder, whose name starts with
`TEMPORARY_PREFIX`; the next export to the same target removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder that takes the name `out` when the block ends without an exception.

    Parameters
    ----------
    out : Path
        Does not exist, or is an empty folder. Missing parents are created.

    Yields
    ------
    Path
        The hidden folder to write into, on the same file system as `out`.

    Raises
    ------
    BuildError
        When `out` is a file, a mount point or a folder with something in it, another process is writing to it, or
        the file system refuses. Nothing that was there before is touched.
    """
    refuse_taken(out)
    target = out.resolve()
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(out, temporary)
    except OSError as error:
        raise BuildError(
            f"{out}: cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error
    try:
        yield temporary
        try:
            os.rename(temporary, target)
        except OSError as error:
            raise BuildError(
                f"{out}: cannot take its name ({error.strerror}): something was put there meanwhile; "
                "choose a folder that is empty"
            ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def refuse_taken(out: Path) -> None:
    """Refuse a folder that cannot be made new, before work is done for it.

    Parameters
    ----------
    out : Path
        As for `new_folder`.

    Raises
    ------
    BuildError
        When it is a file, a mount point, or a folder with something in it.
    """
    target = out.resolve()
    if not target.exists():
        return
    if not target.is_dir():
        raise BuildError(f"{out}: is a file; choose a folder that is new or empty")
    if target.is_mount():
        raise BuildError(f"{out}: is a mount point, which cannot be renamed; choose a new folder in it")
    try:
        found = next(target.iterdir(), None)
    except OSError as error:
        raise BuildError(f"{out}: cannot be read ({error.strerror}); check its permissions") from error
    if found is not None:
        raise BuildError(
            f"{out}: already holds '{found.name}', and nothing is overwritten; choose a folder that is new or empty"
        )


def _locked(out: Path, temporary: Path) -> int:
    """Make the temporary folder, hold it, and empty it of what a killed process left there."""
    busy = f"{out}: another process is writing to this folder; wait until it has ended, or choose another folder"
    temporary.mkdir(exist_ok=True)
    try:
        # The folder itself is locked, not a file in it: the lock then goes wherever the folder is renamed to.
        handle = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BuildError(busy) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            _log.debug("%s: this file system locks no folders", temporary)  # NFS
        if not os.path.samestat(os.fstat(handle), os.stat(temporary)):
            raise BlockingIOError
        for left in temporary.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    except (BlockingIOError, FileNotFoundError) as error:
        os.close(handle)
        raise BuildError(busy) from error
    except BaseException:
        os.close(handle)
        raise
    return handle
