"""Paths in tables: POSIX, relative to a named root, and never out of it.

A corpus can then be moved, zipped or put in a bucket, and a table from a stranger cannot make us open a file
outside of the folder it came in. Nor can a symbolic link that came along in the stranger's archive: one that leads
to another place in its root is followed, one that leads out of it is refused. Whoever keeps audio on another disk
and has a link to it says so in the environment variable `STEMLOOM_LINKS`: the folders that links may lead to,
parted as those in `PATH` are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from manifests.errors import TableError
from manifests.staging import located

LINKS = "STEMLOOM_LINKS"
"""The environment variable with folders, besides a path's root, that links may lead to."""

_PART_BYTES, _PATH_CHARACTERS = 255, 4000
# Windows reads a drive into these, but 'C: Drive.mp3' is a fine name elsewhere, so only its absolute form is
# refused.
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


def is_portable(path: str) -> bool:
    r"""Whether a path may stand in a table.

    Parameters
    ----------
    path : str
        As found in a row.

    Returns
    -------
    bool
        False for an empty or absolute path, one with a `..` part (behind `/` or `\`), a drive, or a NUL, and one
        that is longer than file systems take.

    Examples
    --------
    >>> is_portable("songs/a b.flac"), is_portable("../secret.wav"), is_portable("/etc/passwd")
    (True, False, False)
    """
    if not path or "\0" in path or path[0] in "/\\" or _DRIVE.match(path):
        return False
    if len(path) > _PART_BYTES and (
        len(path) > _PATH_CHARACTERS
        or any(len(part.encode(errors="replace")) > _PART_BYTES for part in path.split("/"))
    ):
        return False
    return ".." not in re.split(r"[/\\]", path)


def resolve(root: Path, path: str) -> Path:
    """Put a path from a table under its root; from a bucket, bring the file (`manifests.staging`).

    Parameters
    ----------
    root : Path
        The folder that the row's `root` names.
    path : str
        POSIX, relative.

    Returns
    -------
    Path
        Under `root`, or in the folder of staged files.

    Raises
    ------
    TableError
        As `require_inside`.
    AudioError, BuildError
        When a store refuses.
    """
    require_inside(root, path)
    return located(root, path)


def require_inside(root: Path, path: str) -> None:
    """Refuse a path from a table that leads out of its root.

    Parameters
    ----------
    root : Path
    path : str
        POSIX, relative.

    Raises
    ------
    TableError
        When the path is absolute or would leave the root, by its text or through a symbolic link. What is not
        there is no link.
    """
    if not is_portable(path):
        raise TableError(f"path {path!r} is not a relative POSIX path that stays under {root}; correct the row")
    place = os.fspath(root)
    # each part is looked at, and not `realpath` of both: almost no path has a link, and crops are many
    for part in path.split("/"):
        place = f"{place}{os.sep}{part}"
        if os.path.islink(place):
            _refuse_outside(root, path)
            break


def _refuse_outside(root: Path, path: str) -> None:
    """Raise unless a path that goes through a link ends below its root, or where links may lead."""
    real = os.path.realpath(root.joinpath(*path.split("/")))
    allowed = [folder for folder in os.environ.get(LINKS, "").split(os.pathsep) if folder]
    for folder in (os.fspath(root), *allowed):
        if Path(real).is_relative_to(os.path.realpath(folder)):
            return
    raise TableError(
        f"path {path!r} leads out of {root} by a symbolic link, to {real}; put the file there, or, if you trust "
        f"the link, name the folder that it leads to: {LINKS}={os.path.dirname(real)}"
    )
