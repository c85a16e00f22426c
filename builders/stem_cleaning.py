"""One stem without the voices in it: heard by a separator and a witness of voices, judged, and written anew.

What `builders.clean` does with every stem, and with the mixtures of songs whose stems have changed. How much of a
stem is cleaned is decided by `curation.cleaning`.

A stem's estimate waits in a temporary file until it is judged, 1.3 GB for an hour of stereo at 44.1 kHz; memory
holds 230 MB of an hour, for each witness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from builders.recipe import CleanRecipe
from builders.scan import FoundFile
from builders.stage import Product, plain
from curation.activity import LevelMeter
from curation.cleaning import Cleaning, CleaningLimits, judge_rest, judge_steps, subtract
from curation.measures import StemMeter
from curation.voice import SAMPLE_RATE, STEP_S, voice_probability
from manifests.audio import Audio, blocks, probe
from manifests.corpus import MIXTURE
from manifests.encoding import encoding, quantise
from manifests.errors import AudioError, RecipeError
from separators.resampling import Resampled
from separators.separator import Separator
from separators.streams import Spool, forked, in_step

__all__ = ["HeardStem", "MixtureItem", "StemCleaner", "StemItem", "clean_mixture", "hear_stem", "is_whole"]

_WITNESSES = {"stem": ("stem",), "voice": ("voice",), "either": ("stem", "voice"), "none": ()}


@dataclass(frozen=True)
class StemItem:
    """A stem to be cleaned."""

    song_id: str
    stem: str
    file: FoundFile


@dataclass(frozen=True)
class MixtureItem:
    """A mixture, and the files of what its stems have lost, in the new corpus."""

    song_id: str
    file: FoundFile
    removed: tuple[str, ...]


@dataclass(frozen=True)
class StemCleaner:
    """Cleans stems. A stage.

    Parameters
    ----------
    separator : Separator
    voices : sequence of int
        Which of its sources are voices.
    recipe : CleanRecipe
    out : Path
        The new corpus' folder.

    Raises
    ------
    RecipeError
        A limit is impossible.
    """

    separator: Separator
    voices: Sequence[int]
    recipe: CleanRecipe
    out: Path

    def __post_init__(self) -> None:
        self._limits()

    def _limits(self) -> CleaningLimits:
        return CleaningLimits(
            **{item.name: getattr(self.recipe, item.name) for item in dataclasses.fields(CleaningLimits)}
        )

    def __call__(self, item: StemItem) -> Product:
        """What was found in a stem; its files are in the folder if it is cleaned.

        Raises
        ------
        AudioError
            What is wrong with the file, or with what the separator makes of it.
        BuildError
            The disk refuses.
        """
        try:
            return self._cleaned(item)
        except RecipeError as error:  # the separator does not take this file, and may take others
            raise AudioError(str(error)) from error

    def _cleaned(self, item: StemItem) -> Product:
        path = item.file.location
        measures: dict[str, float | None] = {}
        names: dict[str, str] = {}
        with Spool(self.out) as spool:
            heard = hear_stem(path, self.separator, self.voices, spool, _WITNESSES[self.recipe.witness])
            judged = self._judged(heard)
            if judged.verdict == "cleaned":
                suffix, _ = _format(self.recipe, heard.peak)
                names = {kind: f"{kind}/{item.song_id}/{item.stem}.{suffix}" for kind in ("audio", "removed")}
                judged, measures = self._written(path, spool, heard, judged, names)
        return Product(
            {
                # spans as lists, as the cache gives them back
                **json.loads(json.dumps(dataclasses.asdict(judged))),
                "content_id": item.file.content_id,
                "measures": measures,
                "files": names,
                "sizes": _sizes(self.out, names.values()),
            }
        )

    def _judged(self, heard: HeardStem) -> Cleaning:
        chances = [heard.chances[name] for name in _WITNESSES[self.recipe.witness]]
        return judge_steps(
            heard.voice,
            heard.stem,
            np.max(chances, axis=0) if chances else np.ones(len(heard.stem)),
            step_frames=heard.step_frames,
            num_frames=heard.num_frames,
            limits=self._limits(),
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
        shape = (info.num_frames, info.sample_rate, info.channels, _format(self.recipe, heard.peak)[1])
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
                limits=self._limits(),
            )
        return judged, _measures(meter, info.channels)


def clean_mixture(item: MixtureItem, recipe: CleanRecipe, out: Path) -> Product:
    """Take out of a mixture what its stems have lost. A stage.

    Parameters
    ----------
    item : MixtureItem
    recipe : CleanRecipe
    out : Path
        The new corpus' folder.

    Returns
    -------
    Product
        ``measures`` and ``files``, as those of a stem.

    Raises
    ------
    AudioError
        A file cannot be read.
    BuildError
        The disk refuses.
    """
    path = item.file.location
    info = probe(path)

    def cleaned() -> Iterator[Audio]:
        for mixture, *removed in in_step([_finite(path), *(blocks(out / name) for name in item.removed)]):
            yield mixture - np.sum(removed, axis=0, dtype=np.float32)

    meter = StemMeter(info.sample_rate, info.channels)
    suffix, bit_depth = _format(recipe, max(float(np.abs(block).max(initial=0)) for block in cleaned()))
    name = f"audio/{item.song_id}/{MIXTURE}.{suffix}"
    shape = (info.num_frames, info.sample_rate, info.channels, bit_depth)
    with encoding(out / name, *shape) as put:
        for block in cleaned():
            put(block)
            meter.add(block)
    return Product({"measures": _measures(meter, info.channels), "files": {"audio": name}})


def is_whole(out: Path, value: Mapping[str, Any]) -> bool:
    """Whether the files of a stem that was cleaned before are still there.

    Parameters
    ----------
    out : Path
        The new corpus' folder.
    value : mapping
        Of its `Product`.

    Returns
    -------
    bool
    """
    return bool(value["sizes"] == _sizes(out, value["files"].values()))


def _format(recipe: CleanRecipe, peak: float) -> tuple[str, int]:
    """Suffix and depth of a file. What lossy files decode to may be beyond full scale, which floats hold."""
    return (recipe.audio_format, recipe.bit_depth) if peak < 1 else ("wav", 32)


def _sizes(out: Path, names: Iterable[str]) -> dict[str, int]:
    paths = {name: out / name for name in names}
    return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}


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
