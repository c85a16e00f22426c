"""A separator that somebody has written in Python, by its module and its name.

::

    python:my_package.models:Separator          of an installed module
    python:models/mine.py:make_separator        of a file

What is named is a `separators.separator.Separator`, or something to call that gives one: a class or a function. It
is called with those of device, overlap, shifts, window and batch_size that it has parameters for, and everything it
gives is checked (`separators.pretrained.checked`). Naming a module runs its code.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from manifests.errors import RecipeError, did_you_mean
from separators.pretrained.checked import Checked
from separators.separator import Separator

if TYPE_CHECKING:
    from separators.loading import LoadOptions

__all__ = ["imported", "load"]


def load(rest: str, options: LoadOptions) -> Separator:
    """The separator that ``python:`` names.

    Parameters
    ----------
    rest : str
        ``MODULE:NAME`` or ``FILE.py:NAME``; dots in the name lead to attributes.
    options : LoadOptions

    Returns
    -------
    Separator

    Raises
    ------
    RecipeError
        Module or name are missing, cannot be imported, or are of no separator.
    """
    place, colon, name = rest.rpartition(":")
    if not (colon and place and name):
        raise RecipeError(f"python:{rest}: write python:MODULE:NAME, or python:FILE.py:NAME")
    found: Any = imported(place, options.folder)
    for part in name.split("."):
        if not hasattr(found, part):
            known = [known for known in dir(found) if not known.startswith("_")]
            raise RecipeError(f"python:{rest}: there is no '{part}'{did_you_mean(part, known)}: correct the name")
        found = getattr(found, part)
    # A class has the members of its instances, and is none.
    if inspect.isclass(found) or not isinstance(found, Separator):
        found = _called(found, rest, options)
    return Checked(found)


def imported(place: str, folder: Path) -> ModuleType:
    """A module of Python's, by its name or its file. Its code runs.

    Parameters
    ----------
    place : str
        ``package.module``, or the path of a ``.py`` file.
    folder : Path
        That relative paths are relative to.

    Returns
    -------
    ModuleType

    Raises
    ------
    RecipeError
        It cannot be found, or raises something.
    """
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        path = folder / Path(place).expanduser()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(
            f"python:{place}: cannot be imported ({type(error).__name__}: {error}); install the module, or name "
            "its file"
        ) from error
    return module


def _called(make: Any, rest: str, options: LoadOptions) -> Any:
    if not callable(make):
        raise RecipeError(f"python:{rest}: is a {type(make).__name__}, neither a separator nor what makes one")
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    try:
        known = inspect.signature(make).parameters
        return make(**{name: value for name, value in values.items() if name in known and name != "folder"})
    except Exception as error:
        raise RecipeError(
            f"python:{rest}: fails when it is called ({type(error).__name__}: {error}); let its parameters be of "
            "device, overlap, shifts, window, batch_size, or have defaults"
        ) from error
