"""The curation: a corpus in, what is worth training with out, graded, gated, balanced, split and cut into clips.

The path, top to bottom in `CurateBuilder.build`: hear, inspect, grade, gate, duplicates, unseen, balance, split,
clips, link, write. The first half, who stays, is `builders.selection`; what is known about songs is decided by
`curation`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.check import read_record
from builders.engine import LocalEngine
from builders.leaks import parents_of_mixtures
from builders.recipe import CurateRecipe
from builders.references import read_aliases, read_fixed, read_reference
from builders.run import (
    files_below,
    own_path,
    read_recipe,
    refuse_foreign,
    refuse_limit,
    refuse_nested,
    remove_stale,
    take_stem,
)
from builders.selection import Selection, gate_report
from builders.stage import Engine, Progress, silent
from curation.artists import artist_groups, merge_groups
from curation.balance import checked_shares, choose_songs, song_weights
from curation.clips import NO_GENRE, balanced_test_set, cut_clips, touches
from curation.gates import apply_gates
from curation.songs import songs_of
from curation.splits import assign_splits
from manifests.audio import AUDIO_SUFFIXES
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import BuildError, RecipeError
from manifests.files import replacing
from manifests.lock import BuildLock
from manifests.staging import address, as_addresses
from manifests.tables import TableFormat, empty_table

log = logging.getLogger(__name__)

_SHARED = (
    "mixtures that have sources in common, which stay in one split; to have several, draw each from songs of its "
    "own ('--splits' of the 'stemloom build' commands), and name that set here with '--previous'"
)
_DEFAULT_SHARES = {"train": 0.97, "validation": 0.03}


@dataclass(frozen=True)
class CurateBuilder:
    """Makes a corpus to train with out of a finished corpus, which is left as it is.

    Parameters
    ----------
    out : Path
        The new corpus' folder. A run that was stopped is resumed there, and other settings make it anew; a folder
        that holds anything but an earlier curation of the same corpus is refused.
    recipe : CurateRecipe
    engine : Engine, optional
        `LocalEngine` with `jobs` workers by default.
    jobs : int >= 0
        Worker processes of the default engine.
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        Only the first songs, sorted by id.
    max_memory_bytes : int, optional
        What one worker of the default engine may hold (Linux only).
    progress : callable, optional

    Examples
    --------
    >>> recipe = CurateRecipe(min_grade="B", reference="uniform")
    >>> corpus = CurateBuilder(Path("training"), recipe).build(Path("corpus"))  # doctest: +SKIP
    """

    out: Path
    recipe: CurateRecipe = field(default_factory=CurateRecipe)
    engine: Engine | None = None
    jobs: int = 2
    table_format: TableFormat = "parquet"
    limit: int | None = None
    max_memory_bytes: int | None = None
    progress: Progress = silent

    def build(self, folder: Path) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            A finished corpus: a build, or an import.

        Returns
        -------
        Corpus
            Of the songs that are left, with splits and clips.

        Raises
        ------
        TableError
            If the source is no corpus, or its tables are damaged.
        RecipeError
            If a setting cannot be met (a gate on an unknown measure, shares that do not sum to one, a split that
            would be empty, a reference genre that no song has), before anything is written but inspections.
        BuildError
            If the folder holds anything else or a running build, the folders lie in each other, no song is left,
            or the disk refuses.
        """
        run = self._open(folder)
        refuse_taken(self.out, folder)
        with BuildLock(self.out):
            run.claim_folder()
            run.remove_temporary_files()
            run.hear()
            run.inspect()
            run.grade()
            run.gate()
            run.drop_duplicates()
            run.drop_unseen()
            run.balance()
            run.split()
            run.cut()
            run.forget_result()
            run.link()
            run.write()
        return Corpus.open(self.out)

    def plan(self, folder: Path) -> int:
        """Check all settings that can be checked without listening, and write nothing.

        Parameters
        ----------
        folder : Path
            As for `build`.

        Returns
        -------
        int
            How many songs would be inspected.

        Raises
        ------
        TableError, RecipeError, BuildError
            As for `build`.
        """
        run = self._open(folder)
        refuse_taken(self.out, folder)
        return len(run.songs)

    def _open(self, folder: Path) -> _Curation:
        refuse_limit(self.limit)
        refuse_nested(self.out, folder)
        return _Curation(self, Corpus.open(folder))


def refuse_taken(out: Path, source: Path) -> None:
    """Raise `BuildError` if a folder holds anything but an earlier curation of the same corpus."""
    refuse_foreign(out, "curation")
    path = out / "recipe.json"
    if not path.exists():
        return
    record = read_recipe(path)
    if record["builder"] != "curate":
        raise BuildError(f"{out}: holds a build of '{record['builder']}'; choose another --out folder")
    if record.get("source") != address(source):
        raise BuildError(
            f"{out}: was made of {record.get('source')}, and this is {address(source)}; choose another --out "
            f"folder, or, if the corpus was moved, correct 'source' in {path}"
        )


class _Curation(Selection):
    """One run of a curation: what is done with the songs that are left."""

    def __init__(self, builder: CurateBuilder, corpus: Corpus) -> None:
        recipe = builder.recipe
        engine = builder.engine or LocalEngine(builder.jobs, recipe.max_item_s, builder.max_memory_bytes)
        super().__init__(builder.out, recipe, corpus, engine, builder.table_format, builder.progress, builder.limit)
        if recipe.shares is not None:
            checked_shares(recipe.shares, "field 'shares'")
        if recipe.per_song == "one" and recipe.hop_s is not None:
            raise RecipeError(f"field 'hop_s' is {recipe.hop_s}, and one clip per song has no hop; leave it out")
        if recipe.per_song == "one" and recipe.within == "pure":
            raise RecipeError(
                "field 'within' is 'pure', and one clip per song is cut from whole songs; leave one out"
            )
        if recipe.test_clips is not None and "test" not in (recipe.shares or recipe.hours or {}):
            raise RecipeError(
                f"field 'test_clips' is {recipe.test_clips}, and no split is called 'test'; give it a share"
            )
        self.reference = None if recipe.reference is None else read_reference(recipe.reference)
        self.fixed, self.aliases = read_fixed(recipe.fixed), read_aliases(recipe.aliases)
        self.previous = _splits_of(recipe.previous)
        if recipe.shares is not None and recipe.hours is not None:
            raise RecipeError("fields 'shares' and 'hours' are both given; leave one of them out")
        self.weights: pd.Series[Any] | None = None
        self.clips = empty_table("clips")

    def claim_folder(self) -> None:
        """Write whose work the folder holds. Other settings are welcome: every run writes all tables anew."""
        if not (self.out / "recipe.json").exists():
            self._write_recipe()

    def _write_recipe(self) -> None:
        source = address(self.corpus.folder)
        text = json.dumps(
            {"builder": "curate", "recipe": self.settings, "source": source}, indent=2, sort_keys=True
        )
        with replacing(self.out / "recipe.json") as file:
            file.write(f"{text}\n".encode("utf-8", "backslashreplace"))

    def balance(self) -> None:
        """Genres like the reference's, by leaving songs out or by weights."""
        before = self._genre_hours()
        with self.step("balance"):
            if self.reference is not None and len(self.songs):
                songs = self.songs.reset_index(drop=True)
                if self.recipe.balance == "weights":
                    self.weights = song_weights(songs, self.reference, missing=self.recipe.missing_genres)
                else:
                    chosen = choose_songs(
                        songs, self.reference, seed=self.recipe.seed, missing=self.recipe.missing_genres
                    )
                    rest = self.songs.index.difference(list(chosen.kept))
                    detail = f"more of its genre than the reference lets in ('{chosen.limiting}' is the limit)"
                    for song_id in rest:
                        genre = self.songs.loc[song_id, "genre"]
                        is_wanted = self.reference == "uniform" or genre in self.reference
                        is_wanted = is_wanted and genre not in NO_GENRE
                        self.leave_out(
                            song_id,
                            "balance",
                            "genre",
                            f"{genre}: {detail if is_wanted else 'the reference has none of it'}",
                        )
                    self.songs = self.songs.loc[self.songs.index.difference(rest)]
        shares = self.reference if isinstance(self.reference, Mapping) else None
        self.facts["genres"] = {"before": before, "after": self._genre_hours(), "reference": shares}
        if self.reference == "uniform":
            share = 1 / max(1, len(self.facts["genres"]["after"]))
            self.facts["genres"]["reference"] = dict.fromkeys(self.facts["genres"]["after"], share)

    def _genre_hours(self) -> dict[str, float]:
        if self.songs.empty:
            return {}
        weights = 1.0 if self.weights is None else self.songs["song_id"].map(self.weights)
        hours = (self.songs["seconds"] * weights / 3600).groupby(self.songs["genre"]).sum()
        return {str(genre): float(value) for genre, value in hours.items()}

    def split(self) -> None:
        """Every song in a split, every artist in one, and what is nearly the same on one side."""
        if self.songs.empty:
            reasons = Counter(f"{reject.stage}: {reject.reason}" for reject in self.rejects)
            listed = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(5))
            raise BuildError(f"{self.corpus.folder}: no song is left ({listed}); loosen the settings")
        start = time.monotonic()
        songs = self.songs.reset_index(drop=True)
        named = songs["artist"].notna() | songs["album_artist"].notna()
        self.facts["songs_without_artist"] = int((~named).sum())
        if not named.all():
            log.warning(
                "%d of %d songs name no artist: each is taken for an artist of its own",
                self.facts["songs_without_artist"],
                len(songs),
            )
        left = set(self.songs.index)
        links = [link for link in self.links if left.issuperset(link)]
        shared = self._shared_parents()
        groups = merge_groups(artist_groups(songs, aliases=self.aliases), [*links, *shared])
        recipe = self.recipe
        shares = None if recipe.hours is not None else recipe.shares or _DEFAULT_SHARES
        if shares is _DEFAULT_SHARES and groups.nunique() < len(shares):
            log.warning(
                "all songs are of one artist%s: they are all in the split 'train'",
                f", or {_SHARED}" if shared else "",
            )
            shares = {"train": 1.0}
        try:
            splits = assign_splits(
                songs.assign(genre=self._strata()),
                groups,
                shares,
                hours=recipe.hours,
                seed=recipe.seed,
                fixed=self.fixed,
                previous=self.previous,
                stratify=recipe.stratify,
                missing="drop" if recipe.fixed == "musdb18" else "error",
            )
        except RecipeError as error:
            if shared:
                raise RecipeError(f"{error}\n{self.corpus.folder}: songs are {_SHARED}") from error
            raise
        self.songs = self.songs.assign(split=splits.astype("string"))
        self.facts["splits"] = {
            str(split): {
                "songs": len(rows),
                "hours": float(rows["seconds"].sum() / 3600),
                "artists": int(groups[rows["song_id"]].nunique()),
            }
            for split, rows in self.songs.groupby("split")
        }
        self._refuse_leaks(links)
        self.wall_s["split"] = time.monotonic() - start

    def _shared_parents(self) -> list[tuple[str, str]]:
        """Mixtures that have a source in common, each with the first one that has it."""
        stems = self.corpus.stems
        parents = parents_of_mixtures(stems[stems["song_id"].isin(self.songs.index)])
        first = parents.groupby("parent")["song_id"].transform("first")
        others = first != parents["song_id"]
        return list(zip(first[others], parents.loc[others, "song_id"], strict=True))

    def _strata(self) -> list[str]:
        """What is split alike: genres, and where songs have one stem, what they are."""
        strata = []
        for song_id, genre in zip(self.songs.index, self.songs["genre"], strict=True):
            stems = self.corpus.song(song_id)
            strata.append(f"{next(iter(stems))}, {genre}" if len(stems) == 1 else str(genre))
        return strata

    def _refuse_leaks(self, links: Sequence[tuple[str, str]]) -> None:
        """The invariant of the splits; `stemloom check` listens to the files again."""
        split_of = dict(zip(self.songs.index, self.songs["split"], strict=True))
        leaks = [(a, b) for a, b in links if split_of[a] != split_of[b]]
        if leaks:
            a, b = leaks[0]
            raise BuildError(
                f"{self.out}: song '{a}' of split '{split_of[a]}' is nearly the same as '{b}' of '{split_of[b]}' "
                f"({len(leaks)} such pairs); leave one of them out"
            )
        # those of an unseen folder have left
        self.facts["leaks"] = {"within": len(leaks), "unseen": 0}

    def cut(self) -> None:
        """Clips, measured and gated."""
        recipe = self.recipe
        if recipe.clip_s is None:
            return
        with self.step("clips"):
            spans = None
            if recipe.within == "pure":
                spans = {
                    str(song_id): self.inspection(song_id).pure_spans(recipe.clip_s) for song_id in self.songs.index
                }
            damaged = _damaged_spans(self.corpus)
            clips = cut_clips(
                self.songs.reset_index(drop=True),
                length_s=recipe.clip_s,
                hop_s=recipe.hop_s,
                margin_s=recipe.margin_s,
                per_song=recipe.per_song,
                seed=recipe.seed,
                spans=spans,
            )
            has_clips = self.songs.index.isin(clips["song_id"])
            self.facts["clips"] = {"in": len(clips), "songs_too_short": int((~has_clips).sum()), "dropped": {}}
            touched = touches(clips, damaged)
            if touched.any():
                self.facts["clips"]["dropped"]["damaged, as a cleaning found"] = int(touched.sum())
                clips = clips[~touched].reset_index(drop=True)
            measured = []
            for song_id, rows in clips.groupby("song_id", sort=False):
                inspection = self.inspection(str(song_id))
                measured.append(inspection.measured(rows))
            clips = pd.concat(measured) if measured else clips
            if self.clip_gates and len(clips):
                gated = apply_gates(clips, self.clip_gates)
                self.facts["gates"] += [{**gate_report(report), "of": "clips"} for report in gated.reports]
                reasons = Counter(json.loads(text)[0] for text in gated.reasons[~gated.kept])
                self.facts["clips"]["dropped"] |= reasons
                clips = clips[gated.kept]
            if recipe.test_clips is not None:
                is_test = clips["split"] == "test"
                if not is_test.any():
                    raise RecipeError(f"field 'test_clips' is {recipe.test_clips}: no clip is in the split 'test'")
                test = balanced_test_set(
                    clips[is_test],
                    count=recipe.test_clips,
                    by="song_id" if recipe.test_by == "song" else recipe.test_by,
                    groups=recipe.test_genres if recipe.test_by == "genre" else None,
                    seed=recipe.seed,
                )
                clips = clips[~is_test | clips.index.isin(test.index)]
            self.clips = clips.drop(columns=["salient_fraction"], errors="ignore").reset_index(drop=True)

    def link(self) -> None:
        """The audio of the songs that are left, and their curves."""
        kept = set()
        for number, song_id in enumerate(self.songs.index, 1):
            for row in self.corpus.song(song_id).values():
                kept.add(take_stem(self.corpus, row, self.out, link=self.recipe.audio == "link"))
            path = f"curves/{song_id}.npz"
            with replacing(self.out / path) as file:
                np.savez(file, allow_pickle=False, **self.inspection(song_id).curves())
            kept.add(path)
            self.progress("link", number, len(self.songs), 0)
        remove_stale(self.out, files_below(self.out, {"audio": AUDIO_SUFFIXES, "curves": {".npz"}}), kept)

    def write(self) -> None:
        """Tables, the stems table last: its existence means that the corpus is complete."""
        stems = self.corpus.stems[self.corpus.stems["song_id"].isin(self.songs.index)].copy()
        songs = self.songs.loc[stems["song_id"]]
        stems["path"] = [own_path(root, path) for root, path in zip(stems["root"], stems["path"], strict=True)]
        stems["root"] = CORPUS_ROOT
        for column in ("genre", "split"):
            stems[column] = songs[column].to_numpy()
        verdicts = [self.found[song_id].verdict for song_id in stems["song_id"]]
        stems["grade"] = [verdict.grade for verdict in verdicts]
        stems["reasons"] = [json.dumps(verdict.reasons, ensure_ascii=False) for verdict in verdicts]
        measured = self._columns(stems)
        stems[measured.columns] = stems[measured.columns].fillna(measured)
        stems["audit"] = [self.heard.audit[key] for key in zip(stems["song_id"], stems["stem"], strict=True)]
        stems["weight"] = None if self.weights is None else stems["song_id"].map(self.weights).to_numpy()
        tables = {"clips": self.clips, "stems": stems}
        pairs, tracks = self.corpus.pairs, self.corpus.tracks
        if pairs is not None:
            tables["pairs"] = pairs[(pairs["status"] == "chosen") & pairs["song_id"].isin(self.songs.index)]
        if tracks is not None:
            wanted = set(self.songs.index)
            if pairs is not None:
                wanted |= set(tables["pairs"]["mixture_id"]) | set(tables["pairs"]["instrumental_id"])
            tables["tracks"] = tracks[tracks["track_id"].isin(wanted)]
        if (cleaned := self.corpus.cleaned) is not None:  # what was removed stays where it is
            is_left = cleaned["song_id"].isin(self.songs.index)
            tables["cleaned"] = cleaned[is_left].assign(removed_path=None)
        self.hours["kept"] = self.num_hours()
        inputs = self.corpus.stems["content_id"].dropna().tolist()
        record = self.corpus.folder / "run.json"
        source = read_record(record) if record.exists() else None
        self._write_recipe()
        self.save(inputs, tables, corpus=as_addresses(str(self.corpus.folder)), source=source, **self.facts)

    def _columns(self, stems: pd.DataFrame) -> pd.DataFrame:
        """What an import has not measured: columns of the stems table, for its rows."""
        rows = []
        for song_id, stem in zip(stems["song_id"], stems["stem"], strict=True):
            found = self.found[song_id].measures[stem]
            known = {name: math.nan if value is None else float(value) for name, value in found.items()}
            is_silent = known["rms"] == 0
            rows.append(
                {
                    "rms": known["rms"] / math.sqrt(known["channels"]),  # the table's is a channel's mean
                    "loudness_lufs": math.nan if is_silent else known["loudness_lufs"],
                    "active_fraction": 1 - known["silent_fraction"],
                }
            )
        return pd.DataFrame(rows, index=stems.index, columns=["rms", "loudness_lufs", "active_fraction"])


def _damaged_spans(corpus: Corpus) -> dict[str, list[tuple[int, int]]]:
    """Where a cleaning has left what nothing is to be trained with, by song."""
    found: dict[str, list[tuple[int, int]]] = {}
    if corpus.cleaned is not None:
        for song_id, text in zip(corpus.cleaned["song_id"], corpus.cleaned["damaged"], strict=True):
            found.setdefault(str(song_id), []).extend((start, end) for start, end in json.loads(text))
    return found


def _splits_of(name: str | None) -> dict[str, str]:
    """The splits of an earlier result."""
    if name is None:
        return {}
    songs = songs_of(Corpus.open(Path(name)).stems)
    known = songs[songs["split"].notna()]
    return dict(zip(known["song_id"], known["split"], strict=True))
