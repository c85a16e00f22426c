"""What can be set and what is stored: keys of recipes, flags of commands, columns of tables, in words for people.

All of it is read off the code: pydantic's fields with the docstrings below them, cyclopts' arguments, pandera's
columns.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from cyclopts import App, Parameter, validators
from pydantic import AfterValidator, BaseModel, BeforeValidator, TypeAdapter
from pydantic.fields import FieldInfo

import stemloom
from augment.recipe import MixRecipe
from augment.transforms.rule import Rule
from augment.transforms.rules import RULES
from builders.recipe import RECIPES, LibrariesRecipe, MixedRecipe, MixtureRecipe
from manifests.recipes import Settings
from manifests.schemas import FLOAT, INTEGER, SCHEMAS, STRING, dtype_of
from separators.loading import SeparatorRecipe
from separators.pretrained.mdx_net import MDXRecipe
from separators.pretrained.programs import ProgramRecipe
from training.recipe import TrainRecipe
from training.study import StudyRecipe

PACKAGES = ("manifests", "curation", "augment", "separators", "builders", "training")

ROOTS: tuple[tuple[str, str, tuple[type[BaseModel], ...]], ...] = (
    ("catalog", "`stemloom build catalog`", (RECIPES["catalog"],)),
    *(
        (name, f"`stemloom {name}`", (recipe,))
        for name, recipe in RECIPES.items()
        if name != "catalog" and recipe is not MixedRecipe
    ),
    ("mixtures", "`stemloom build cinematic`, `stemloom build universal`", (MixtureRecipe,)),
    ("libraries", "`stemloom build libraries`", (LibrariesRecipe,)),
    ("mix", "Mixing recipes", (MixRecipe,)),
    ("transforms", "Transforms", tuple(RULES.values())),
    ("train", "Training recipes", (TrainRecipe,)),
    ("study", "`stemloom ablate`", (StudyRecipe,)),
    ("separators", "Separators in YAML", (SeparatorRecipe, MDXRecipe, ProgramRecipe)),
)
"""Pages about recipes: file, title, models. Models that these hold go to the first page that needs them."""


class Setting(NamedTuple):
    """A key, flag or column, as the reference shows it."""

    name: str
    kind: str
    default: str | None
    meaning: str


class Command(NamedTuple):
    """A command of the command line."""

    name: str
    app: App


def models() -> list[type[BaseModel]]:
    """Every public group of keys that a person writes, in all packages."""
    found: dict[type[BaseModel], None] = dict.fromkeys(RECIPES.values())
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            for name, value in _settings_of(module.name):
                if value.__module__ == module.name and value.model_fields and not name.startswith("_"):
                    found[value] = None
    return list(found)


def _settings_of(module: str) -> Iterator[tuple[str, type[Settings]]]:
    for name, value in vars(importlib.import_module(module)).items():
        if isinstance(value, type) and issubclass(value, Settings):
            yield name, value


def commands(app: App = stemloom.app, path: tuple[str, ...] = ()) -> Iterator[Command]:
    """Every command, in the order of the command line's help."""
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], (*path, name))
    if path and app.default_command is not None:
        yield Command(" ".join(path), app)


def flags(command: Command) -> list[tuple[Any, Setting]]:
    """The arguments of a command that can be given, each with what cyclopts knows of it."""
    arguments = command.app.assemble_argument_collection(parse_docstring=True)
    return [
        (
            argument,
            Setting(
                ", ".join(f"`{name}`" for name in argument.names),
                kind_of(argument.field_info.annotation).replace("true or false", "switch"),
                None if argument.required else default_text(argument.field_info.default),
                argument.parameter.help or "",
            ),
        )
        for argument in arguments
        if argument.names != ("*",)
    ]


def keys(model: type[BaseModel]) -> list[Setting]:
    """The keys of a recipe."""
    return [
        Setting(
            name,
            kind_of(field.annotation, field.metadata),
            None if field.is_required() else default_of(field),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


_UNTOLD = ("finite", "at least one character long")


def columns(table: str) -> list[Setting]:
    """The columns of a table."""
    found = []
    for name, column in SCHEMAS[table].columns.items():
        kind = {STRING: "text", INTEGER: "whole number", FLOAT: "number"}[dtype_of(column)]
        limits = [check.error for check in column.checks if check.error not in _UNTOLD]
        limits = [
            _or(f"`{name}`" for name in re.split(", | or ", text.removeprefix("one of ")))
            if text.startswith("one of ")
            else text
            for text in limits
        ]
        kind = f"{kind}: {'; '.join(limits)}" if limits else kind
        shown = name.strip("^$").replace(r"\w+", "<stem>")
        found.append(Setting(shown, kind, "yes" if column.nullable else "no", column.description or ""))
    return found


_PLAIN = {
    str: "text",
    float: "number",
    int: "whole number",
    bool: "true or false",
    Path: "path",
    type(None): "none",
    Any: "anything",
}


def kind_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What may be given, in words: `number above 0, or none`.

    Parameters
    ----------
    annotation : type
        With or without `Annotated`.
    metadata : sequence
        What pydantic and cyclopts took off it: bounds and validators.

    Returns
    -------
    str
        Markdown.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(parts[0], (*parts[1:], *metadata))
    if origin is Literal:
        return _or(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return _or(kind_of(part, () if part is type(None) else metadata) for part in parts)
    if origin in (tuple, list):
        if any(isinstance(item, BeforeValidator) and item.func.__name__ == "_pair_if_number" for item in metadata):
            return f"number, or two of them{_bounds(metadata)}"
        kinds = [kind_of(part) for part in parts if part is not ...]
        return f"list of {kinds[0]}" if len(kinds) == 1 else f"list ({'; '.join(kinds)})"
    if origin is dict or (isinstance(origin, type) and issubclass(origin, typing.Mapping)):
        return f"mapping of {kind_of(parts[0])} to {kind_of(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Rule) and annotation is Rule:
        return "[transform](transforms.md)"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        page, anchor = places()[annotation]
        return f"[{annotation.__name__}]({page}.md#{anchor})"
    kind = _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return f"{kind}{_bounds(metadata)}"


_LIMITS = (
    ("gt", "above {:,.10g}"),
    ("ge", "at least {:,.10g}"),
    ("lt", "below {:,.10g}"),
    ("le", "at most {:,.10g}"),
)


def _bounds(metadata: Sequence[Any]) -> str:
    """What pydantic's, cyclopts' and `within`'s checks ask for, as the end of a phrase."""
    limits: dict[str, Any] = {}
    for item in metadata:
        checks = item.validator if isinstance(item, Parameter) else item
        for check in checks if isinstance(checks, tuple) else (checks,):
            if isinstance(check, FieldInfo):
                return _bounds(check.metadata)
            if isinstance(check, AfterValidator) and check.func.__qualname__.startswith("within."):
                found = inspect.getclosurevars(check.func).nonlocals
                limits |= {"ge": found["low"], "le": found["high"]}
            elif isinstance(check, validators.Number):
                limits |= {"gt": check.gt, "ge": check.gte, "lt": check.lt, "le": check.lte}
            else:
                limits |= {name: getattr(check, name) for name, _ in _LIMITS if hasattr(check, name)}
    limits = {name: value for name, value in limits.items() if value is not None and abs(value) < math.inf}
    if {"ge", "le"} <= set(limits):
        return f" from {limits['ge']:,.10g} to {limits['le']:,.10g}"
    words = [text.format(limits[name]) for name, text in _LIMITS if name in limits]
    return f" {' and '.join(words)}" if words else ""


def _or(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def default_of(field: FieldInfo) -> str:
    """The default of a key."""
    return default_text(field.get_default(call_default_factory=True))


def default_text(value: Any) -> str:
    """A default as a person would write it in YAML."""
    if value is None or value == "":
        return "none" if value is None else "empty"
    if isinstance(value, BaseModel) and not value.model_dump(exclude_defaults=True):
        return "all defaults"
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation."""
    if isinstance(annotation, type) and not get_origin(annotation):
        if issubclass(annotation, BaseModel) and annotation is not Rule:
            yield annotation
        return
    for part in get_args(annotation):
        yield from _within(part)


def places() -> dict[type[BaseModel], tuple[str, str]]:
    """The page and the anchor of each model."""
    if not _PLACES:
        for page, _, roots in ROOTS:
            waiting = list(roots)
            while waiting:
                model = waiting.pop(0)
                if model not in _PLACES:
                    _PLACES[model] = page, heading_of(model).lower()
                    waiting += [
                        inner for field in model.model_fields.values() for inner in _within(field.annotation)
                    ]
        for model in models():
            page = model.__module__.rpartition(".")[2]
            _PLACES.setdefault(model, (page if model is not MixedRecipe else "mixtures", heading_of(model).lower()))
        _PLACES.pop(Rule, None)
    return _PLACES


_PLACES: dict[type[BaseModel], tuple[str, str]] = {}


def heading_of(model: type[BaseModel]) -> str:
    """What a model is called: a transform by its name, others as in Python."""
    return next((name for name, rule in RULES.items() if rule is model), model.__name__)
