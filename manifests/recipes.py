"""Settings as a person writes them: in YAML, on the command line, in Python.

A recipe is a frozen pydantic model. Whatever is wrong with one is told at once, a line for each wrong field:
where it is, what was given, what is allowed, and for an unknown field the nearest known one.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from manifests.errors import RecipeError, did_you_mean
from manifests.plain import yaml_of

__all__ = [
    "Settings",
    "find_recipe",
    "load_recipe",
    "make_recipe",
    "read_mapping",
    "read_rows",
    "recipe_names",
    "wrong_fields",
]

Recipe = TypeVar("Recipe", bound=BaseModel)

_MAX_SHOWN = 200
_MERGE = "tag:yaml.org,2002:merge"


class Settings(BaseModel):
    """A frozen group of fields within a recipe; an unknown field is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, dict):
            unknown = [
                _unknown(str(field), list(cls.model_fields)) for field in values if field not in cls.model_fields
            ]
            if unknown:
                raise PydanticCustomError("unknown_field", "{message}", {"message": "; ".join(unknown)})
        return values


def recipe_names(folders: Sequence[Path]) -> list[str]:
    """Names of the ready recipes in folders, sorted."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def find_recipe(recipe: str | Path, folders: Sequence[Path], what: str = "recipe") -> Path:
    """The file that a person means.

    Parameters
    ----------
    recipe : str or Path
        The name of a ready recipe, or the path of a YAML file.
    folders : sequence of Path
        Where ready recipes are.
    what : str
        Their kind, for the error.

    Returns
    -------
    Path

    Raises
    ------
    RecipeError
        When there is no such recipe; the nearest one is named.
    """
    # a name may be too long for a file's, and `Path.is_file` raises then
    if isinstance(recipe, Path) or recipe.endswith((".yaml", ".yml")) or os.path.isfile(recipe):
        return Path(recipe)
    for folder in folders:
        if os.path.isfile(folder / f"{recipe}.yaml"):
            return folder / f"{recipe}.yaml"
    names = recipe_names(folders)
    raise RecipeError(
        f"there is no ready {what} '{recipe}'{did_you_mean(recipe, names)}; there are {', '.join(names)}, or give "
        "the path of a YAML file"
    )


def load_recipe(path: Path, kind: type[Recipe]) -> Recipe:
    """Read a recipe from YAML.

    Parameters
    ----------
    path : Path
        A mapping of the recipe's fields; those left out keep their defaults.
    kind : type
        `CatalogRecipe`, `CurateRecipe`, or another one.

    Returns
    -------
    kind

    Raises
    ------
    RecipeError
        If the file cannot be read, is no mapping, or fields are unknown (the nearest known one is named) or out
        of their range; one line for each.
    """
    return make_recipe(read_mapping(path), str(path), kind)


def read_mapping(path: Path) -> dict[str, object]:
    """The mapping that a YAML file holds, or a `RecipeError` that says what is wrong with it."""
    twice: list[str] = []
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml_of(text, look=lambda node: twice.extend(_keys_twice(node)))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: cannot be read, there is no such file; correct the path") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read as YAML ({error}); correct the file") from error
    if twice:
        raise RecipeError("\n".join(f"{path}: {problem}" for problem in twice))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds a {type(values).__name__}, expected 'field: value' lines")
    return values


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table that a person wrote: CSV in UTF-8, with a header.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        That there must be. Others do not matter.

    Yields
    ------
    line_num : int
        The last line of the row in the file.
    row : dict of str to str
        What stands in these columns, without blanks around; empty where nothing does.

    Raises
    ------
    RecipeError
        The file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            for name in columns:
                if name not in header:
                    known = ", ".join(header) or "none"
                    if ";" in known:
                        raise RecipeError(f"{path}: its columns are set apart by ';' ({known}); use commas")
                    raise RecipeError(
                        f"{path}: has no column '{name}'{did_you_mean(name, header)}; its columns are {known}"
                    )
            places = {name: header.index(name) for name in columns}
            for cells in lines:
                if cells:
                    yield lines.line_num, {name: "".join(cells[at : at + 1]).strip() for name, at in places.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: cannot be read as CSV in UTF-8 ({error}); correct the file") from error


def _keys_twice(root: yaml.Node) -> list[str]:
    """Keys that stand twice in one mapping, of which YAML would take the last without a word.

    What a merge (``<<``) brings stands in another mapping, and may be said again.
    """
    problems = []
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
            lines: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                    continue
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    problems.append((line, f"key '{key.value}' stands in line {lines[name]} already"))
                lines.setdefault(name, line)
    return [f"line {line}: {problem}; leave one of them out" for line, problem in sorted(problems)]


def make_recipe(values: dict[str, object], source: str, kind: type[Recipe]) -> Recipe:
    """A recipe from plain values, with errors that name the field, the value and the fix."""
    known = list(kind.model_fields)
    problems = [f"{source}: {_unknown(str(field), known)}" for field in values if field not in known]
    try:
        recipe = kind.model_validate({field: values[field] for field in values if field in known})
        if not problems:
            return recipe
    except ValidationError as error:
        problems += [f"{source}: {problem}" for problem in wrong_fields(error)]
    raise RecipeError("\n".join(problems))


def wrong_fields(error: ValidationError) -> list[str]:
    """What pydantic says about a recipe, a line for each wrong field: its name, its value, what is allowed."""
    return [_wrong(problem) for problem in error.errors()]


def _wrong(problem: Any) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    # of a choice of types, pydantic names each that was tried
    place = ".".join(str(part) for part in problem["loc"] if not re.match(r"(literal|constrained)\b", str(part)))
    if not place:
        return message
    if problem["type"] == "missing":
        return f"field '{place}' is missing; add it"
    if isinstance(problem["input"], dict):  # a whole group of fields: the message says which
        return f"field '{place}': {message}"
    return f"field '{place}' is {_shown(problem['input'])}: {message}; correct the value"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _unknown(field: str, known: list[str]) -> str:
    field = field if len(field) <= _MAX_SHOWN else f"{field[:_MAX_SHOWN]}..."
    near = difflib.get_close_matches(field, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; known fields: {', '.join(known)}"
    return f"unknown field '{field}'{hint}"
