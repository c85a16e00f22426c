"""Names for files and folders: ones that every file system takes, and that no two things share.

Two names that differ only in case, or in how Unicode composes them, are one name on macOS and Windows.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from manifests.errors import TableError

# Together, with brackets and a suffix, within the 255 bytes of most file systems.
_LABEL_BYTES, _ID_BYTES = 150, 80
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)  # Windows', with any suffix


def file_name(text: str, num_bytes: int = _LABEL_BYTES) -> str:
    """A text as a name that Linux, macOS and Windows take for a file or folder, and none hides.

    Parameters
    ----------
    text : str
    num_bytes : int
        Longest length, in UTF-8.

    Returns
    -------
    str
        Composed (NFC), with `_` for what a name may not hold.

    Examples
    --------
    >>> file_name("AC/DC - T.N.T.")
    'AC_DC - T.N.T'
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text))
    name = name.encode("utf-8")[: num_bytes - 1].decode("utf-8", "ignore").strip(" .")
    if _DEVICES.fullmatch(name.partition(".")[0].rstrip()):
        name = f"_{name}"
    return name or "untitled"


def unique_names(labels: Mapping[str, str]) -> dict[str, str]:
    """Names for files and folders, no two alike.

    Parameters
    ----------
    labels : mapping of str to str
        Id to what it is called.

    Returns
    -------
    dict of str to str
        Id to `file_name` of its label, with the id in brackets where several share it (in any case).

    Raises
    ------
    TableError
        When two ids differ only in case, or in what a file name cannot hold.
    """
    names = {key: file_name(label) for key, label in labels.items()}
    counts = Counter(_folded(name) for name in names.values())
    for key, name in names.items():
        if counts[_folded(name)] > 1:
            names[key] = f"{name} ({file_name(key, _ID_BYTES)})"
    owners: dict[str, str] = {}
    for key, name in names.items():
        other = owners.setdefault(_folded(name), key)
        if other != key:
            raise TableError(f"'{other}' and '{key}' would both be named '{name}'; rename one of them")
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
