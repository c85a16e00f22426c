"""Files that are of one class now and of another then: what a person has said is heard when, and stems made of it.

A table beside the files, CSV in UTF-8 with a header, has a row for each part of a file::

    file,start_s,end_s,label
    MFX,0,12.5,music
    MFX,12.5,,effects

`file` is its name, without a loudspeaker's where a downmix brings these together, and with or without its suffix;
an empty `end_s` is its end. A stem is the sum of all parts with its label; parts of a file that no row names are in
none. Parts with one label may touch or overlap.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024, section 3.2:
stem tracks of films hold dialogue, effects, music "or their combination", and were labelled so by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import MIXTURE
from manifests.errors import RecipeError, did_you_mean
from manifests.imports.songs import file_stem, stem_name
from manifests.recipes import read_rows

__all__ = ["COLUMNS", "Segment", "Spans", "in_segments", "read_segments"]

COLUMNS = ("file", "start_s", "end_s", "label")

Spans: TypeAlias = dict[tuple[str, Path], tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Segment:
    """A row of a table.

    Attributes
    ----------
    where : str
        Table and line.
    file : str
        As it is written.
    label : str
        As `stem_name` has it.
    start_s, end_s : float
        An open end is infinite.
    """

    where: str
    file: str
    label: str
    start_s: float
    end_s: float


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """What a table says of files.

    Parameters
    ----------
    path : Path
        As this module's docstring says.

    Returns
    -------
    dict of str to list of Segment
        By the file's name, without an audio file's suffix, as `stem_name` has it.

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
        part = Segment(where, row["file"], stem_name(row["label"]), start_s, end_s)
        if part.label == MIXTURE:
            raise RecipeError(f"{where}: a part is labelled '{row['label']}', which is the sum of stems; name one")
        found.setdefault(_without_suffix(part.file), []).append(part)
    return found


def in_segments(
    files: Mapping[str, Sequence[Path]],
    segments: Mapping[str, Sequence[Segment]],
    called: Mapping[str, str],
    *,
    by_speaker: bool = False,
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
    by_speaker : bool
        As for `songs.file_stem`.

    Returns
    -------
    stems : dict of str to tuple of Path
    spans : dict of (stem, path) to tuple of (float, float)
        In seconds, by their start; of files without segments there is none.

    Raises
    ------
    RecipeError
        The table names a file that is not there, or files of loudspeakers by one name.
    """
    by_name = {file_stem(path, by_speaker): stem for stem, paths in files.items() for path in paths}
    for name, (first, *_) in segments.items():
        if name in by_name:
            continue
        every = [path for paths in files.values() for path in paths]
        apart = ", ".join(path.name for path in every if file_stem(path, by_speaker=True) == name)
        if "," in apart:
            raise RecipeError(
                f"{first.where}: {first.file} has a file for each loudspeaker ({apart}); ask for a downmix"
            )
        known = ", ".join(sorted(by_name))
        hint = did_you_mean(name, by_name)
        raise RecipeError(f"{first.where}: there is no file '{first.file}'{hint}: there are {known}")
    labelled = {by_name[name]: parts for name, parts in segments.items()}
    stems: dict[str, tuple[Path, ...]] = {}
    spans: Spans = {}
    for stem, paths in files.items():
        if stem not in labelled:
            stems[stem] = (*stems.get(stem, ()), *paths)
            continue
        parts: dict[str, list[tuple[float, float]]] = {}
        for part in labelled[stem]:
            parts.setdefault(called.get(part.label, part.label), []).append((part.start_s, part.end_s))
        for name, of_name in parts.items():
            for path in paths:
                stems[name] = (*stems.get(name, ()), path)
                spans[name, path] = tuple(sorted(of_name))
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


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix
    return stem_name(name.removesuffix(suffix) if suffix.lower() in AUDIO_SUFFIXES else name)
