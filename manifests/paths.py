"""Paths in tables: POSIX, relative to a named root, and never out of it.

A corpus can then be moved, zipped or put in a bucket, and a table from a stranger cannot make us open a file
outside of the folder it came in. The check is on the text; a symbolic link inside the folder is followed,
since whoever owns the folder put it there.
"""

from __future__ import annotations

import re
from pathlib import Path

from manifests.errors import TableError

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
        False for an empty or absolute path, one with a `..` part (behind `/` or `\`), a drive, or a NUL.

    Examples
    --------
    >>> is_portable("songs/a b.flac"), is_portable("../secret.wav"), is_portable("/etc/passwd")
    (True, False, False)
    """
    if not path or "\0" in path or path[0] in "/\\" or _DRIVE.match(path):
        return False
    return ".." not in re.split(r"[/\\]", path)


def resolve(root: Path, path: str) -> Path:
    """Put a path from a table under its root.

    Parameters
    ----------
    root : Path
        The folder that the row's `root` names.
    path : str
        POSIX, relative.

    Returns
    -------
    Path
        Under `root`.

    Raises
    ------
    TableError
        When the path is absolute or would leave the root.
    """
    if not is_portable(path):
        raise TableError(f"path {path!r} is not a relative POSIX path that stays under {root}; correct the row")
    return root.joinpath(*path.split("/"))
