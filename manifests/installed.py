"""Which versions of packages are installed: what records of builds, trainings and weights tell."""

from __future__ import annotations

from importlib import metadata


def installed_version(package: str) -> str | None:
    """The version of a package.

    Parameters
    ----------
    package : str
        As `pip` calls it.

    Returns
    -------
    str or None
        None where it is not installed, as stemloom is not where it runs from its sources.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
