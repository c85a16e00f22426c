"""The errors that stemloom raises on purpose.

One root, a few leaves. Catch `StemloomError` to catch them all. A leaf says what was at fault, its message
says where (path, field), what was found (value) and what to do about it. Anything else that escapes is a bug
of ours.

    StemloomError
    +-- AudioError     a file cannot be read, decoded or trusted: a builder turns it into a reject row
    +-- TableError     a table breaks its schema, or a row points outside its root
    +-- RecipeError    a recipe or a flag asks for something impossible
    +-- BuildError     a build folder, or the disk under it, is in the wrong state
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StemloomError(Exception):
    """The root of every error raised on purpose."""


class AudioError(StemloomError):
    """An audio file that cannot be read, decoded or trusted."""


class TableError(StemloomError):
    """A table that breaks its schema, or a row that points outside its root."""


class RecipeError(StemloomError):
    """A recipe, setting or flag that asks for something impossible."""


class BuildError(StemloomError):
    """A build folder in the wrong state, or a disk that cannot take what is written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a message about an unknown name.

    Parameters
    ----------
    name : str
        What was given.
    known : iterable of str
        What could have been meant.

    Returns
    -------
    str
        `` (did you mean 'NEAREST'?)`` with a leading space, or nothing when no known name is near.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
