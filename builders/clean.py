"""The cleaning: voices out of stems that should have none, by a separator, as a new corpus beside the old one.

The path, top to bottom in `CleanBuilder.build`: hear (every stem through the separator and a witness of voices),
judge and write what changes, link the rest, write the tables. What is done to a stem is decided by
`curation.cleaning`; a song of which a stem is dropped or cannot be cleaned leaves, with a row in the rejected
table.

    out/audio/...          the corpus: stems as they were (linked) or cleaned
    out/removed/...        what was taken out of each cleaned stem: the two sum to the stem before
    out/cleaned.parquet    what was found in each stem, and done to it
    out/clips.parquet      places without damaged parts; only where there are such parts, or the source has clips

A stem's estimate waits in a temporary file until it is judged, 1.3 GB for an hour of stereo at 44.1 kHz; memory
holds 230 MB of an hour, for each witness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import soxr

from builders.cache import cache_key
from builders.engine import LocalEngine
from builders.recipe import CleanRecipe
from builders.run import (
    Progress,
    Run,
    files_below,
    other_tables,
    own_path,
    refuse_foreign,
    refuse_limit,
    refuse_nested,
    remove_stale,
    silent,
    take_stem,
)
from builders.scan import Reject
from builders.stage import plain
from curation.activity import LevelMeter
from curation.cleaning import Cleaning, CleaningLimits, free_spans, judge_rest, judge_steps, subtract
from curation.clips import touches
from curation.defects import is_voice_stem
from curation.measures import StemMeter
from curation.voice import SAMPLE_RATE, STEP_S, voice_probability
from manifests.audio import AUDIO_SUFFIXES, Audio, blocks, content_id, probe
from manifests.corpus import CORPUS_ROOT, MIXTURE, Corpus
from manifests.encoding import encoding, quantise
from manifests.errors import AudioError, BuildError, RecipeError, did_you_mean
from manifests.lock import BuildLock
from manifests.tables import TableFormat, empty_table, frame_of
from separators.resampling import Resampled
from separators.separator import Separator
from separators.streams import Spool, forked, in_step

__all__ = ["CleanBuilder", "HeardStem", "hear_stem"]

log = logging.getLogger(__name__)

CLEAN_VERSION = 1


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
            LocalEngine(1),
            builder.table_format,
            builder.progress,
            {"source": str(folder.resolve())},
            separator,
        )
        self.corpus, self.recipe, self.separator = corpus, recipe, separator
        known = sorted(set(corpus.stems["stem"]) - {MIXTURE})
        for stem in recipe.stems:
            if stem not in known:
                raise RecipeError(
                    f"field 'stems' names '{stem}'{did_you_mean(stem, known)}: the corpus has {', '.join(known)}"
                )
        self.voices = voices_of(separator, recipe.voices)
        self.limits = CleaningLimits(
            **{item.name: getattr(recipe, item.name) for item in dataclasses.fields(CleaningLimits)}
        )
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
        works = self.works()
        start = time.monotonic()
        left: set[str] = set()
        self.progress("clean", 0, len(works), 0)
        for number, (song_id, stem) in enumerate(works, 1):
            path = self.corpus.path_of(self.corpus.song(song_id)[stem])
            try:
                found = self._cleaned(song_id, stem, path)
                self.done[song_id, stem] = found
                if found["verdict"] == "dropped":
                    share = f"{100 * found['damaged_fraction']:.0f} % of it, at {found['voice_db']:.1f} dB"
                    self._leave(song_id, stem, "too much voice", f"what is left would be damaged: {share}")
                    left.add(song_id)
            # What is wrong with a file or with what a separator makes of it; a disk that refuses passes.
            except (AudioError, RecipeError) as error:
                log.warning("%s: %s is not cleaned: %s", song_id, stem, error)
                self._leave(song_id, stem, "not cleaned", str(error))
                left.add(song_id)
            self.progress("clean", number, len(works), len(self.rejects))
        failed = len(self.rejects)
        self.counts["clean"] = {"in": len(works), "kept": len(works) - failed, "rejected": failed}
        self.wall_s["clean"] = time.monotonic() - start
        for song_id in self.songs:
            try:
                if MIXTURE in self.corpus.song(song_id) and song_id not in left:
                    self._mix(song_id)
            except AudioError as error:
                self._leave(song_id, MIXTURE, "not cleaned", str(error))
                left.add(song_id)
        self.songs = [song_id for song_id in self.songs if song_id not in left]
        if not self.songs:
            reasons = Counter(reject.reason for reject in self.rejects).most_common(5)
            listed = "; ".join(f"{count} {reason}" for reason, count in reasons)
            first = next((reject.detail for reject in self.rejects if reject.reason == "not cleaned"), None)
            fix = "loosen the limits" if first is None else f"the first that failed: {first}"
            remove_stale(self.out, self._written_files(), ())
            raise BuildError(f"{self.corpus.folder}: no song is left ({listed}); {fix}")

    def _leave(self, song_id: str, stem: str, reason: str, detail: str) -> None:
        self.rejects.append(Reject(song_id, f"{song_id}/{stem}", "clean", reason, detail))

    def _cleaned(self, song_id: str, stem: str, path: Path) -> dict[str, Any]:
        """What was found in a stem; its files are in the folder if it is cleaned."""
        content = content_id(path)
        work = {**self.settings, "separator": self.separator.identity, "name": f"{song_id}/{stem}"}
        key = cache_key("clean", CLEAN_VERSION, work, [content])
        before: Any = self.cache.get(key)
        if isinstance(before, dict) and before["sizes"] == self._sizes(before["files"].values()):
            return before
        measures: dict[str, float | None] = {}
        names: dict[str, str] = {}
        with Spool(self.out) as spool:
            witnesses = _WITNESSES[self.recipe.witness]
            heard = hear_stem(path, self.separator, self.voices, spool, witnesses)
            judged = self._judged(heard)
            if judged.verdict == "cleaned":
                suffix, _ = self._format(heard.peak)
                names = {folder: f"{folder}/{song_id}/{stem}.{suffix}" for folder in ("audio", "removed")}
                judged, measures = self._written(path, spool, heard, judged, names)
        found: dict[str, Any] = {
            # spans as lists, as the cache gives them back
            **json.loads(json.dumps(dataclasses.asdict(judged))),
            "content_id": content,
            "measures": measures,
            "files": names,
            "sizes": self._sizes(names.values()),
        }
        self.cache.put(key, found)
        return found

    def _format(self, peak: float) -> tuple[str, int]:
        """Suffix and depth of a file. What lossy files decode to may be beyond full scale, which floats hold."""
        return (self.recipe.audio_format, self.recipe.bit_depth) if peak < 1 else ("wav", 32)

    def _sizes(self, names: Iterable[str]) -> dict[str, int]:
        paths = {name: self.out / name for name in names}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

    def _judged(self, heard: HeardStem) -> Cleaning:
        chances = [heard.chances[name] for name in _WITNESSES[self.recipe.witness]]
        return judge_steps(
            heard.voice,
            heard.stem,
            np.max(chances, axis=0) if chances else np.ones(len(heard.stem)),
            step_frames=heard.step_frames,
            num_frames=heard.num_frames,
            limits=self.limits,
        )

    def _written(
        self, path: Path, spool: Spool, heard: HeardStem, judged: Cleaning, names: Mapping[str, str]
    ) -> tuple[Cleaning, dict[str, float | None]]:
        """Write the cleaned stem and what was removed; what is to be said of the first when it was heard again."""
        info = probe(path)
        fade_frames = round(self.recipe.fade_s * info.sample_rate)
        meter = StemMeter(info.sample_rate, info.channels)
        ear = _Ear(info.sample_rate, info.channels, heard.step_frames)
        position = 0
        shape = (info.num_frames, info.sample_rate, info.channels, self._format(heard.peak)[1])
        with contextlib.ExitStack() as stack:
            puts = {kind: stack.enter_context(encoding(self.out / name, *shape)) for kind, name in names.items()}
            for stem, voice in in_step([_finite(path), spool.blocks()]):
                _, removed = subtract(stem, voice, judged.cleaned, position, fade_frames)
                # what is removed lies on the grid of the file, so that the two sum exactly
                removed = quantise(removed, self.recipe.bit_depth)
                cleaned = stem - removed
                puts["audio"](cleaned)
                puts["removed"](removed)
                meter.add(cleaned)
                ear.add(cleaned)
                position += stem.shape[1]
        if self.recipe.witness != "none":
            judged = judge_rest(
                judged,
                heard.stem,
                ear.probability(),
                step_frames=heard.step_frames,
                num_frames=heard.num_frames,
                limits=self.limits,
            )
        return judged, _measures(meter, info.channels)

    def _mix(self, song_id: str) -> None:
        """A mixture loses what its stems have lost."""
        row = self.corpus.song(song_id)[MIXTURE]
        stems = [stem for stem in self.corpus.song(song_id) if self._is_cleaned(song_id, stem)]
        if not stems:
            return
        names = [self.done[song_id, stem]["files"]["removed"] for stem in stems]
        path = self.corpus.path_of(row)
        info = probe(path)

        def cleaned() -> Iterator[Audio]:
            for mixture, *removed in in_step([_finite(path), *(blocks(self.out / name) for name in names)]):
                yield mixture - np.sum(removed, axis=0, dtype=np.float32)

        meter = StemMeter(info.sample_rate, info.channels)
        suffix, bit_depth = self._format(max(float(np.abs(block).max(initial=0)) for block in cleaned()))
        name = f"audio/{song_id}/{MIXTURE}.{suffix}"
        shape = (info.num_frames, info.sample_rate, info.channels, bit_depth)
        with encoding(self.out / name, *shape) as put:
            for block in cleaned():
                put(block)
                meter.add(block)
        self.mixed[song_id] = {"measures": _measures(meter, info.channels), "files": {"audio": name}}

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
        self.save(inputs, tables, separator=self.separator.name, verdicts=dict(verdicts))

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


@dataclass(frozen=True)
class HeardStem:
    """What is heard of a stem, step by step.

    Attributes
    ----------
    voice, stem : np.ndarray [shape=(steps,)]
        Energies of the separator's estimate and of the stem.
    chances : dict of str to np.ndarray [shape=(steps,)]
        Probability of a voice in the `stem`, and in the estimate, `voice`, as far as they were listened to.
    step_frames, num_frames : int
        Of a step, and in all.
    peak : float
        The highest of the stem and the estimate, of full scale.
    """

    voice: npt.NDArray[np.float64]
    stem: npt.NDArray[np.float64]
    chances: dict[str, npt.NDArray[np.float32]]
    step_frames: int
    num_frames: int
    peak: float


def hear_stem(
    path: Path,
    separator: Separator,
    voices: Sequence[int],
    spool: Spool,
    witnesses: Sequence[str] = ("stem", "voice"),
) -> HeardStem:
    """Hear a stem once, by a separator and by the witness of voices.

    Parameters
    ----------
    path : Path
    separator : Separator
        Of any rate and channels.
    voices : sequence of int
        Which of its sources are voices.
    spool : Spool
        Gets their sum, block by block.
    witnesses : sequence of {'stem', 'voice'}
        In what of it voices are listened for: in itself, in the estimate.

    Returns
    -------
    HeardStem

    Raises
    ------
    AudioError
        The file cannot be read, or the separator gives NaN, or more or fewer frames.
    """
    info = probe(path)
    step_frames = round(STEP_S * info.sample_rate)
    ears = {
        name: _Ear(info.sample_rate, info.channels, step_frames, listens=name in witnesses)
        for name in ("stem", "voice")
    }
    fitted = Resampled(separator, info.sample_rate, info.channels)
    heard, separated = forked(_finite(path), 2)
    estimate = (block[voices].sum(axis=0) for block in fitted.stream(separated))
    num_frames, peak = 0, 0.0
    for stem, voice in in_step([heard, estimate]):
        if not np.isfinite(voice).all():
            raise AudioError(
                f"{path}: {separator.name} gives NaN or infinity after frame {num_frames}; look at the audio "
                "there, or at the weights"
            )
        ears["stem"].add(stem)
        ears["voice"].add(voice)
        spool.put(voice)
        num_frames += stem.shape[1]
        peak = max(peak, *(float(np.abs(block).max(initial=0)) for block in (stem, voice)))
    return HeardStem(
        ears["voice"].energies,
        ears["stem"].energies,
        {name: ears[name].probability() for name in witnesses},
        step_frames,
        num_frames,
        peak,
    )


class _Ear:
    """What is kept of audio that was heard once: its levels, and itself as the witness takes it."""

    def __init__(self, sample_rate: int, channels: int, step_frames: int, *, listens: bool = True) -> None:
        self._meter = LevelMeter(sample_rate, channels, step_frames)
        self._resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32")
        self._mono: list[Audio] = []
        self._listens = listens
        self._step_s = step_frames / sample_rate

    def add(self, block: Audio) -> None:
        self._meter.add(block)
        if self._listens:
            self._mono.append(self._resampler.resample_chunk(block.mean(axis=0)))

    @property
    def energies(self) -> npt.NDArray[np.float64]:
        return self._meter.curve.energies

    def probability(self) -> npt.NDArray[np.float32]:
        """Of a voice, for each step of the levels; the witness's steps are as long but for rounding."""
        steps = len(self.energies)
        mono = np.concatenate([*self._mono, self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)])
        chances = voice_probability(mono[np.newaxis], SAMPLE_RATE)
        if not len(chances):
            return np.zeros(steps, np.float32)
        middles = ((np.arange(steps) + 0.5) * self._step_s / STEP_S).astype(int)
        return np.asarray(chances[np.minimum(middles, len(chances) - 1)])


_WITNESSES = {"stem": ("stem",), "voice": ("voice",), "either": ("stem", "voice"), "none": ()}


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


def _finite(path: Path) -> Iterator[Audio]:
    for block in blocks(path):
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: holds NaN or infinite samples; write the file again")
        yield block


def _measures(meter: StemMeter, channels: int) -> dict[str, float | None]:
    """Columns of the stems table, whose RMS is a channel's mean."""
    found = meter.measures
    return {
        "rms": plain(found.rms / math.sqrt(channels)),
        "loudness_lufs": plain(found.loudness_lufs) if found.rms else None,
        "active_fraction": plain(1 - found.silent_fraction),
    }
