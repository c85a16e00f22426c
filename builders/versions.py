"""Which versions compute: results are the same, to the byte, where these are."""

from __future__ import annotations

import platform

from manifests.installed import installed_version


def versions() -> dict[str, str]:
    """Of Python, and of the packages that results depend on.

    Returns
    -------
    dict of str to str
        By name.
    """
    names = ("stemloom", "numpy", "scipy", "librosa", "soundfile", "soxr", "pandas")
    found = {name: installed_version(name) or "not installed" for name in names}
    return {"python": platform.python_version(), **found}
