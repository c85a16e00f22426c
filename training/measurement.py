"""Measuring one song: what is measured, by what, and the rows of tables that come of it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio
from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError, TableError, did_you_mean
from manifests.loudness import SILENCE_LUFS, loudness_lufs
from separators.separator import Separator
from training.bsseval import BssEvalMethod
from training.metrics import sdr
from training.oracles import ORACLES, Oracle, scaled_identity, with_residual
from training.perceptual import PeaqBackend
from training.scores import mixture_scores, scores
from training.songs import Song, separated
from training.targets import Targets, source_number

__all__ = ["EvaluationSettings", "Method", "Rows", "clips_of", "estimated", "measured", "order_of"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What to measure.

    Attributes
    ----------
    split : str, optional
        Only songs of this split.
    limit : int, optional
        Only the first songs.
    targets : mapping of str to str or sequence of str, optional
        Stems by source of the separator; see `training.targets.target_stems`.
    clips : 'table' or float, optional
        Measure the clips of the corpus' table too, or windows of so many seconds (the last one shorter).
    oracles : tuple of str
        Of `training.oracles.ORACLES`, beside the separator.
    bsseval : {'museval', 'blocks'}, optional
        Also BSSEval v4.
    sweep_lufs : tuple of float
        Loudnesses to bring the mixture to before it is separated, for SDR by loudness.
    excerpts : int
        Songs to hear of the best, of the middle, and of the worst.
    excerpt_s : float
        Their length.

    Raises
    ------
    RecipeError
        A value is impossible.
    """

    split: str | None = None
    limit: int | None = None
    targets: Targets | None = None
    clips: Literal["table"] | float | None = None
    oracles: tuple[str, ...] = ()
    bsseval: BssEvalMethod | None = None
    sweep_lufs: tuple[float, ...] = ()
    excerpts: int = 1
    excerpt_s: float = 10.0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"limit is {self.limit}: it must be at least 1")
        if isinstance(self.clips, str) and self.clips != "table":
            raise RecipeError(f"clips is '{self.clips}': it must be 'table' or a number of seconds")
        if not isinstance(self.clips, str) and self.clips is not None and not self.clips > 0.0:
            raise RecipeError(f"clips is {self.clips}: it must be a positive number of seconds")
        for name in self.oracles:
            if name not in ORACLES:
                raise RecipeError(f"there is no oracle '{name}'{did_you_mean(name, ORACLES)}: {', '.join(ORACLES)}")
        if not all(math.isfinite(level) and level < 20.0 for level in self.sweep_lufs):
            raise RecipeError(f"sweep_lufs is {list(self.sweep_lufs)}: loudnesses are numbers such as -27")
        if self.excerpts < 0 or not self.excerpt_s > 0.0:
            raise RecipeError(
                f"excerpts is {self.excerpts} and excerpt_s {self.excerpt_s}: they must be at least 0, and positive"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """A separator or an oracle, and the name that tables have for it."""

    name: str
    identity: str
    works: Separator | Oracle

    @property
    def is_oracle(self) -> bool:
        """Whether it knows the answer."""
        return not isinstance(self.works, Separator) and self.works is not scaled_identity


def order_of(method: Method, targets: Sequence[str]) -> list[int]:
    """Where a separator has each target among its sources.

    Parameters
    ----------
    method : Method
    targets : sequence of str

    Returns
    -------
    list of int
        Empty for an oracle, which separates whatever it is given.

    Raises
    ------
    RecipeError
        It lacks one.
    """
    if not isinstance(method.works, Separator):
        return []
    sources = method.works.sources
    order = []
    for target in targets:
        number = source_number(target, sources)
        if number is None:
            raise RecipeError(
                f"'{method.name}' separates {', '.join(sources)} and not '{target}': compare separators of the "
                "same sources, or choose those that both have by targets"
            )
        order.append(number)
    return order


@contextlib.contextmanager
def estimated(method: Method, song: Song, gain: float = 1.0) -> Iterator[Audio]:
    """Let a method take a song apart.

    Parameters
    ----------
    method : Method
    song : Song
    gain : float
        The mixture is multiplied by it, and the estimates divided; oracles do not hear it.

    Yields
    ------
    np.ndarray of float32 [shape=(targets, channels, frames)]
        Until the block ends.

    Raises
    ------
    AudioError
        The separator cannot take the song.
    """
    if isinstance(method.works, Separator):
        with separated(song, method.works, order_of(method, song.targets), gain) as estimates:
            yield estimates
    else:
        # an oracle's masks share what all references have between them, so they must be all of the mixture
        everything = with_residual(song.references, song.mixture)
        yield method.works(everything, song.mixture, song.sample_rate)[: len(song.targets)]


def measured(
    method: Method, song: Song, corpus: Corpus, settings: EvaluationSettings, peaq: PeaqBackend | None
) -> dict[str, Rows]:
    """Measure a method on a song.

    Parameters
    ----------
    method : Method
    song : Song
    corpus : Corpus
        That the song is of.
    settings : EvaluationSettings
    peaq : PeaqBackend or None

    Returns
    -------
    dict of str to list of dict
        Rows of the tables ``songs``, ``clips`` and ``sweep``: a row for each target (and clip, or loudness).

    Raises
    ------
    AudioError
        What the method gives cannot be measured.
    RecipeError, TableError
        The corpus has no clips, or they do not fit the song.
    """
    rows: dict[str, Rows] = {"songs": [], "clips": [], "sweep": []}
    try:
        with estimated(method, song) as estimates:
            before = mixture_scores(song.references, song.mixture)
            rate = song.sample_rate
            values = scores(song.references, estimates, rate, before, bsseval=settings.bsseval, peaq=peaq)
            rows["songs"] = _rows(song.targets, values)
            for clip_id, start, num_frames in _clips(corpus, song, settings):
                part = slice(start, start + num_frames)
                references, mixture = song.references[..., part], song.mixture[:, part]
                values = scores(references, estimates[..., part], rate, mixture_scores(references, mixture))
                place = {"clip_id": clip_id, "start_frame": start, "num_frames": num_frames}
                rows["clips"] += _rows(song.targets, values, place)
        for level, gain in _sweep(method, song, settings):
            with estimated(method, song, gain) as estimates:
                values = {"sdr_db": sdr(song.references, estimates)}
                rows["sweep"] += _rows(song.targets, values, {"input_lufs": level})
    except AudioError as error:
        raise AudioError(f"song '{song.song_id}', '{method.name}': {error}") from error
    return rows


def _rows(targets: Sequence[str], values: Mapping[str, Floats], place: Mapping[str, Any] | None = None) -> Rows:
    return [
        {"target": target, **(place or {}), **{name: float(found[number]) for name, found in values.items()}}
        for number, target in enumerate(targets)
    ]


def _clips(corpus: Corpus, song: Song, settings: EvaluationSettings) -> list[tuple[str, int, int]]:
    if settings.clips is None:
        return []
    frames = song.mixture.shape[1]
    if not isinstance(settings.clips, str):
        step = max(1, round(settings.clips * song.sample_rate))
        starts = range(0, frames, step)
        return [(f"{song.song_id}-{start}", start, min(step, frames - start)) for start in starts]
    found = clips_of(corpus, song.song_id)
    for clip_id, start, num_frames in found:
        if start + num_frames > frames:
            raise TableError(
                f"{corpus.folder}: clip '{clip_id}' ends at frame {start + num_frames}, and song '{song.song_id}' "
                f"has {frames}: run 'stemloom curate' again"
            )
    return found


def clips_of(corpus: Corpus, song_id: str) -> list[tuple[str, int, int]]:
    """The clips of a song in the corpus' table.

    Parameters
    ----------
    corpus : Corpus
    song_id : str

    Returns
    -------
    list of (str, int, int)
        Id, first frame and length.

    Raises
    ------
    RecipeError
        The corpus has no clips table.
    """
    clips = corpus.clips
    if clips is None:
        raise RecipeError(f"{corpus.folder}: has no clips table; give clips as a number of seconds")
    mine = clips.loc[clips["song_id"] == song_id, ["clip_id", "start_frame", "num_frames"]]
    return [(str(name), int(start), int(frames)) for name, start, frames in mine.itertuples(index=False)]


def _sweep(method: Method, song: Song, settings: EvaluationSettings) -> list[tuple[float, float]]:
    """Loudnesses and the gains that bring the mixture to them; oracles have none, since they do not hear them."""
    if not settings.sweep_lufs or not isinstance(method.works, Separator):
        return []
    found = loudness_lufs(song.mixture, song.sample_rate)
    if found <= SILENCE_LUFS:
        return []
    return [(level, 10.0 ** ((level - found) / 20.0)) for level in settings.sweep_lufs]
