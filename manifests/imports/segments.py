"""Files that are of one class now and of another then: what a person has said is heard when, and stems made of it.

A table beside the files, CSV in UTF-8 with a header, has a row for each part of a file::

    file,start_s,end_s,label
    MFX,0,12.5,music
    MFX,12.5,,effects

`file` is its name, without suffix and without a loudspeaker's; an empty `end_s` is its end. A stem is the sum of
all parts with its label; parts of a file that no row names are in none. Parts with one label may touch or overlap.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024, section 3.2:
stem tracks of films hold dialogue, effects, music "or their combination", and were labelled so by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from manifests.corpus import MIXTURE
from manifests.downmix import split_speaker
from manifests.errors import RecipeError, did_you_mean
from manifests.imports.songs import plain_text, stem_name
from manifests.recipes import read_rows

__all__ = ["COLUMNS", "Segment", "Spans", "in_segments", "read_segments"]

COLUMNS = ("file", "start_s", "end_s", "label")

Segment: TypeAlias = tuple[str, float, float]
"""Label, start and end in seconds."""

Spans: TypeAlias = dict[tuple[str, Path], tuple[tuple[float, float], ...]]


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """What a table says of files.

    Parameters
    ----------
    path : Path
        As this module's docstring says.

    Returns
    -------
    dict of str to list of (label, start in seconds, end in seconds)
        By the file's name as `stem_name` has it; an open end is infinite.

    Raises
    ------
    RecipeError
        The file cannot be read, lacks a column, or a row has no file or label, or a span that is none.
    """
    found: dict[str, list[Segment]] = {}
    for line_num, row in read_rows(path, COLUMNS):
        where = f"{path}: line {line_num}"
        for column in ("file", "label"):
            if not row[column]:
                raise RecipeError(f"{where}: has no {column}; write it, or take the row out")
        start_s = _seconds(row["start_s"], where, "start_s", 0.0)
        end_s = _seconds(row["end_s"], where, "end_s", math.inf)
        if not start_s < end_s:
            raise RecipeError(f"{where}: ends at {end_s:g} s and starts at {start_s:g} s; correct one of them")
        found.setdefault(stem_name(row["file"]), []).append((stem_name(row["label"]), start_s, end_s))
    for name, parts in found.items():
        if any(label == MIXTURE for label, _, _ in parts):
            raise RecipeError(f"{path}: a part of '{name}' is labelled '{MIXTURE}', which is the sum of stems")
    return found


def in_segments(
    files: Mapping[str, Sequence[Path]], segments: Mapping[str, Sequence[Segment]], called: Mapping[str, str]
) -> tuple[dict[str, tuple[Path, ...]], Spans]:
    """Stems made of parts of files.

    Parameters
    ----------
    files : mapping of str to sequence of Path
        By the stem that each file alone would be.
    segments : mapping of str to sequence of Segment
        Of `read_segments`.
    called : mapping of str to str
        What labels are called instead.

    Returns
    -------
    stems : dict of str to tuple of Path
    spans : dict of (stem, path) to tuple of (float, float)
        In seconds, in order and apart; of files without segments there is none.

    Raises
    ------
    RecipeError
        The table names a file that is not there.
    """
    by_name: dict[str, str] = {}
    for stem, paths in files.items():
        for path in paths:
            by_name |= {stem_name(plain_text(name)): stem for name in (split_speaker(path.stem)[0], path.stem)}
    for name in segments:
        if name not in by_name:
            known = ", ".join(sorted(by_name))
            raise RecipeError(f"there is no file '{name}'{did_you_mean(name, by_name)}: there are {known}")
    labelled = {by_name[name]: parts for name, parts in segments.items()}
    stems: dict[str, tuple[Path, ...]] = {}
    spans: Spans = {}
    for stem, paths in files.items():
        if stem not in labelled:
            stems[stem] = (*stems.get(stem, ()), *paths)
            continue
        parts: dict[str, list[tuple[float, float]]] = {}
        for label, start, end in labelled[stem]:
            parts.setdefault(called.get(label, label), []).append((start, end))
        for name, of_name in parts.items():
            for path in paths:
                stems[name] = (*stems.get(name, ()), path)
                spans[name, path] = _joined(of_name)
    return stems, spans


def _seconds(cell: str, where: str, column: str, otherwise: float) -> float:
    if not cell:
        return otherwise
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise RecipeError(f"{where}: {column} is '{cell}'; write seconds from the file's start, such as 12.5")
    return value


def _joined(parts: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(parts):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)
