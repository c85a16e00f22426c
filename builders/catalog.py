"""The catalogue build: a folder of releases in, aligned (mixture, instrumental, vocals) triplets out.

The path, top to bottom in `CatalogBuilder.build`: scan, match (metadata and fingerprints), align, choose, derive,
write. Method: Pretet et al., "Singing voice separation: a study on training data", ICASSP 2019, section 2.3, with
fractional alignment, edits, and a better difference; see `curation`.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.cache import BuildLock, ResultCache
from builders.engine import LocalEngine
from builders.pairing import ALIGN_VERSION, PairItem, compare_pair
from builders.recipe import CatalogRecipe
from builders.scan import HASH, SURVEY, FoundFile, Reject, track_row, walk_folder
from builders.stage import Done, Engine, Product, Stage, Work, run_stage
from builders.triplet import DERIVE_VERSION, TripletItem, is_whole, write_triplet
from curation.chromaprint import Fingerprint
from curation.matching import best_matches, join_candidates
from curation.metadata import metadata_candidates
from curation.songs import Compared, Verdict, choose_pairs
from curation.versions import WITHOUT_LEAD
from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.files import replacing
from manifests.tables import TableFormat, frame_of, write_table

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, int], None]
"""Called with the stage's name, items done, items in all, and items rejected so far."""

TABLES = ("tracks", "pairs", "stems", "rejected")


def _silent(stage: str, done: int, total: int, rejected: int) -> None:
    """No progress shown."""


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
    limit : int, optional
        Only the first files, sorted by path.
    progress : callable, optional

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
    progress: Progress = _silent

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
            If the build folder belongs to another recipe or another running build, or the disk refuses.
        """
        with BuildLock(self.out):
            run = _Run(self, folder)
            run.claim_folder()
            tracks, prints = run.scan()
            candidates = run.match(tracks, prints)
            compared = run.align(tracks, candidates)
            pairs = run.choose(tracks, compared)
            stems = run.derive(tracks, pairs)
            run.write(tracks, pairs, stems)
        return Corpus.open(self.out, {"catalog": folder})

    def scan(self, folder: Path) -> pd.DataFrame:
        """Only the first stage: write the tracks table and the rejected one.

        Returns
        -------
        pd.DataFrame
            The tracks table.
        """
        with BuildLock(self.out):
            run = _Run(self, folder)
            run.claim_folder()
            tracks, _ = run.scan()
            write_table(self.out, "rejected", run.rejected_table(), self.table_format)
            write_table(self.out, "tracks", tracks, self.table_format)
        return tracks


class _Run:
    """One run of a builder: what the stages hand to each other, and what they count."""

    def __init__(self, builder: CatalogBuilder, folder: Path) -> None:
        self.builder = builder
        self.recipe = builder.recipe
        self.folder = folder
        self.out = builder.out
        self.engine = builder.engine or LocalEngine(builder.jobs, builder.recipe.max_item_s)
        self.cache = ResultCache(builder.out / ".cache")
        self.rejects: list[Reject] = []
        self.counts: dict[str, dict[str, int]] = {}
        self.wall_s: dict[str, float] = {}
        self.hours: dict[str, float] = {}

    def claim_folder(self) -> None:
        """Write the recipe into the build folder, or refuse one with another recipe."""
        path = self.out / "recipe.json"
        settings = {"builder": "catalog", "recipe": self.recipe.model_dump(mode="json")}
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        if path.exists():
            before = path.read_text(encoding="utf-8")
            if before != text:
                raise BuildError(
                    f"{path}: {_first_difference(before, settings)}; "
                    "use the same settings, or another --out folder"
                )
            return
        with replacing(path) as file:
            file.write(text.encode())

    def scan(self) -> tuple[pd.DataFrame, dict[str, Fingerprint]]:
        """Files to tracks and fingerprints."""
        paths, rejects = walk_folder(self.folder)
        self.rejects += rejects
        if self.builder.limit is not None:
            left_out = paths[self.builder.limit :]
            self.rejects += [Reject(None, path, "scan", "limit", "beyond --limit") for path in left_out]
            paths = paths[: self.builder.limit]
        files = [FoundFile(str(self.folder), path) for path in paths]
        # a content id is made of the bytes themselves, so this stage alone is never taken from the cache
        hashed = {
            done.name: FoundFile(str(self.folder), done.name, done.product.value["content_id"])
            for done in self._run(HASH, [Work(f.path, f, ()) for f in files], cached=False, reject_stage="scan")
            if done.product is not None
        }
        works = [Work(path, file, (file.content_id,)) for path, file in sorted(hashed.items())]
        rows, prints = [], {}
        for done in self._run(SURVEY, works, reject_stage="scan"):
            if done.product is not None:
                file = hashed[done.name]
                rows.append(track_row(file, done.product.value))
                prints[file.content_id] = np.asarray(done.product.arrays["fingerprint"], np.uint32)
        tracks = frame_of("tracks", sorted(rows, key=lambda row: str(row["path"])))
        self.hours["in"] = float((tracks["num_frames"] / tracks["sample_rate"]).sum() / 3600)
        return tracks, prints

    def match(self, tracks: pd.DataFrame, prints: dict[str, Fingerprint]) -> list[Candidate]:
        """Tracks to candidate pairs: by metadata, by shared sub-fingerprints, then by bit error rate."""
        start = time.monotonic()
        usable = self._usable(tracks)
        by_metadata = metadata_candidates(usable)
        by_prints = join_candidates(
            {track_id: prints[track_id] for track_id in usable["track_id"]}, min_votes=self.recipe.min_votes
        )
        found: dict[tuple[str, str], Candidate] = {}
        for row in by_metadata.itertuples():
            found[row.a, row.b] = Candidate(row.a, row.b, metadata=f"{row.evidence} ({row.score:.2f})")
        for row in by_prints.itertuples():
            known = found.get((row.a, row.b), Candidate(row.a, row.b))
            known.votes = int(row.votes)
            found[row.a, row.b] = known
        by_id = usable.set_index("track_id")
        candidates = [found[key] for key in sorted(found)]
        for done, candidate in enumerate(candidates, 1):
            candidate.weigh(by_id, prints, self.recipe)
            self.builder.progress("match", done, len(candidates), sum(bool(c.reason) for c in candidates))
        self.counts["match"] = {
            "in": len(candidates),
            "kept": sum(not c.reason for c in candidates),
            "refused": sum(bool(c.reason) for c in candidates),
        }
        self.wall_s["match"] = time.monotonic() - start
        return candidates

    def _usable(self, tracks: pd.DataFrame) -> pd.DataFrame:
        """One row per content that can be paired; the others become rejects."""
        kept, seen = [], {}
        for row in tracks.itertuples():
            reason = _why_unusable(row, self.recipe)
            if row.track_id in seen:
                reason = ("duplicate", f"the same bytes as {seen[row.track_id]}")
            if reason is None:
                seen[row.track_id] = row.path
                kept.append(row.Index)
            else:
                self.rejects.append(Reject(row.track_id, row.path, "match", *reason))
        return tracks.loc[kept]

    def align(self, tracks: pd.DataFrame, candidates: list[Candidate]) -> list[dict[str, Any]]:
        """Candidates to compared pairs; rows of the pairs table but for status and song."""
        by_id = tracks.drop_duplicates("track_id").set_index("track_id")
        stage: Stage[PairItem] = Stage(
            "align",
            ALIGN_VERSION,
            partial(compare_pair, min_segment_s=self.recipe.min_segment_s),
            {"min_segment_s": self.recipe.min_segment_s},
        )
        rows = {c.name: c.row(by_id) for c in candidates}
        works = []
        for candidate in candidates:
            if not candidate.reason:
                first, second = candidate.ordered(by_id)
                files = [FoundFile(str(self.folder), by_id.at[i, "path"], i) for i in (first, second)]
                works.append(Work(candidate.name, PairItem(*files), (first, second)))
        for done in self._run(stage, works, reject_stage=None):
            row = rows[done.name]
            if done.product is None:
                assert done.failure is not None
                row["reason"] = f"{done.failure.kind}: {done.failure.detail}"
            else:
                row.update(done.product.value)
                for role in ("mixture", "instrumental"):
                    row[f"{role}_path"] = by_id.at[row[f"{role}_id"], "path"]
        return [rows[name] for name in sorted(rows)]

    def choose(self, tracks: pd.DataFrame, compared: list[dict[str, Any]]) -> pd.DataFrame:
        """Compared pairs to the pairs table, with one chosen pair for every song."""
        version = dict(zip(tracks["track_id"], tracks["version"], strict=True))
        verdicts = choose_pairs(
            [
                Compared(
                    row["pair_id"],
                    row["mixture_id"],
                    row["instrumental_id"],
                    is_pair=row["relation"] == "pair",
                    is_same=row["relation"] == "same recording",
                    confidence=row["confidence"] or 0.0,
                    mixture_version=version[row["mixture_id"]],
                    instrumental_version=version[row["instrumental_id"]],
                )
                for row in compared
            ]
        )
        rows = []
        for row in compared:
            verdict: Verdict = verdicts[row["pair_id"]]
            rows.append(
                {
                    **{key: value for key, value in row.items() if key != "relation"},
                    "status": verdict.status,
                    "song_id": verdict.song_id,
                    "reason": row["reason"] or verdict.reason,
                }
            )
        pairs = frame_of("pairs", rows)
        self.counts["choose"] = {str(k): int(v) for k, v in pairs["status"].value_counts().items()}
        return pairs

    def derive(self, tracks: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
        """Chosen pairs to stems on disk and the stems table."""
        by_id = tracks.drop_duplicates("track_id").set_index("track_id")
        chosen = pairs[pairs["status"] == "chosen"]
        settings: dict[str, Any] = {
            "method": self.recipe.method,
            "target_lufs": self.recipe.loudness_lufs,
            "audio_format": self.recipe.audio_format,
            "bit_depth": self.recipe.bit_depth,
        }
        stage: Stage[TripletItem] = Stage(
            "derive", DERIVE_VERSION, partial(write_triplet, **settings), settings
        )
        works = []
        for pair in chosen.to_dict("records"):
            files = [
                FoundFile(str(self.folder), by_id.at[pair[f"{role}_id"], "path"], pair[f"{role}_id"])
                for role in ("mixture", "instrumental")
            ]
            item = TripletItem(
                *files,
                out=str(self.out),
                song_id=pair["song_id"],
                pair_id=pair["pair_id"],
                segments=pair["segments"],
                drift_ppm=pair["drift_ppm"],
                polarity=int(pair["polarity"]),
            )
            works.append(Work(pair["pair_id"], item, item.content_ids))
        rows = []
        for done in self._run(stage, works, reject_stage="derive", is_whole=partial(is_whole, self.out)):
            if done.product is None:
                continue
            for stem in done.product.value["stems"]:
                track = by_id.loc[stem["song_id"]]
                rows.append({**stem, "artist": track["artist"], "genre": track["genre"], "license": None})
        stems = frame_of("stems", sorted(rows, key=lambda row: (row["song_id"], _STEM_ORDER[row["stem"]])))
        mixtures = stems[stems["stem"] == "mixture"]
        self.hours["kept"] = float((mixtures["num_frames"] / mixtures["sample_rate"]).sum() / 3600)
        return stems

    def write(self, tracks: pd.DataFrame, pairs: pd.DataFrame, stems: pd.DataFrame) -> None:
        """Tables, the stems table last: its existence means that the build is complete."""
        _remove_stale_audio(self.out, stems)
        tables = {"tracks": tracks, "pairs": pairs, "rejected": self.rejected_table(), "stems": stems}
        run = {
            "builder": "catalog",
            "recipe": self.recipe.model_dump(mode="json"),
            "catalog": str(self.folder),
            "versions": _versions(),
            "inputs": sorted(tracks["track_id"]),
            "counts": self.counts,
            "rejected": self._rejected_counts(),
            "hours": self.hours,
            "wall_s": {stage: round(seconds, 3) for stage, seconds in self.wall_s.items()},
        }
        for name, table in tables.items():
            if name == "stems":
                with replacing(self.out / "run.json") as file:
                    file.write((json.dumps(run, indent=2, ensure_ascii=False) + "\n").encode())
            write_table(self.out, name, table, self.builder.table_format)

    def rejected_table(self) -> pd.DataFrame:
        """What was left out so far, sorted."""
        rows = [reject.row() for reject in self.rejects]
        return frame_of("rejected", sorted(rows, key=lambda row: (row["path"], row["stage"], row["reason"])))

    def _rejected_counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for reject in self.rejects:
            reasons = counts.setdefault(reject.stage, {})
            reasons[reject.reason] = reasons.get(reject.reason, 0) + 1
        return counts

    def _run(
        self,
        stage: Stage[Any],
        works: Sequence[Work[Any]],
        *,
        reject_stage: str | None,
        cached: bool = True,
        is_whole: Callable[[dict[str, Any]], bool] = lambda value: True,
    ) -> Iterable[Done]:
        """Run a stage, count, show progress, and turn failures into rejects."""
        start = time.monotonic()
        failed = 0
        outcomes = (
            run_stage(stage, works, self.engine, self.cache, is_whole)
            if cached
            else _uncached(stage, works, self.engine)
        )
        paths = {work.name: getattr(work.item, "path", work.name) for work in works}
        self.builder.progress(stage.name, 0, len(works), 0)
        for number, done in enumerate(outcomes, 1):
            if done.failure is not None:
                failed += 1
                if reject_stage is not None:
                    self.rejects.append(
                        Reject(None, paths[done.name], reject_stage, _REASONS[done.failure.kind], done.failure.detail)
                    )
            self.builder.progress(stage.name, number, len(works), failed)
            yield done
        self.counts[stage.name] = {"in": len(works), "kept": len(works) - failed, "rejected": failed}
        self.wall_s[stage.name] = time.monotonic() - start


_STEM_ORDER = {"mixture": 0, "instrumental": 1, "vocals": 2}
_REASONS = {"rejected": "unreadable", "crash": "worker crashed", "timeout": "took too long"}


def _uncached(stage: Stage[Any], works: Sequence[Work[Any]], engine: Engine) -> Iterable[Done]:
    for outcome in engine.run(stage.function, iter([(work.name, work.item) for work in works])):
        yield Done(outcome.key, outcome.result, outcome.error)


@dataclass
class Candidate:
    """Two tracks that may hold one song. `a` and `b` are content ids, a < b."""

    a: str
    b: str
    metadata: str = ""
    votes: int = 0
    bit_error_rate: float | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The pair's id: both content ids, shortened."""
        return f"{self.a[:12]}-{self.b[:12]}"

    def weigh(
        self, tracks: pd.DataFrame, prints: dict[str, Fingerprint], recipe: CatalogRecipe
    ) -> None:
        """The paper's filter on durations, then the fingerprints' bit error rate."""
        durations = [
            (tracks.at[i, "music_end_frame"] - tracks.at[i, "music_start_frame"]) / tracks.at[i, "sample_rate"]
            for i in (self.a, self.b)
        ]
        matches = best_matches(prints[self.a], prints[self.b], count=1)
        self.bit_error_rate = matches[0].bit_error_rate if matches else None
        difference_s = abs(durations[0] - durations[1])
        limit_s = recipe.max_duration_difference_s
        if self.bit_error_rate is None or self.bit_error_rate > recipe.max_bit_error_rate:
            found = "none overlap" if self.bit_error_rate is None else f"{self.bit_error_rate:.2f}"
            self.reason = f"fingerprints differ (bit error rate {found}, at most {recipe.max_bit_error_rate})"
        elif limit_s is not None and difference_s > limit_s:
            self.reason = f"durations of the music differ by {difference_s:.1f} s (at most {limit_s:g} s)"

    def ordered(self, tracks: pd.DataFrame) -> tuple[str, str]:
        """Probable mixture first, by label; the waveforms have the last word."""
        is_first_instrumental = tracks.at[self.a, "version"] in WITHOUT_LEAD
        is_second_instrumental = tracks.at[self.b, "version"] in WITHOUT_LEAD
        return (self.b, self.a) if is_first_instrumental and not is_second_instrumental else (self.a, self.b)

    def row(self, tracks: pd.DataFrame) -> dict[str, Any]:
        """What the pairs table says before the waveforms are compared."""
        mixture, instrumental = self.ordered(tracks)
        evidence = "; ".join(
            part for part in (self.metadata, f"fingerprint ({self.votes} votes)" if self.votes else "") if part
        )
        return {
            "pair_id": self.name,
            "mixture_id": mixture,
            "instrumental_id": instrumental,
            "mixture_path": tracks.at[mixture, "path"],
            "instrumental_path": tracks.at[instrumental, "path"],
            "evidence": evidence,
            "votes": self.votes,
            "bit_error_rate": self.bit_error_rate,
            "confidence": None,
            "relation": "unrelated",
            "reason": self.reason,
        }


def _why_unusable(row: Any, recipe: CatalogRecipe) -> tuple[str, str] | None:
    """Why a track cannot be paired, as (reason, detail); None if it can."""
    if pd.isna(row.music_start_frame):
        return "silent", "nothing is louder than -60 dBFS"
    if row.channels > 2:
        return "channels", f"has {row.channels} channels; downmix to stereo first"
    duration_s = (row.music_end_frame - row.music_start_frame) / row.sample_rate
    if duration_s < recipe.min_song_s:
        return "too short", f"{duration_s:.1f} s of music (min_song_s {recipe.min_song_s:g})"
    if recipe.max_song_s is not None and duration_s > recipe.max_song_s:
        return "too long", f"{duration_s:.1f} s of music (max_song_s {recipe.max_song_s:g})"
    return None


def _first_difference(before: str, settings: dict[str, Any]) -> str:
    """Which setting of an earlier build differs, in words."""
    try:
        recorded = json.loads(before)
        old, new = recorded.get("recipe", {}), settings["recipe"]
        if recorded.get("builder") != settings["builder"]:
            return f"the folder holds a build of '{recorded.get('builder')}'"
        for name in sorted(set(old) | set(new)):
            if old.get(name) != new.get(name):
                return f"the folder was built with {name} {old.get(name)!r}, and this is {new.get(name)!r}"
    except (ValueError, AttributeError):
        pass
    return "the folder's recipe cannot be read"


def _remove_stale_audio(out: Path, stems: pd.DataFrame) -> None:
    """Remove audio that no row refers to: songs that left the catalogue, files of a killed write."""
    kept = {out / path for path in stems["path"]}
    audio = out / "audio"
    for path in sorted(audio.rglob("*"), reverse=True) if audio.exists() else ():
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _versions() -> dict[str, str]:
    names = ("stemloom", "numpy", "scipy", "librosa", "soundfile", "soxr", "pandas")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            found[name] = "not installed"
    return found


