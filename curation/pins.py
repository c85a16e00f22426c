"""Songs that are placed in a split beforehand, and their whole groups with them; see `curation.splits`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import rapidfuzz.process

from curation.versions import title_key
from manifests.errors import RecipeError, TableError, did_you_mean

__all__ = ["pinned_splits"]

Ints = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


def pinned_splits(
    frame: pd.DataFrame,
    of_song: Ints,
    groups: Sequence[str],
    *,
    known: Set[str],
    keep: Collection[str],
    previous: pd.Series[Any] | Mapping[str, str] | None,
    fixed: Mapping[str, str],
    missing: Literal["error", "drop"],
) -> list[str | None]:
    """Find the split that each group is pinned to.

    Parameters
    ----------
    frame : pd.DataFrame
        Songs, indexed by their ids; columns ``split``, ``artist`` and ``title`` where there are such.
    of_song : np.ndarray of int64 [shape=(songs,)]
        The group of every song.
    groups : sequence of str
        Ids of the groups.
    known : set of str
        Splits that there are.
    keep, previous, fixed, missing
        As for `curation.splits.assign_splits`.

    Returns
    -------
    list of str or None
        One for each group; None where nobody placed any of its songs.

    Raises
    ------
    RecipeError
        If a fixed name has no song or several, a split is not known, or two pins contradict each other.
    TableError
        If a song is in `previous` twice.
    """
    pins = [
        *_kept(frame, keep),
        *_placed(frame, previous, known),
        *_fixed(frame, of_song, fixed, known, missing),
    ]
    return _of_groups(frame, of_song, groups, pins)


@dataclass(frozen=True)
class _Pins:
    """Songs, by row, that somebody placed, and who."""

    rows: Ints
    splits: Sequence[str]
    source: str


def _kept(frame: pd.DataFrame, keep: Collection[str]) -> Iterator[_Pins]:
    if "split" in frame and len(keep):
        rows = np.flatnonzero(frame["split"].isin(list(keep)))
        yield _Pins(rows, frame["split"].iloc[rows].tolist(), "column 'split'")


def _placed(
    frame: pd.DataFrame, previous: pd.Series[Any] | Mapping[str, str] | None, known: Set[str]
) -> Iterator[_Pins]:
    if previous is None:
        return
    placed = pd.Series(previous, dtype=object).dropna()
    if not placed.index.is_unique:
        raise TableError("previous: a song is there twice; keep one row per song")
    rows = frame.index.get_indexer(placed.index)
    placed, rows = placed[rows >= 0], rows[rows >= 0]
    for split in placed.unique():
        _check_known(split, known, f"previous: song {placed.index[placed == split][0]!r}")
    yield _Pins(rows, placed.tolist(), "previous")


def _fixed(
    frame: pd.DataFrame, of_song: Ints, fixed: Mapping[str, str], known: Set[str], missing: Literal["error", "drop"]
) -> Iterator[_Pins]:
    """Pins of songs by name: a song id, else a folded one, else artist and title, else a title."""
    for name, split in fixed.items():
        _check_known(split, known, f"fixed: {name!r}")
    exact = frame.index.get_indexer(pd.Index(list(fixed), dtype=object)).tolist()
    rows_of = {name: [row] for name, row in zip(fixed, exact, strict=True) if row >= 0}
    for names in _names(frame):
        key_of = {name: title_key(name) for name in fixed if name not in rows_of}
        found = _rows_by_key(names, set(key_of.values()))
        rows_of |= {name: found[key] for name, key in key_of.items() if key in found}
    for name, rows in rows_of.items():
        if len(set(of_song[rows].tolist())) > 1:
            raise RecipeError(
                f"fixed: {name!r} names {len(rows)} songs of several artists (first: {frame.index[rows[0]]!r}); "
                "write the song id, or 'Artist - Title'"
            )
        yield _Pins(np.array(rows, dtype=np.int64), [fixed[name]] * len(rows), "fixed")
    nameless = [name for name in fixed if name not in rows_of]
    if nameless and missing == "error":
        texts = [name for names in _names(frame) for name in names if isinstance(name, str)]
        near = rapidfuzz.process.extractOne(nameless[0], texts, score_cutoff=75)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        listed = ", ".join(map(repr, nameless[:5])) + (", ..." if len(nameless) > 5 else "")
        raise RecipeError(
            f"fixed: {len(nameless)} of {len(fixed)} names are those of no song: {listed}{hint}; correct them, or "
            "leave them out (missing='drop')"
        )
    if nameless:
        log.warning("%d of %d fixed names are those of no song, first %r", len(nameless), len(fixed), nameless[0])


def _names(frame: pd.DataFrame) -> Iterator[Iterable[object]]:
    """Names that songs may be called by, the surest first."""
    yield frame.index
    if "title" in frame:
        if "artist" in frame:
            yield frame["artist"] + " " + frame["title"]
        yield frame["title"]


def _rows_by_key(names: Iterable[object], keys: Collection[str]) -> dict[str, list[int]]:
    """Rows of the names that have one of these keys."""
    rows: dict[str, list[int]] = {}
    # What starts with a letter or digit of ASCII has a key that does, too; making keys takes much longer.
    starts = {key[:1] for key in keys}
    for row, name in enumerate(names) if keys else ():
        if not isinstance(name, str) or not name:
            continue
        if name[0].isascii() and name[0].isalnum() and name[0].lower() not in starts:
            continue
        if (key := title_key(name)) in keys:
            rows.setdefault(key, []).append(row)
    return rows


def _check_known(split: str, known: Set[str], where: str) -> None:
    if split not in known:
        raise RecipeError(
            f"{where} is in split {split!r}, which nobody asked for{did_you_mean(str(split), known)}; "
            f"splits are {', '.join(sorted(known))}"
        )


def _of_groups(
    frame: pd.DataFrame, of_song: Ints, groups: Sequence[str], pins: Sequence[_Pins]
) -> list[str | None]:
    rows = np.concatenate([np.zeros(0, np.int64), *(pin.rows for pin in pins)])
    table = pd.DataFrame(
        {
            "row": rows,
            "group": of_song[rows],
            "split": [split for pin in pins for split in pin.splits],
            "source": [pin.source for pin in pins for _ in pin.splits],
        }
    )
    first = table.drop_duplicates("group").set_index("group")
    against = table[table["split"].to_numpy() != first["split"].loc[table["group"]].to_numpy()]
    if len(against):
        other = against.iloc[0]
        one = first.loc[other["group"]]
        raise RecipeError(
            f"splits: song {frame.index[one['row']]!r} is to be in '{one['split']}' ({one['source']}) and song "
            f"{frame.index[other['row']]!r} in '{other['split']}' ({other['source']}), but they share an artist "
            f"(group {groups[other['group']]}), who can be in one split only; leave one of the songs out, or "
            f"place both alike (groups like this: {against['group'].nunique()})"
        )
    result: list[str | None] = [None] * len(groups)
    for group, split in zip(first.index.tolist(), first["split"].tolist(), strict=True):
        result[group] = split
    return result
