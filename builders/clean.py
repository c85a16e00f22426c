"""The cleaning: voices out of stems that should have none, by a separator, as a new corpus beside the old one.

The path, top to bottom in `CleanBuilder.build`: hear (every stem through the separator and a witness of voices),
judge and write what changes, link the rest, write the tables. What is done to a stem is decided by
`curation.cleaning`; a song of which a stem is dropped or cannot be cleaned leaves, with a row in the rejected
table.

    out/audio/...          the corpus: stems as they were (linked) or cleaned
    out/removed/...        what was taken out of each cleaned stem: the two sum to the stem before
    out/cleaned.parquet    what was found in each stem, and done to it
    out/clips.parquet      places without damaged parts; only where there are such parts, or the source has clips

What is done to one stem is in `builders.stem_cleaning`.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from builders.engine import Failure, LocalEngine
from builders.recipe import CleanRecipe
from builders.run import (
    Run,
    files_below,
    other_tables,
    own_path,
    refuse_foreign,
    refuse_limit,
    refuse_nested,
    remove_stale,
    take_stem,
)
from builders.scan import HASH, FoundFile, Reject
from builders.stage import Engine, Progress, Stage, Work, model_needs, silent
from builders.stem_cleaning import MixtureItem, StemCleaner, StemItem, clean_mixture, is_whole
from curation.cleaning import free_spans
from curation.clips import touches
from curation.defects import is_voice_stem
from manifests.audio import AUDIO_SUFFIXES, content_id
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus
from manifests.errors import BuildError, RecipeError, did_you_mean
from manifests.lock import BuildLock
from manifests.staging import address
from manifests.tables import TableFormat, empty_table, frame_of
from separators.separator import Separator

__all__ = ["CleanBuilder", "voices_of"]

log = logging.getLogger(__name__)

CLEAN_VERSION = 2


@dataclass(frozen=True)
class CleanBuilder:
    """Makes a corpus whose stems have no voices where they should have none. The source is left as it is.

    Parameters
    ----------
    out : Path
        The new corpus' folder. A run that was stopped is resumed there; a folder with another separator's work, of
        another corpus or with other settings is refused.
    separator : Separator
        Of any rate and channels.
    recipe : CleanRecipe
        Which stems, and the limits.
    table_format : {'parquet', 'jsonl'}
    limit : int >= 1, optional
        Only the first songs, sorted by id.
    progress : callable, optional
    engine : Engine, optional
        `LocalEngine(0)` by default: one stem after another in this process, since a separator may need all of the
        machine. Workers of another engine have a separator each, which must pickle.

    Examples
    --------
    >>> builder = CleanBuilder(
    ...     Path("clean"), load_separator("bundled:vocals"), CleanRecipe(stems=("music",))
    ... )  # doctest: +SKIP
    >>> corpus = builder.build(Path("corpus"))  # doctest: +SKIP
    """

    out: Path
    separator: Separator
    recipe: CleanRecipe
    table_format: TableFormat = "parquet"
    limit: int | None = None
    progress: Progress = field(default=silent)
    engine: Engine | None = None

    def build(self, folder: Path) -> Corpus:
        """Run the whole path.

        Parameters
        ----------
        folder : Path
            A finished corpus.

        Returns
        -------
        Corpus
            Of the songs that are left.

        Raises
        ------
        TableError
            The source is no corpus, or its tables are damaged.
        RecipeError
            The corpus has no such stem, the separator no voices, or a limit is impossible.
        BuildError
            The folder holds anything else or a running build, no song is left, or the disk refuses.
        """
        run = _Run(self, folder)
        refuse_nested(self.out, folder)
        refuse_foreign(self.out, "cleaning")
        with BuildLock(self.out):
            run.claim_folder()
            run.remove_temporary_files()
            run.forget_result()
            run.clean()
            run.link()
            run.write()
        return Corpus.open(self.out)

    def plan(self, folder: Path) -> int:
        """Find what `build` would do, and write nothing.

        Parameters
        ----------
        folder : Path

        Returns
        -------
        int
            Stems that would be cleaned.

        Raises
        ------
        TableError, RecipeError
            As for `build`.
        """
        return len(_Run(self, folder).works())


class _Run(Run):
    def __init__(self, builder: CleanBuilder, folder: Path) -> None:
        corpus = Corpus.open(folder)
        recipe, separator = builder.recipe, builder.separator
        refuse_limit(builder.limit)
        super().__init__(
            builder.out,
            "clean",
            recipe,
            builder.engine or LocalEngine(0),
            builder.table_format,
            builder.progress,
            {"source": address(folder)},
            separator,
            reads=(folder, *corpus.roots.values()),
        )
        self.corpus, self.recipe, self.separator = corpus, recipe, separator
        known = sorted(set(corpus.stems["stem"]) - {MIXTURE})
        for stem in recipe.stems:
            if stem not in known:
                raise RecipeError(
                    f"field 'stems' names '{stem}'{did_you_mean(stem, known)}: the corpus has {', '.join(known)}"
                )
        self.cleaner = StemCleaner(separator, voices_of(separator, recipe.voices), recipe, builder.out)
        self.songs = corpus.songs()[: builder.limit]
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        self.mixed: dict[str, dict[str, Any]] = {}
        self.hours["in"] = self._hours()

    def _hours(self) -> float:
        longest = (next(iter(self.corpus.song(song_id).values())) for song_id in self.songs)
        return math.fsum(row["num_frames"] / row["sample_rate"] / 3600 for row in longest)

    def works(self) -> list[tuple[str, str]]:
        """Songs and their stems that the recipe names."""
        return [
            (song_id, stem)
            for song_id in self.songs
            for stem in self.corpus.song(song_id)
            if stem in self.recipe.stems
        ]

    def clean(self) -> None:
        """Every stem that the recipe names, and then the mixtures of songs that changed."""
        works = {f"{song_id}/{stem}": (song_id, stem) for song_id, stem in self.works()}
        left: set[str] = set()
        items = self._hashed(works, left)
        parameters = {**self.settings, "separator": self.separator.identity}
        needs = model_needs(self.separator)
        stage: Stage[StemItem] = Stage("clean", CLEAN_VERSION, self.cleaner, parameters, needs)
        found = {}
        # equal files have results of their own
        todo = [Work(name, item, (item.file.content_id, name)) for name, item in items.items()]
        for done in self.stage(stage, todo, reject_stage=None, is_whole=partial(is_whole, self.out)):
            if done.product is not None:
                found[works[done.name]] = done.product.value
            elif done.failure is not None:
                self._fail(*works[done.name], done.failure, left)
        self.done = {work: found[work] for work in works.values() if work in found}
        for (song_id, stem), value in self.done.items():
            if value["verdict"] == "dropped":
                share = f"{100 * value['damaged_fraction']:.0f} % of it, at {value['voice_db']:.1f} dB"
                self._leave(song_id, stem, "too much voice", f"what is left would be damaged: {share}")
                left.add(song_id)
        failed = len(self.rejects)
        self.counts["clean"] = {"in": len(works), "kept": len(works) - failed, "rejected": failed}
        self._mix([song_id for song_id in self.songs if song_id not in left], left)
        self.songs = [song_id for song_id in self.songs if song_id not in left]
        if not self.songs:
            reasons = Counter(reject.reason for reject in self.rejects).most_common(5)
            listed = "; ".join(f"{count} {reason}" for reason, count in reasons)
            first = next((reject.detail for reject in self.rejects if reject.reason == "not cleaned"), None)
            fix = "loosen the limits" if first is None else f"the first that failed: {first}"
            remove_stale(self.out, self._written_files(), ())
            raise BuildError(f"{self.corpus.folder}: no song is left ({listed}); {fix}")

    def _hashed(self, works: Mapping[str, tuple[str, str]], left: set[str]) -> dict[str, StemItem]:
        """Stems with the content ids of their files."""
        files = {name: self._file(*work) for name, work in works.items()}
        items = {}
        todo = [Work(name, file, ()) for name, file in files.items()]
        for done in self.stage(HASH, todo, reject_stage=None, cached=False, counted=False):
            if done.product is not None:
                file = replace(files[done.name], content_id=done.product.value["content_id"])
                items[done.name] = StemItem(*works[done.name], file)
            elif done.failure is not None:
                self._fail(*works[done.name], done.failure, left)
        return items

    def _mix(self, songs: Sequence[str], left: set[str]) -> None:
        """Mixtures lose what their stems have lost."""
        works = []
        for song_id in songs:
            stems = self.corpus.song(song_id)
            cleaned = [self.done[song_id, stem] for stem in stems if self._is_cleaned(song_id, stem)]
            if MIXTURE in stems and cleaned:
                removed = tuple(found["files"]["removed"] for found in cleaned)
                item = MixtureItem(song_id, self._file(song_id, MIXTURE), removed)
                works.append(Work(song_id, item, ()))
        function = partial(clean_mixture, recipe=self.recipe, out=self.out)
        stage: Stage[MixtureItem] = Stage("mix", CLEAN_VERSION, function, self.settings)
        for done in self.stage(stage, works, reject_stage=None, cached=False, counted=False):
            if done.product is not None:
                self.mixed[done.name] = done.product.value
            elif done.failure is not None:
                self._fail(done.name, MIXTURE, done.failure, left)

    def _file(self, song_id: str, stem: str) -> FoundFile:
        row = self.corpus.song(song_id)[stem]
        return FoundFile(str(self.corpus.folder_of(row)), row["path"])

    def _fail(self, song_id: str, stem: str, failure: Failure, left: set[str]) -> None:
        """What is wrong with a file, or with what a separator makes of it."""
        log.warning("%s: %s is not cleaned: %s", song_id, stem, failure.detail)
        self._leave(song_id, stem, "not cleaned", failure.detail)
        left.add(song_id)

    def _leave(self, song_id: str, stem: str, reason: str, detail: str) -> None:
        self.rejects.append(Reject(song_id, f"{song_id}/{stem}", "clean", reason, detail))

    def link(self) -> None:
        """The audio that stays as it is, beside what was cleaned; what no song has any more is removed."""
        kept = set()
        for number, song_id in enumerate(self.songs, 1):
            for stem, row in self.corpus.song(song_id).items():
                changed = self._changed(song_id, stem)
                if changed is None:
                    kept.add(take_stem(self.corpus, row, self.out, link=self.recipe.audio == "link"))
                else:
                    kept |= set(changed["files"].values())
            self.progress("link", number, len(self.songs), 0)
        remove_stale(self.out, self._written_files(), kept)

    def _written_files(self) -> list[str]:
        return files_below(self.out, dict.fromkeys(("audio", "removed"), AUDIO_SUFFIXES))

    def _is_cleaned(self, song_id: str, stem: str) -> bool:
        return self.done.get((song_id, stem), {}).get("verdict") == "cleaned"

    def _changed(self, song_id: str, stem: str) -> dict[str, Any] | None:
        """Files and measures of a stem that is another than before; None of what stays as it is."""
        if stem == MIXTURE:
            return self.mixed.get(song_id)
        return self.done[song_id, stem] if self._is_cleaned(song_id, stem) else None

    def write(self) -> None:
        """Tables, the stems table last: its existence means that the corpus is complete."""
        stems = self.corpus.stems[self.corpus.stems["song_id"].isin(self.songs)].copy()
        rows: list[dict[str, Any]] = []
        for found in stems.astype(object).where(stems.notna(), None).to_dict("records"):
            row = {str(name): value for name, value in found.items()}
            song_id, stem = row["song_id"], row["stem"]
            path, changed = own_path(row["root"], row["path"]), self._changed(song_id, stem)
            if changed is not None:
                path = changed["files"]["audio"]
                parents = json.dumps([f"{song_id}/{stem}"], ensure_ascii=False)
                row |= {
                    "provenance": "cleaned",
                    "method": f"{self.separator.name} {self.separator.identity}",
                    "parents": row["parents"] or parents,
                    "content_id": content_id(self.out / path),
                    "audit": "unheard",
                    **changed["measures"],
                }
            rows.append(row | {"root": CORPUS_ROOT, "path": path})
        tables = {"stems": frame_of("stems", rows), "cleaned": self._cleaned_table()}
        clips = self._clips(stems)
        if clips is not None:
            tables["clips"] = clips
        tables |= other_tables(self.corpus)
        self.hours["kept"] = self._hours()
        verdicts = Counter(found["verdict"] for found in self.done.values())
        inputs = [found["content_id"] for found in self.done.values()]
        self.save(inputs, tables, separator=self.separator.name, verdicts=dict(sorted(verdicts.items())))

    def _cleaned_table(self) -> pd.DataFrame:
        kept = set(self.songs)
        rows = [
            {
                "song_id": song_id,
                "stem": stem,
                **{name: found[name] for name in ("verdict", "voice_db", "cleaned_fraction", "damaged_fraction")},
                "cleaned": json.dumps(found["cleaned"]),
                "damaged": json.dumps(found["damaged"]),
                "removed_path": found["files"].get("removed") if song_id in kept else None,
            }
            for (song_id, stem), found in sorted(self.done.items())
        ]
        return frame_of("cleaned", rows)

    def _clips(self, stems: pd.DataFrame) -> pd.DataFrame | None:
        """The source's clips but those that touch a damaged part; without any, what lies between such parts."""
        damaged: dict[str, list[tuple[int, int]]] = {song_id: [] for song_id in self.songs}
        for (song_id, _), found in self.done.items():
            if song_id in damaged:
                damaged[song_id] += [(first, end) for first, end in found["damaged"]]
        clips = self.corpus.clips
        if clips is not None:
            return clips[clips["song_id"].isin(self.songs) & ~touches(clips, damaged)]
        if not any(damaged.values()):
            return None
        rows = []
        for key, song in stems.groupby("song_id", sort=False):
            song_id = str(key)
            first = song.iloc[0]
            num_frames = int(song["num_frames"].min())
            least = round(self.recipe.min_clip_s * int(first["sample_rate"]))
            for start_frame, end_frame in free_spans(damaged[song_id], num_frames, least):
                rows.append(
                    {
                        "clip_id": f"{song_id}@{start_frame}",
                        "song_id": song_id,
                        "start_frame": start_frame,
                        "num_frames": end_frame - start_frame,
                        **{name: first[name] for name in ("split", "genre", "artist")},
                    }
                )
        return frame_of("clips", rows) if rows else empty_table("clips")


def voices_of(separator: Separator, names: Sequence[str] | None) -> list[int]:
    """The numbers of a separator's sources that are voices.

    Parameters
    ----------
    separator : Separator
    names : sequence of str, optional
        What they are called; by default they are known by their names (vocals, speech, dialogue ...).

    Returns
    -------
    list of int

    Raises
    ------
    RecipeError
        The separator has no such source, or none that is called like a voice.
    """
    sources = separator.sources
    for name in names or ():
        if name not in sources:
            raise RecipeError(
                f"field 'voices' names '{name}'{did_you_mean(name, sources)}: {separator.name} gives "
                f"{', '.join(sources)}"
            )
    found = [number for number, name in enumerate(sources) if (name in names if names else is_voice_stem(name))]
    if not found:
        raise RecipeError(f"{separator.name} gives {', '.join(sources)}, no voice by its name; name it in 'voices'")
    return found
