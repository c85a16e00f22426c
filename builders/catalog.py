"""The catalogue build: a folder of releases in, aligned (mixture, instrumental, vocals) triplets out.

The path, top to bottom in `CatalogBuilder.build`: scan, match (metadata and fingerprints), align, choose, derive,
write. Method: Pretet et al., "Singing voice separation: a study on training data", ICASSP 2019, section 2.3, with
fractional alignment, edits, and a better difference; see `curation`.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.candidates import Candidate, TrackRow, find_candidates, usable_tracks
from builders.engine import LocalEngine
from builders.join import Found, JoinSettings, PrintJoin
from builders.known import KnownFiles, marks_of
from builders.pairing import ALIGN_NEEDS, ALIGN_VERSION, PairItem, compare_pair
from builders.prints import Print, PrintStore, opened_store
from builders.recipe import CatalogRecipe
from builders.run import FAILURES, Run, remove_stale
from builders.scan import HASH, SURVEY, FoundFile, Reject, require_folder, track_row, walk_folder
from builders.stage import Engine, Progress, Stage, Work, silent
from builders.triplet import DERIVE_NEEDS, DERIVE_VERSION, TripletItem, is_whole, write_triplet
from curation.songs import Compared, choose_pairs
from curation.versions import WITHOUT_LEAD
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError
from manifests.lock import BuildLock
from manifests.staging import address, as_addresses
from manifests.tables import TableFormat, find_table, frame_of, write_table

_ARRIVE_AT_ONCE = 4096
_STRANGER_ERROR_RATE = 0.43
"""Pairs above it are not worth a row: unrelated songs reach it at their best offset."""


@dataclass(frozen=True)
class CatalogBuilder:
    """Builds a corpus of triplets from a folder of music.

    Parameters
    ----------
    out : Path
        The build folder. A build that was stopped is resumed there; another recipe's folder is refused.
    recipe : CatalogRecipe
    engine : Engine, optional
        `LocalEngine` with `jobs` workers by default.
    jobs : int >= 0
        Worker processes of the default engine.
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        Only the first files, sorted by path.
    max_memory_bytes : int >= 1e9, optional
        What one worker of the default engine may hold (Linux only); an item that needs more is given up. Two
        releases of 5 minutes need 1.1 GB, and with less than 0.4 GB the libraries do not load.
    memory_bytes : int >= 1e9
        What all processes together may hold while the sound of all tracks is compared.
    progress : callable, optional

    Raises
    ------
    RecipeError
        If the limit or the memory is below its range.

    Examples
    --------
    >>> corpus = CatalogBuilder(Path("corpus"), jobs=2).build(Path("music"))  # doctest: +SKIP
    >>> vocals = corpus.load((corpus.songs()[0], "vocals"))  # doctest: +SKIP
    """

    out: Path
    recipe: CatalogRecipe = field(default_factory=CatalogRecipe)
    engine: Engine | None = None
    jobs: int = 2
    table_format: TableFormat = "parquet"
    limit: int | None = None
    max_memory_bytes: int | None = None
    memory_bytes: int = 4_000_000_000
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"limit is {self.limit}; give the number of files, at least 1, or None for all")
        if self.memory_bytes < 1e9:
            raise RecipeError(f"memory_bytes is {self.memory_bytes}; give at least 1e9")
        if self.max_memory_bytes is not None and self.max_memory_bytes < 1e9:
            raise RecipeError(
                f"max_memory_bytes is {self.max_memory_bytes}; give at least 1e9, or None for no limit"
            )

    def build(self, folder: Path) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            The catalogue.

        Returns
        -------
        Corpus
            With zero songs when no pair was found; the rejected table and the pairs table say why.

        Raises
        ------
        AudioError
            If the folder does not exist.
        BuildError
            If the build folder belongs to another recipe or another running build, the catalogue and the build
            lie in each other, the catalogue has become empty, or the disk refuses.
        """
        require_folder(folder)
        _require_apart(folder, self.out)
        with BuildLock(self.out):
            run = _Run(self, folder)
            run.claim_folder()
            run.remove_temporary_files()
            rows = run.scan()
            run.refuse_emptied(rows)
            run.forget_result()
            tracks, candidates = run.match(rows)
            compared = run.align(tracks, candidates)
            pairs = run.choose(tracks, compared)
            stems = run.derive(tracks, pairs)
            run.write(rows, pairs, stems)
        return Corpus.open(self.out, {"catalog": folder})

    def scan(self, folder: Path) -> pd.DataFrame:
        """Only the first stage, which no recipe changes: write the tracks table and the rejected one.

        Returns
        -------
        pd.DataFrame
            The tracks table.

        Raises
        ------
        AudioError
            If the folder does not exist.
        BuildError
            If the build folder holds a finished build, whose tables these would replace, or as for `build`.
        """
        require_folder(folder)
        _require_apart(folder, self.out)
        with BuildLock(self.out):
            if find_table(self.out, "stems") is not None:
                raise BuildError(f"{self.out}: holds a finished build with its tracks table; choose another folder")
            run = _Run(self, folder)
            rows = run.scan()
            tracks = frame_of("tracks", rows)
            write_table(self.out, "rejected", run.rejected_table(), self.table_format)
            write_table(self.out, "tracks", tracks, self.table_format)
        return tracks


class _Run(Run):
    """One run of a catalogue build: its stages."""

    def __init__(self, builder: CatalogBuilder, folder: Path) -> None:
        engine = builder.engine or LocalEngine(builder.jobs, builder.recipe.max_item_s, builder.max_memory_bytes)
        super().__init__(
            builder.out, "catalog", builder.recipe, engine, builder.table_format, builder.progress, reads=(folder,)
        )
        self.recipe = builder.recipe
        self.memory_bytes = builder.memory_bytes
        self.limit = builder.limit
        self.folder = folder

    def scan(self) -> list[TrackRow]:
        """Files to tracks; their fingerprints are in the cache."""
        paths, rejects = walk_folder(self.folder)
        self.rejects += rejects
        if self.limit is not None:
            left_out = paths[self.limit :]
            self.rejects += [Reject(None, path, "scan", "limit", "beyond --limit") for path in left_out]
            paths = paths[: self.limit]
        ids = self.content_ids(paths)
        files = {path: FoundFile(str(self.folder), path, ids[path]) for path in sorted(ids)}
        works = [Work(path, file, (file.content_id,)) for path, file in files.items()]
        surveys = self.stage(SURVEY, works, reject_stage="scan", with_arrays=False)
        tracks = [track_row(files[done.name], done.product.value) for done in surveys if done.product is not None]
        tracks.sort(key=lambda row: str(row["path"]))
        self.hours["in"] = sum(row["num_frames"] / row["sample_rate"] for row in tracks) / 3600
        return tracks

    def content_ids(self, paths: list[str]) -> dict[str, str]:
        """Content ids of the files that can be read, by path. They are made of the bytes: the cache cannot help."""
        known = KnownFiles(self.out / ".cache" / "files.jsonl", self.folder)
        marks = marks_of(self.folder, paths)
        ids = known.content_ids(marks)
        found = [Work(path, FoundFile(str(self.folder), path), ()) for path in paths if path not in ids]
        with known.recording(dict(ids), marks) as record:
            for done in self.stage(HASH, found, reject_stage="scan", cached=False, known=len(ids)):
                if done.product is not None:
                    ids[done.name] = done.product.value["content_id"]
                    record(done.name, ids[done.name])
        return ids

    def refuse_emptied(self, tracks: list[TrackRow]) -> None:
        """Refuse to take a drive that is not there for a catalogue that all songs have left."""
        songs = {Path(stem).parent for stem in _written_stems(self.out)}
        if songs and not tracks:
            raise BuildError(
                f"{self.folder}: holds no readable audio file, and {self.out} has the stems of an earlier build "
                f"(songs: {len(songs)}), which would be deleted; mount the drive or correct the path, or delete "
                "the build folder to start anew"
            )

    def match(self, rows: list[TrackRow]) -> tuple[dict[str, TrackRow], list[Candidate]]:
        """Tracks to the usable ones, by content id, and their candidate pairs."""
        start = time.monotonic()
        tracks, rejects = usable_tracks(rows, self.recipe)
        self.rejects += rejects
        store = self.arrive(tracks)
        found = self.listen(store)
        votes = {}
        for a, b, count in zip(store.ids[found.pairs.a], store.ids[found.pairs.b], found.pairs.votes, strict=True):
            votes[min(a, b), max(a, b)] = int(count)
        candidates = find_candidates(tracks, votes)
        numbers, prints = {track: number for number, track in enumerate(store.ids.tolist())}, store.mapped()
        refused = 0
        for done, candidate in enumerate(candidates, 1):
            candidate.weigh(tracks, (prints[numbers[candidate.a]], prints[numbers[candidate.b]]), self.recipe)
            refused += candidate.reason is not None
            self.progress("match", done, len(candidates), refused)
        self.counts["match"] = {
            "in": len(candidates),
            "kept": len(candidates) - refused,
            "refused": refused,
            "strangers": found.strangers,
        }
        self.wall_s["match"] = time.monotonic() - start
        return tracks, candidates

    def arrive(self, tracks: dict[str, TrackRow]) -> PrintStore:
        """Append the fingerprints that are new to those that are there; tracks that have none leave."""
        store = opened_store(self.out / ".cache" / "prints")
        new = sorted(store.missing(tracks))
        for first in range(0, len(new), _ARRIVE_AT_ONCE):
            works = [Work(i, self._file(tracks[i]), (i,)) for i in new[first : first + _ARRIVE_AT_ONCE]]
            prints = []
            for done in self.stage(SURVEY, works, reject_stage="scan", counted=False):
                track = tracks.pop(done.name) if done.product is None else tracks[done.name]
                if done.product is not None:
                    items = np.asarray(done.product.arrays["fingerprint"], np.uint32)
                    prints.append(Print(done.name, track["version"] in WITHOUT_LEAD, items))
            store = store.add(sorted(prints, key=lambda one: one.track_id))
        return store

    def listen(self, store: PrintStore) -> Found:
        """Pairs of tracks that share music, of all that have ever arrived."""
        recipe = self.recipe
        rate = max(_STRANGER_ERROR_RATE, recipe.max_bit_error_rate)
        settings = JoinSettings(recipe.against, recipe.min_votes, recipe.sample_one_in, max_bit_error_rate=rate)
        workers = max(1, getattr(self.engine, "jobs", None) or 1)
        join: type[PrintJoin] = PrintJoin
        if type(self.engine).__module__ == "builders.cluster":  # asked by name: the extra need not be there
            from builders.cluster_join import ClusterJoin

            join = ClusterJoin
        return join(store.folder, self.engine, settings, self.memory_bytes, workers, self.progress).run()

    def align(self, tracks: dict[str, TrackRow], candidates: list[Candidate]) -> list[dict[str, Any]]:
        """Candidates to compared pairs: rows of the pairs table, with `relation`, without status and song."""
        settings: dict[str, Any] = {"min_segment_s": self.recipe.min_segment_s}
        stage: Stage[PairItem] = Stage(
            "align", ALIGN_VERSION, partial(compare_pair, **settings), settings, ALIGN_NEEDS
        )
        rows = {candidate.name: candidate.row(tracks) for candidate in candidates}
        works = []
        for candidate in candidates:
            if candidate.reason is None:
                ids = candidate.ordered(tracks)
                first, second = (self._file(tracks[i]) for i in ids)
                item = PairItem(first, second, candidate.is_labelled(tracks))
                works.append(Work(candidate.name, item, item.content_ids))
        for done in self.stage(stage, works, reject_stage=None):
            row = rows[done.name]
            if done.product is not None:
                row.update(done.product.value)
                row["mixture_path"] = tracks[row["mixture_id"]]["path"]
                row["instrumental_path"] = tracks[row["instrumental_id"]]["path"]
            elif done.failure is not None:
                row["reason"] = f"{FAILURES[done.failure.kind]}: {done.failure.detail}"
        return [rows[name] for name in sorted(rows)]

    def choose(self, tracks: dict[str, TrackRow], compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Compared pairs to rows of the pairs table, with one chosen pair for every song."""
        verdicts = choose_pairs(
            [
                Compared(
                    row["pair_id"],
                    row["mixture_id"],
                    row["instrumental_id"],
                    is_pair=row["relation"] == "pair",
                    is_same=row["relation"] == "same recording",
                    confidence=row["confidence"] or 0.0,
                    residual_db=row.get("residual_db") or 0.0,
                    mixture_version=tracks[row["mixture_id"]]["version"],
                    instrumental_version=tracks[row["instrumental_id"]]["version"],
                )
                for row in compared
            ]
        )
        rows = []
        for row in compared:
            verdict = verdicts[row["pair_id"]]
            kept = {key: value for key, value in row.items() if key != "relation"}
            reason = row["reason"] or verdict.reason
            rows.append({**kept, "status": verdict.status, "song_id": verdict.song_id, "reason": reason})
        self.counts["choose"] = dict(Counter(str(row["status"]) for row in rows))
        return rows

    def derive(self, tracks: dict[str, TrackRow], pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Chosen pairs to stems on disk, and rows of the stems table."""
        settings: dict[str, Any] = {
            "method": self.recipe.method,
            "target_lufs": self.recipe.loudness_lufs,
            "audio_format": self.recipe.audio_format,
            "bit_depth": self.recipe.bit_depth,
        }
        stage: Stage[TripletItem] = Stage(
            "derive", DERIVE_VERSION, partial(write_triplet, **settings), settings, DERIVE_NEEDS
        )
        works = []
        for pair in pairs:
            if pair["status"] == "chosen":
                item = TripletItem(
                    self._file(tracks[pair["mixture_id"]]),
                    self._file(tracks[pair["instrumental_id"]]),
                    out=str(self.out),
                    song_id=pair["song_id"],
                    pair_id=pair["pair_id"],
                    segments=pair["segments"],
                    drift_ppm=pair["drift_ppm"],
                    polarity=pair["polarity"],
                )
                works.append(Work(pair["mixture_path"], item, item.content_ids))
        stems = []
        for done in self.stage(stage, works, reject_stage="derive", is_whole=partial(is_whole, self.out)):
            for stem in done.product.value["stems"] if done.product is not None else ():
                track = tracks[stem["song_id"]]
                stems.append({**stem, **{key: track[key] for key in ("artist", "genre", "license")}})
        stems.sort(key=lambda row: (row["song_id"], _STEM_ORDER[row["stem"]]))
        mixtures = [row for row in stems if row["stem"] == "mixture"]
        self.hours["kept"] = sum(row["num_frames"] / row["sample_rate"] for row in mixtures) / 3600
        return stems

    def write(self, tracks: list[TrackRow], pairs: list[dict[str, Any]], stems: list[dict[str, Any]]) -> None:
        """Tables, the stems table last: its existence means that the build is complete."""
        remove_stale(self.out, _written_stems(self.out), {row["path"] for row in stems})
        inputs = [row["track_id"] for row in tracks]
        tables = {"tracks": tracks, "pairs": pairs, "stems": stems}
        frames = {name: frame_of(name, rows) for name, rows in tables.items()}
        self.save(inputs, frames, catalog=as_addresses(str(self.folder)))

    def _file(self, track: TrackRow) -> FoundFile:
        return FoundFile(str(self.folder), track["path"], track["track_id"])


_STEM_ORDER = {"mixture": 0, "instrumental": 1, "vocals": 2}
_STEM_PATH = re.compile(rf"audio/[0-9a-f]{{32}}/({'|'.join(_STEM_ORDER)})\.(flac|wav)")


def _require_apart(folder: Path, out: Path) -> None:
    """Refuse a build that would take its own stems for music, or the music for old stems of its own."""
    music, build = Path(address(folder)), Path(address(out))
    if build == music or music in build.parents:
        raise BuildError(f"{out}: lies in the catalogue {folder}; choose an --out folder outside of it")
    if build / "audio" in (music, *music.parents):
        raise BuildError(f"{folder}: lies where {out} keeps its stems; choose another --out folder")


def _written_stems(out: Path) -> list[str]:
    """The stems in a build folder, as paths of the stems table. What is not ours is left out."""
    names = (path.relative_to(out).as_posix() for path in out.glob("audio/*/*"))
    return sorted(name for name in names if _STEM_PATH.fullmatch(name))
