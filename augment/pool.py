"""What a recipe's sources can be drawn from: every place in every corpus that fits each rule, ready to draw.

    pool = make_pool(recipe, {"voices": Corpus.open(...), "music": Corpus.open(...)})

A pool holds columns, not objects: a million clips are about 50 MB, and a worker that is sent one unpickles arrays.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from augment.alias import AliasTable, alias_table
from augment.recipe import MixRecipe, SourceRule
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import RecipeError, did_you_mean
from manifests.packed import PackedCorpus

__all__ = ["Choice", "File", "Pool", "make_pool", "root_name"]

log = logging.getLogger(__name__)

_KEY = ["corpus", "song_id"]
_OPTIONAL = ("split", "genre", "grade", "language", "artist", "weight")


@dataclasses.dataclass(frozen=True)
class File:
    """A stem's file."""

    song_id: str
    stem: str
    root: str
    path: str
    sample_rate: int
    channels: int


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one source rule chooses from: an entry is a place in a song, and the files of it.

    Attributes
    ----------
    table : AliasTable
        Draws an entry.
    song, label : np.ndarray [shape=(entries,)]
        Which song it is of, and of which label: equal numbers are equal songs or labels, in every choice of the
        pool. The label is -1 where there is none.
    start, num_frames : np.ndarray [shape=(entries,)]
        The place, in frames of the files.
    first_file, num_files : np.ndarray [shape=(entries,)]
        Its files, in `Pool.file`'s numbers; several where a rule joins stems by '+'.
    """

    table: AliasTable
    song: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    num_frames: npt.NDArray[np.int64]
    first_file: npt.NDArray[np.int32]
    num_files: npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True)
class Pool:
    """What the sources of a recipe are drawn from.

    Attributes
    ----------
    roots : mapping of str to Path
        Folders by the names that events have in `root`.
    choices : mapping of str to Choice
        By the recipe's sources. Where targets come together, entry `i` of each is of one place.
    left_out : mapping of str to mapping of str to int
        By source and reason, how many songs or places were not used.
    packed : mapping of str to (Path, str)
        Of roots whose corpus was opened as packed: its folder, and the root's name in it.
    """

    roots: Mapping[str, Path]
    choices: Mapping[str, Choice]
    left_out: Mapping[str, Mapping[str, int]]
    packed: Mapping[str, tuple[Path, str]]
    _song_id: pa.StringArray
    _stem: pa.StringArray
    _path: pa.StringArray
    _root: npt.NDArray[np.int16]
    _sample_rate: npt.NDArray[np.int32]
    _channels: npt.NDArray[np.int8]

    def file(self, number: int) -> File:
        """A file by its number.

        Parameters
        ----------
        number : int
            As `Choice.first_file` counts.

        Returns
        -------
        File
        """
        return File(
            self._song_id[number].as_py(),
            self._stem[number].as_py(),
            tuple(self.roots)[self._root[number]],
            self._path[number].as_py(),
            int(self._sample_rate[number]),
            int(self._channels[number]),
        )


def make_pool(recipe: MixRecipe, corpora: Corpus | Mapping[str, Corpus]) -> Pool:
    """Find what a recipe's sources can be drawn from.

    Parameters
    ----------
    recipe : MixRecipe
    corpora : Corpus or mapping of str to Corpus
        By the names that events get in `root`. A `manifests.packed.PackedCorpus` is read from its store.

    Returns
    -------
    Pool

    Raises
    ------
    RecipeError
        When nothing is there for a source: what the corpora hold is named.
    TableError
        When a table cannot be read.
    """
    # by name: what is drawn must not depend on the order in which somebody listed them
    named = {CORPUS_ROOT: corpora} if isinstance(corpora, Corpus) else dict(sorted(corpora.items()))
    stems = _stems_of(named)
    clips = _clips_of(named)
    left_out: dict[str, dict[str, int]] = {name: {} for name in recipe.sources}
    places = {
        name: _places(recipe, name, source, stems, clips, left_out[name]) for name, source in recipe.sources.items()
    }
    if recipe.together:
        places = _together(recipe, places, left_out)
    for name, counts in left_out.items():
        for reason, count in counts.items():
            log.info("source '%s': %d left out: %s", name, count, reason)
    if recipe.distinct and not recipe.together:
        for name, source in recipe.sources.items():
            songs = len(places[name].drop_duplicates(_KEY))
            if source.count.support[1] > songs:
                log.warning(
                    "source '%s': up to %g in a mixture, and %d songs: some mixtures will hold a song twice",
                    name,
                    source.count.support[1],
                    songs,
                )
    if recipe.distinct_labels:
        labels = len(_labels_of(places))
        if not labels:
            raise RecipeError(
                "recipe: field 'distinct_labels' is true, and no clip has a label; run 'stemloom anchor', or take "
                "the field out"
            )
        labelled = [source for name, source in recipe.sources.items() if places[name]["label"].notna().any()]
        most = sum(source.count.support[1] for source in labelled)
        if most > labels:
            log.warning("up to %g sources in a mixture, and %d labels: some will hold a label twice", most, labels)
    return _pool_of(recipe, places, stems, named, left_out)


def _stems_of(corpora: Mapping[str, Corpus]) -> pd.DataFrame:
    frames = []
    for name, corpus in corpora.items():
        frame = corpus.stems.assign(corpus=name)
        frame["root"] = [root_name(name, root) for root in frame["root"]]
        frames.append(frame)
    stems = pd.concat(frames, ignore_index=True)
    for column in _OPTIONAL:
        if column not in stems:
            stems[column] = None
    return stems


def root_name(corpus: str, root: str) -> str:
    """What events call a root of a corpus that has this name among others."""
    return corpus if root == CORPUS_ROOT else root if corpus == CORPUS_ROOT else f"{corpus}:{root}"


def _roots_of(corpora: Mapping[str, Corpus]) -> dict[str, Path]:
    return {
        root_name(name, root): folder
        for name, corpus in corpora.items()
        for root, folder in {CORPUS_ROOT: corpus.folder, **corpus.roots}.items()
    }


def _packed_roots(corpora: Mapping[str, Corpus]) -> dict[str, tuple[Path, str]]:
    return {
        root_name(name, root): (corpus.folder, root)
        for name, corpus in corpora.items()
        if isinstance(corpus, PackedCorpus)
        for root in (CORPUS_ROOT, *corpus.roots)
    }


def _clips_of(corpora: Mapping[str, Corpus]) -> pd.DataFrame | None:
    """The clips of all corpora, without those whose clips table is empty; None when no corpus has any."""
    frames = [
        clips.assign(corpus=name)[[*_KEY, "start_frame", "num_frames", "label"]]
        for name, corpus in corpora.items()
        if (clips := corpus.clips) is not None
    ]
    return pd.concat(frames, ignore_index=True) if frames else None


def _places(
    recipe: MixRecipe,
    name: str,
    source: SourceRule,
    stems: pd.DataFrame,
    clips: pd.DataFrame | None,
    left_out: dict[str, int],
) -> pd.DataFrame:
    """A row for every place that a source can be taken from: key, start, length, rows of its files, weight."""
    allowed = stems[_is_allowed(source, stems, left_out)]
    found: list[pd.DataFrame] = []
    for parts in source.parts:
        songs = _joined(allowed, parts)
        if recipe.together and found:  # the first of the alternatives that a song has
            taken: pd.DataFrame = pd.concat(found)[_KEY].drop_duplicates()
            songs = songs.merge(taken.assign(taken=True), on=_KEY, how="left")
            songs = songs[songs["taken"].isna()].drop(columns="taken")
        found.append(songs)
    songs = pd.concat(found, ignore_index=True)
    if songs.empty:
        raise RecipeError(_nothing_for(name, source, stems))
    if recipe.channels > 1:  # mono takes the mean of any number
        is_wide = (songs["channels"] > recipe.channels).to_numpy(bool)
        if is_wide.any():
            left_out[f"more than {recipe.channels} channels"] = int(is_wide.sum())
        songs = songs[~is_wide].reset_index(drop=True)
        if songs.empty:
            raise RecipeError(
                f"source '{name}': all of its stems have more than {recipe.channels} channels; downmix them first"
            )
    places = _cut(name, source, songs, clips, left_out)
    if places.empty:
        raise RecipeError(
            f"source '{name}': none of its {len(songs)} stems{_of_splits(source)} has a clip in the clips table; "
            "cut shorter clips, or write 'within: stems'"
        )
    if source.labels is not None:
        is_labelled = places["label"].isin(source.labels)
        if not is_labelled.all():
            left_out[f"label is none of {', '.join(source.labels)}"] = int((~is_labelled).sum())
        if not is_labelled.any():
            held = sorted(map(str, places["label"].dropna().unique()))
            raise RecipeError(
                f"source '{name}': no clip has a label of {', '.join(source.labels)}"
                f"{did_you_mean(source.labels[0], held)}; there are {', '.join(held[:8]) or 'none'}"
            )
        places = places[is_labelled]
    is_long = places["num_frames"] >= np.maximum(source.min_length_s * places["sample_rate"], 1)
    if not is_long.all():
        left_out[f"shorter than min_length_s {source.min_length_s:g}"] = int((~is_long).sum())
    places = places[is_long]
    if places.empty:
        raise RecipeError(
            f"source '{name}': every place that it could be taken from is shorter than min_length_s "
            f"{source.min_length_s:g} s; lower it, or cut longer clips"
        )
    return places


def _is_allowed(source: SourceRule, stems: pd.DataFrame, left_out: dict[str, int]) -> npt.NDArray[np.bool_]:
    is_named = stems["stem"].isin([part for parts in source.parts for part in parts]).to_numpy(bool)
    is_allowed = is_named.copy()
    for column, values in (
        ("split", source.splits),
        ("genre", source.genres),
        ("grade", source.grades),
        ("language", source.languages),
    ):
        if values is not None:
            has = stems[column].isin(values).to_numpy(bool)
            if (is_allowed & ~has).any():
                left_out[f"{column} is none of {', '.join(values)}"] = int((is_allowed & ~has).sum())
            is_allowed &= has
    return is_allowed


def _joined(stems: pd.DataFrame, parts: tuple[str, ...]) -> pd.DataFrame:
    """Songs that have all parts: a row each, with the rows of their files in the stems table."""
    songs: pd.DataFrame | None = None
    for part in parts:
        one = stems[stems["stem"] == part]
        if songs is None:
            songs = one[[*_KEY, "num_frames", "sample_rate", "channels", "stem", *_OPTIONAL]].assign(row0=one.index)
        else:
            column = f"row{sum(str(name).startswith('row') for name in songs)}"
            songs = songs.merge(one[_KEY].assign(**{column: one.index}), on=_KEY)
    assert songs is not None
    return songs.assign(files=len(parts))


def _cut(
    name: str, source: SourceRule, songs: pd.DataFrame, clips: pd.DataFrame | None, left_out: dict[str, int]
) -> pd.DataFrame:
    """The places in songs: their clips, or all of them."""
    if source.within == "stems" or (source.within == "auto" and clips is None):
        return songs.assign(start=0, label=None)
    if clips is None:
        raise RecipeError(
            f"source '{name}': field 'within' is 'clips', and no corpus has a clips table; run 'stemloom curate', "
            "or write 'within: stems'"
        )
    cut = songs.drop(columns="num_frames").merge(clips.rename(columns={"start_frame": "start"}), on=_KEY)
    with_clips = clips["corpus"].drop_duplicates()
    whole = songs[~songs["corpus"].isin(with_clips)] if source.within == "auto" else songs.iloc[:0]
    lost = len(songs) - len(whole) - len(cut.drop_duplicates([*_KEY, "stem"]))
    if lost:
        left_out["song without clips"] = lost
    return pd.concat([cut, whole.assign(start=0, label=None)], ignore_index=True)


def _of_splits(source: SourceRule) -> str:
    return "" if source.splits is None else f" of split {' or '.join(source.splits)}"


def _nothing_for(name: str, source: SourceRule, stems: pd.DataFrame) -> str:
    held = sorted(stems["stem"].unique())
    missing = [stem for stem in source.stems if not any(part in held for part in stem.split("+"))]
    if len(missing) == len(source.stems):
        return (
            f"source '{name}': the corpora have none of its stems {', '.join(source.stems)}"
            f"{did_you_mean(source.stems[0], held)}; they have {', '.join(held)}"
        )
    limits = {
        field: getattr(source, field)
        for field in ("splits", "genres", "grades", "languages")
        if getattr(source, field) is not None
    }
    columns = {"splits": "split", "genres": "genre", "grades": "grade", "languages": "language"}
    there = []
    for field, values in limits.items():
        held = sorted(map(str, stems[columns[field]].dropna().unique()))
        known = f"there are {', '.join(held[:8])}" if held else "the corpora say none"
        there.append(f"{field} {', '.join(values)}, and {known}")
    return (
        f"source '{name}': no song with {' or '.join(source.stems)} passes its filters "
        f"({'; '.join(there) or 'stems joined by +'}); change them, or curate the corpus again"
    )


def _together(
    recipe: MixRecipe, places: Mapping[str, pd.DataFrame], left_out: Mapping[str, dict[str, int]]
) -> dict[str, pd.DataFrame]:
    """The places that every source has, in one order."""
    key = [*_KEY, "start", "num_frames"]
    shared: pd.DataFrame | None = None
    for frame in places.values():
        shared = frame[key] if shared is None else shared.merge(frame[key], on=key)
    assert shared is not None
    if shared.empty:
        raise RecipeError(
            f"recipe: no song has all of {', '.join(places)} (with stems equally long); the sources come "
            "'together' from one song: name stems that the songs have"
        )
    aligned = {}
    for name, frame in places.items():
        if len(frame) > len(shared):
            left_out[name]["song lacks another source"] = len(frame) - len(shared)
        aligned[name] = shared.merge(frame, on=key, how="left")
    return aligned


def _pool_of(
    recipe: MixRecipe,
    places: Mapping[str, pd.DataFrame],
    stems: pd.DataFrame,
    corpora: Mapping[str, Corpus],
    left_out: dict[str, dict[str, int]],
) -> Pool:
    roots = _roots_of(corpora)
    songs = stems.groupby(_KEY, sort=False).ngroup().to_numpy()
    labels = {label: number for number, label in enumerate(sorted(_labels_of(places)))}
    choices, files, num_files = {}, [], 0
    weights = _weights(recipe.sources[next(iter(places))], next(iter(places.values())))
    for name, frame in places.items():
        rows, first = _file_rows(frame)
        chances = weights if recipe.together else _weights(recipe.sources[name], frame)
        if not chances.sum() > 0:
            raise RecipeError(f"source '{name}': field 'weights' makes all of its {len(chances)} places weigh 0")
        choices[name] = Choice(
            alias_table(chances),
            songs[frame["row0"].to_numpy(int)].astype(np.int32),
            np.asarray(frame["label"].map(labels).fillna(-1), np.int32),
            frame["start"].to_numpy(np.int64),
            frame["num_frames"].to_numpy(np.int64),
            (first + num_files).astype(np.int32),
            frame["files"].to_numpy(np.int8),
        )
        files.append(rows)
        num_files += len(rows)
    used = stems.iloc[np.concatenate(files)]
    unknown = sorted(set(used["root"]) - set(roots))
    if unknown:
        raise RecipeError(
            f"corpora: root '{unknown[0]}' of path {used['path'][used['root'] == unknown[0]].iloc[0]!r} has no "
            f"folder; put its files into the corpus, with root '{CORPUS_ROOT}', or name it in Python: "
            "Corpus.open(folder, roots={...})"
        )
    order = {root: number for number, root in enumerate(roots)}
    return Pool(
        roots,
        choices,
        left_out,
        _packed_roots(corpora),
        _text(used["song_id"]),
        _text(used["stem"]),
        _text(used["path"]),
        np.array([order[root] for root in used["root"]], np.int16),
        used["sample_rate"].to_numpy(np.int32),
        used["channels"].to_numpy(np.int8),
    )


def _labels_of(places: Mapping[str, pd.DataFrame]) -> set[str]:
    return set().union(*(frame["label"].dropna() for frame in places.values()))


def _text(values: pd.Series[Any]) -> pa.StringArray:
    array = pa.array(values, pa.string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _file_rows(frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The stems' rows of each song's files, one song after another, and where each place's files start."""
    columns = sorted((str(c) for c in frame if str(c).startswith("row")), key=lambda name: int(name[3:]))
    wide = frame[columns].to_numpy(np.float64)  # NaN where a song has fewer files than another
    unique, inverse = np.unique(np.nan_to_num(wide, nan=-1.0), axis=0, return_inverse=True)
    rows = unique[unique >= 0].astype(np.int64)
    counts = (unique >= 0).sum(axis=1)
    return rows, (np.cumsum(counts) - counts)[inverse.ravel()]


def _weights(source: SourceRule, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    weights = frame["weight"].fillna(1.0).to_numpy(np.float64).copy()
    if source.per == "song":
        weights /= frame.groupby([*_KEY, "stem"], sort=False)["start"].transform("size").to_numpy(np.float64)
    elif source.per == "label":
        weights /= frame.groupby("label", sort=False, dropna=False)["start"].transform("size").to_numpy(np.float64)
    elif source.per == "second":
        weights *= (frame["num_frames"] / frame["sample_rate"]).to_numpy(np.float64)
    for column, values in source.weights.items():
        unknown: Any = frame[column].map(values)
        weights *= unknown.astype("float64").fillna(1.0).to_numpy(np.float64)
    return weights
