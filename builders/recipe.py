"""Settings of a build, as a person writes them in YAML or on the command line.

A recipe is complete and frozen: everything that changes what a build makes is in it (the number of jobs is not),
it is written into the build folder first, and a folder holds one recipe's work only.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from manifests.errors import RecipeError


def _none_if_said(value: object) -> object:
    """The command line has no null: 'none' stands for it."""
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


def _number_if_said(value: object) -> object:
    """The command line has only text, and a choice of numbers takes it for none of them."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


_Said = BeforeValidator(_none_if_said)


class CatalogRecipe(BaseModel):
    """How a catalogue becomes a corpus. The defaults are the filters of Pretet et al. (ICASSP 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_duration_difference_s: Annotated[Annotated[float, Field(ge=0)] | None, _Said] = 2.0
    """Largest difference between the durations of the music (not of the files) of a pair; none: any.
    Edits, where bars are missing from one release, need more than the paper's 2 s."""

    max_song_s: Annotated[Annotated[float, Field(gt=0)] | None, _Said] = 300.0
    """Longer music is left out; none: any length."""

    min_song_s: Annotated[float, Field(gt=0)] = 10.0
    """Shorter music is left out."""

    max_bit_error_rate: Annotated[float, Field(gt=0, le=0.5)] = 0.4
    """Fingerprints that differ more are not looked at further; unrelated songs are above 0.43."""

    min_votes: Annotated[int, Field(ge=2)] = 3
    """Equal sub-fingerprints at one offset that make two tracks candidates without any metadata."""

    min_segment_s: Annotated[float, Field(gt=0)] = 6.0
    """Shorter common stretches of an edited pair are left out."""

    method: Literal["transfer", "half-wave"] = "transfer"
    """How the vocals are derived; see `curation.derivation`."""

    loudness_lufs: Annotated[Annotated[float, Field(ge=-70, le=0)] | None, _Said] = None
    """Bring every mixture to this loudness, the same gain on its stems, so that they still sum; none: as released.
    Lower where the peak would pass full scale."""

    audio_format: Literal["flac", "wav"] = "flac"
    bit_depth: Annotated[Literal[16, 24], BeforeValidator(_number_if_said)] = 24

    max_item_s: Annotated[float, Field(gt=0)] = 900.0
    """A file or pair that takes longer is given up, with a row in the rejected table."""


def load_recipe(path: Path) -> CatalogRecipe:
    """Read a recipe from YAML.

    Parameters
    ----------
    path : Path
        A mapping of `CatalogRecipe`'s fields; those left out keep their defaults.

    Returns
    -------
    CatalogRecipe

    Raises
    ------
    RecipeError
        If the file cannot be read, is no mapping, or fields are unknown (the nearest known one is named) or out
        of their range; one line for each.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: cannot be read as YAML ({error}); correct the file") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds a {type(values).__name__}, expected 'field: value' lines")
    return make_recipe(values, str(path))


def make_recipe(values: dict[str, object], source: str) -> CatalogRecipe:
    """A recipe from plain values, with errors that name the field, the value and the fix."""
    known = list(CatalogRecipe.model_fields)
    problems = []
    for field in values:
        if field not in known:
            near = difflib.get_close_matches(str(field), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known fields: {', '.join(known)}"
            problems.append(f"{source}: unknown field '{field}'{hint}")
    try:
        recipe = CatalogRecipe.model_validate({field: values[field] for field in values if field in known})
        if not problems:
            return recipe
    except ValidationError as error:
        problems += [f"{source}: {problem}" for problem in wrong_fields(error)]
    raise RecipeError("\n".join(problems))


def wrong_fields(error: ValidationError) -> list[str]:
    """What pydantic says about a recipe, a line for each wrong field: its name, its value, what is allowed."""
    return [
        f"field '{problem['loc'][0]}' is {problem['input']!r}: {problem['msg']}; correct the value"
        for problem in error.errors()
    ]
