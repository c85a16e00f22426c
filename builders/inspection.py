"""One song inspected: every stem measured, the witnesses of its defects heard. A stage of the curation."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import soxr

from builders.engine import Needs
from builders.scan import FoundFile, refuse_changed
from builders.stage import Arrays, Product, plain
from curation.activity import LevelCurve, LevelMeter
from curation.chromaprint import PcmStream, open_stream
from curation.cleaning import Span, pure_spans
from curation.clips import clip_rms, salient_fraction, voiced_fraction
from curation.defects import VOICED, Verdict, excess_curve, is_voice_stem, judge, leakage_curve
from curation.measures import StemMeter
from curation.voice import SAMPLE_RATE, STEP_S, voice_probability
from manifests.audio import Audio, blocks, probe
from manifests.corpus import MIXTURE, whole_of
from manifests.errors import AudioError, RecipeError

Witness: TypeAlias = Callable[[Audio, int], npt.NDArray[Any]]

INSPECT_VERSION = 2
INSPECT_NEEDS = Needs(memory_bytes=800_000_000)
"""Four stems and their mixture, of 5 minutes."""

LEVEL_STEP_S = 0.1
"""Step of the energy curves that clips are measured from."""

VOICE_RANGE_DB = 40.0
"""A voice further below its loud parts does not count as heard."""

_BLOCK_FRAMES = 1 << 17


@dataclass(frozen=True)
class InspectItem:
    """A song: its stems' files by name, the mixture among them where there is one."""

    song_id: str
    stems: tuple[tuple[str, FoundFile], ...]

    @property
    def content_ids(self) -> tuple[str, ...]:
        """Everything that the inspection depends on."""
        return tuple(text for name, file in self.stems for text in (name, file.content_id))


class Inspection:
    """What the inspection of a song has found, as the cache holds it.

    Parameters
    ----------
    value : dict
    arrays : mapping of str to np.ndarray
        A `Product`'s.
    """

    def __init__(self, value: dict[str, Any], arrays: Arrays) -> None:
        self.stems: list[str] = value["stems"]
        self.measures: dict[str, dict[str, Any]] = value["measures"]
        self.fingerprint = np.asarray(arrays["fingerprint"], np.uint32)
        self._energies, self._voices = arrays["energies"], arrays["voices"]
        # a rest of a tenth of a second may make one curve longer than another
        curves = [arrays[name] for name in ("leakage", "excess") if len(arrays[name])]
        whole = max(1, self._energies.shape[1] // round(1 / LEVEL_STEP_S))
        self._num_seconds = min([whole, *map(len, curves)])
        self._leakage, self._excess = (arrays[name][: self._num_seconds] for name in ("leakage", "excess"))

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The song's grade, its reasons, and the grade of every second."""
        return judge(self._levels(), self._seconds(), self._leakage, self._excess)

    def curves(self) -> dict[str, npt.NDArray[np.float32]]:
        """What a person looks at: arrays with one value per second, equally long.

        Returns
        -------
        dict of str to np.ndarray [shape=(seconds,), float32]
            ``rms_<stem>``, ``voice_<stem>`` (0 to 1), ``residue_db`` (what has leaked into the vocals, over the
            accompaniment), ``excess`` (what of the accompaniment is not in the mixture), ``grade`` (0 is A, 3 is
            D).
        """
        found = {f"rms_{stem}": np.sqrt(power) for stem, power in self._powers().items()}
        found |= {f"voice_{stem}": voice for stem, voice in self._seconds().items()}
        if len(self._leakage):
            found["residue_db"] = np.asarray(self._leakage)
        if len(self._excess):
            found["excess"] = np.asarray(self._excess)
        found["grade"] = self.verdict.seconds
        return {name: np.asarray(curve, np.float32) for name, curve in found.items()}

    def measured(self, clips: pd.DataFrame) -> pd.DataFrame:
        """Clips of this song with what they measure.

        Parameters
        ----------
        clips : pd.DataFrame
            Rows of one song: clip_id, song_id, start_frame, num_frames.

        Returns
        -------
        pd.DataFrame
            With the columns ``rms_<stem>``, ``voiced_fraction`` (of the voice stems, or of a song's only stem,
            whatever it is; else null) and ``salient_fraction`` (of the stem that has least).
        """
        song_id = str(clips["song_id"].iloc[0])
        columns = {
            f"rms_{stem}": clip_rms(clips, {song_id: self._curve(stem, self._energies[row])})
            for row, stem in enumerate(self.stems)
        }
        salient = [
            salient_fraction(clips, {song_id: self._curve(stem, self._energies[row])})
            for row, stem in enumerate(self.stems)
            if stem != MIXTURE
        ]
        if salient:
            columns["salient_fraction"] = pd.concat(salient, axis=1).min(axis=1)
        is_alone = len(self.stems) == 1 and MIXTURE not in self.stems
        voice_rows = [row for row, stem in enumerate(self.stems) if is_alone or is_voice_stem(stem)]
        if voice_rows:
            loudest = max(voice_rows, key=lambda row: float(self._energies[row].sum()))
            middles = (np.arange(self._energies.shape[1]) + 0.5) * LEVEL_STEP_S / STEP_S
            steps = np.minimum(middles.astype(int), self._voices.shape[1] - 1)
            sung = self._voices[voice_rows].max(axis=0)[steps] > VOICED if self._voices.shape[1] else 0
            curve = self._curve(self.stems[loudest], self._energies[voice_rows].sum(axis=0) * sung)
            columns["voiced_fraction"] = voiced_fraction(clips, {song_id: curve}, range_db=VOICE_RANGE_DB)
        return pd.concat([clips, pd.DataFrame({"voiced_fraction": np.nan, **columns}, index=clips.index)], axis=1)

    def pure_spans(self, min_s: float) -> list[Span]:
        """Where the stems of voices hold voices or silence only, and the others no voices.

        Parameters
        ----------
        min_s : float
            Shorter parts are left out.

        Returns
        -------
        list of (first frame, first frame behind)
            Nowhere, if a song has no stem of voices or no other.
        """
        sides = {
            is_voice: [
                row for row, stem in enumerate(self.stems) if stem != MIXTURE and is_voice_stem(stem) == is_voice
            ]
            for is_voice in (True, False)
        }
        steps = self._voices.shape[1]
        if not (sides[True] and sides[False] and steps):
            return []
        facts = self.measures[self.stems[0]]
        step_frames = round(STEP_S * int(facts["sample_rate"]))
        num_frames = min(steps * step_frames, *(int(facts["num_frames"]) for facts in self.measures.values()))
        steps = -(-num_frames // step_frames)
        middles = ((np.arange(self._energies.shape[1]) + 0.5) * LEVEL_STEP_S / STEP_S).astype(int)
        energies = np.bincount(middles, self._energies[sides[True]].sum(axis=0), steps)[:steps]
        levels = 10 * np.log10(energies / (step_frames * int(facts["channels"])) + 1e-15)
        return pure_spans(
            self._voices[sides[True]].max(axis=0)[:steps],
            levels,
            self._voices[sides[False]].max(axis=0)[:steps],
            step_frames=step_frames,
            num_frames=num_frames,
            voiced=VOICED,
            stray=VOICED,
            min_steps=max(1, math.ceil(min_s / STEP_S)),
        )

    def _curve(self, stem: str, energies: npt.NDArray[Any]) -> LevelCurve:
        measures = self.measures[stem]
        rate = int(measures["sample_rate"])
        return LevelCurve(
            np.asarray(energies, np.float64),
            round(LEVEL_STEP_S * rate),
            int(measures["num_frames"]),
            rate,
            int(measures["channels"]),
        )

    def _powers(self) -> dict[str, npt.NDArray[np.float64]]:
        """Mean over frames of the squares, channels summed, second by second."""
        found = {}
        for row, stem in enumerate(self.stems):
            rate = float(self.measures[stem]["sample_rate"])
            edges = np.arange(self._num_seconds) * round(1 / LEVEL_STEP_S)
            energies = np.add.reduceat(self._energies[row].astype(np.float64), edges)
            steps = np.diff(np.append(edges, self._energies.shape[1]))
            found[stem] = energies / (steps * LEVEL_STEP_S * rate)
        return found

    def _levels(self) -> dict[str, npt.NDArray[np.float32]]:
        return {
            stem: np.asarray(10 * np.log10(power / self.measures[stem]["channels"] + 1e-12), np.float32)
            for stem, power in self._powers().items()
        }

    def _seconds(self) -> dict[str, npt.NDArray[np.float32]]:
        """Voices' probabilities second by second, of all stems but the mixture."""
        count = self._voices.shape[1]
        seconds = self._num_seconds
        # the mean of the steps whose middles lie in a second; of a song shorter than a step, nothing
        places = np.minimum(((np.arange(count) + 0.5) * STEP_S).astype(int), seconds - 1)
        number = np.maximum(np.bincount(places, minlength=seconds), 1)
        return {
            stem: np.asarray(np.bincount(places, self._voices[row], seconds) / number, np.float32)
            for row, stem in enumerate(self.stems)
            if stem != MIXTURE
        }


def load_witness(name: str) -> Witness:
    """A witness of the user's own.

    Parameters
    ----------
    name : str
        ``python:MODULE:FUNCTION``, to be found on Python's path.

    Returns
    -------
    callable
        Of audio (channels, frames) and its rate to probabilities of a voice every `curation.voice.STEP_S`.

    Raises
    ------
    RecipeError
        If there is no such function.
    """
    parts = name.split(":")
    if len(parts) != 3 or parts[0] != "python":
        raise RecipeError(f"field 'witness' is '{name}'; write python:MODULE:FUNCTION")
    try:
        found = functools.reduce(getattr, parts[2].split("."), importlib.import_module(parts[1]))
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"field 'witness' is '{name}': {error}; correct it, or extend PYTHONPATH") from error
    if not callable(found):
        raise RecipeError(f"field 'witness' is '{name}', which is no function; name one")
    return cast("Witness", found)


def inspect_song(item: InspectItem, witness: str | None = None) -> Product:
    """Measure a song's stems and hear the witnesses.

    Parameters
    ----------
    item : InspectItem
    witness : str, optional
        One more witness, see `load_witness`; the mean of its probabilities and our own counts.

    Returns
    -------
    Product
        ``measures``: stem to the fields of `curation.measures.Measures`. Arrays, a row per stem in the order of
        ``stems``: ``energies`` (sum of squares every `LEVEL_STEP_S`), ``voices`` (probability every
        `curation.voice.STEP_S`; 0 for the mixture); ``leakage`` (dB per second; empty if there are no voice
        stems or no others) and ``excess`` (share per second; empty without a mixture); ``fingerprint`` of the
        mixture, or of the only stem (empty where several stems have no mixture).

    Raises
    ------
    AudioError
        If a file cannot be decoded, holds NaN, or is not what it was.
    RecipeError
        If there is no such witness, or it gives other than one probability for each step.
    """
    witnesses: list[Witness] = [voice_probability, *([load_witness(witness)] if witness is not None else [])]
    whole = whole_of([name for name, _ in item.stems])
    heard = [_listen(file, is_whole=name == whole) for name, file in item.stems]
    length = min(len(stem.mono) for stem in heard)
    sides: dict[str, Audio] = {}
    for (name, _), stem in zip(item.stems, heard, strict=True):
        side = MIXTURE if name == MIXTURE else "voices" if is_voice_stem(name) else "rest"
        sides[side] = sides.get(side, np.float32(0)) + stem.mono[:length]
    leakage = excess = np.zeros(0, np.float32)
    if {"voices", "rest"} <= sides.keys():
        leakage = leakage_curve(sides["voices"], sides["rest"], SAMPLE_RATE)
    if {MIXTURE, "rest"} <= sides.keys():
        excess = excess_curve(sides[MIXTURE], sides["rest"], SAMPLE_RATE)
    silence = np.zeros((1, length), np.float32)
    voices = [
        _testimony(witnesses, silence if name == MIXTURE else stem.mono[np.newaxis, :length])
        for (name, _), stem in zip(item.stems, heard, strict=True)
    ]
    prints = [stem.fingerprint for stem in heard if stem.fingerprint is not None]
    return Product(
        {
            "stems": [name for name, _ in item.stems],
            "measures": {name: stem.measures for (name, _), stem in zip(item.stems, heard, strict=True)},
        },
        {
            "energies": np.stack([stem.energies for stem in heard]),
            "voices": np.stack(voices),
            "leakage": leakage,
            "excess": excess,
            "fingerprint": prints[0] if prints else np.zeros(0, np.uint32),
        },
    )


def _testimony(witnesses: Sequence[Witness], audio: Audio) -> npt.NDArray[np.float32]:
    """The mean of what the witnesses say."""
    heard = []
    for witness in witnesses:
        try:
            heard.append(np.asarray(witness(audio, SAMPLE_RATE), np.float32))
        except Exception as error:
            if witness is voice_probability:
                raise
            raise RecipeError(f"field 'witness': the function raised {error!r}; correct it") from error
    for found in heard[1:]:
        if found.shape != heard[0].shape or not ((found >= 0) & (found <= 1)).all():
            raise RecipeError(
                f"field 'witness': gave {found.shape} values for {audio.shape[1]} frames at {SAMPLE_RATE} Hz, "
                f"expected {heard[0].shape} between 0 and 1, one every {STEP_S} s"
            )
    return np.asarray(np.mean(heard, axis=0), np.float32)


@dataclass(frozen=True)
class _Heard:
    """A stem, read once in blocks: what is kept of it."""

    measures: dict[str, Any]
    energies: npt.NDArray[np.float32]
    mono: Audio
    fingerprint: npt.NDArray[np.uint32] | None


def _listen(file: FoundFile, *, is_whole: bool) -> _Heard:
    path = file.location
    info = probe(path)
    rate = info.sample_rate
    meter = StemMeter(rate, info.channels)
    levels = LevelMeter(rate, info.channels, round(LEVEL_STEP_S * rate))
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    pcm, prints = (PcmStream(rate), open_stream()) if is_whole else (None, None)
    mono = []
    for block in blocks(path, _BLOCK_FRAMES):
        if not np.isfinite(block).all():
            raise AudioError(f"{path}: holds NaN or infinite samples; write the file again")
        meter.add(block)
        levels.add(block)
        mono.append(resampler.resample_chunk(block.mean(axis=0)))
        if pcm is not None and prints is not None:
            prints.add(pcm.add(block))
    mono.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    fingerprint = None
    if pcm is not None and prints is not None:
        prints.add(pcm.finish())
        fingerprint = prints.finish()
    refuse_changed(file)
    return _Heard(
        {key: plain(value) for key, value in dataclasses.asdict(meter.measures).items()},
        levels.curve.energies.astype(np.float32),
        np.concatenate(mono),
        fingerprint,
    )
