"""What a listening test of separators is made of: excerpts of songs, and what each separator finds in them."""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from manifests.audio import Audio
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from separators.resampling import Resampled
from separators.separator import Separator, separate
from training.listening import ListeningItem, dialogue_free
from training.songs import opened, songs_of
from training.targets import source_number, target_stems

__all__ = ["listening_items"]

_STEP_S = 0.5
_LEAST_PAUSE = 0.1
# far below its mean, a background does not say how loud it is
_QUIET = 1e-3

log = logging.getLogger(__name__)


def listening_items(
    corpus: Corpus,
    separators: Mapping[str, Separator],
    *,
    target: str = "dialogue",
    split: str | None = None,
    limit: int | None = None,
    length_s: float = 10.0,
) -> Iterator[ListeningItem]:
    """Excerpts with pauses in the dialogue and most to hear of dialogue and background, one of each song.

    A song without such pauses, at least a tenth of the excerpt in which only the background is heard, is left out,
    with a warning.

    Parameters
    ----------
    corpus : Corpus
        Songs with a mixture, and stems that sum to it.
    separators : mapping of str to Separator
        By the names that they get in the test.
    target : str
        What is enhanced: a stem of the songs and a source of each separator, of this name or one of the same thing.
    split : str, optional
        Only songs of this split.
    limit : int, optional
        Only the first songs.
    length_s : float
        Of an excerpt.

    Yields
    ------
    ListeningItem
        Named after the song.

    Raises
    ------
    RecipeError
        There are no songs, none has a pause, or a separator does not have the target.
    TableError
        A song does not have the target.
    """
    numbers = {name: _number(name, separator, target) for name, separator in separators.items()}
    songs = sorted(songs_of(corpus, split))[:limit]
    num_items = 0
    for song_id in songs:
        parts = target_stems([target], corpus, song_id)
        with tempfile.TemporaryDirectory() as folder, opened(corpus, song_id, parts, Path(folder)) as song:
            frames = min(round(length_s * song.sample_rate), song.mixture.shape[1])
            start = _start(song.mixture, song.references[0], song.sample_rate, frames)
            if start is None:
                log.warning("song '%s' is left out: there is no pause of '%s' with background", song_id, target)
                continue
            excerpt = slice(start, start + frames)
            mixture, dialogue = (np.array(audio[:, excerpt]) for audio in (song.mixture, song.references[0]))
            found = {
                name: separate(Resampled(separator, song.sample_rate, len(mixture)), mixture)[numbers[name]]
                for name, separator in separators.items()
            }
            num_items += 1
            yield ListeningItem(_file_name(song_id), song.sample_rate, mixture, dialogue, found)
    if not num_items:
        raise RecipeError(
            f"{corpus.folder}: in none of {len(songs)} songs '{target}' pauses for a tenth of {length_s:g} s while "
            "something else is heard, which is where separators are made equally loud; take a target that pauses "
            "('--target'), or songs in which it does"
        )


def _start(mixture: Audio, dialogue: Audio, sample_rate: int, frames: int) -> int | None:
    """Where the excerpt begins; None without pauses."""
    step = round(_STEP_S * sample_rate)
    free = dialogue_free(dialogue, sample_rate)
    background = np.square(mixture - dialogue, dtype=np.float64).sum(axis=0)
    heard = background > background.mean() * _QUIET
    spoken = np.square(dialogue, dtype=np.float64).sum(axis=0)
    best, found = -math.inf, None
    for start in range(0, mixture.shape[1] - frames + 1, step):
        part = slice(start, start + frames)
        if np.mean(free[part] & heard[part]) >= _LEAST_PAUSE and spoken[part].any():
            level = math.log10(spoken[part].mean()) + math.log10(background[part].mean())
            if level > best:
                best, found = level, start
    return found


def _number(name: str, separator: Separator, target: str) -> int:
    number = source_number(target, separator.sources)
    if number is None:
        raise RecipeError(
            f"'{name}' does not separate '{target}': choose one of {', '.join(separator.sources)} "
            "with '--target', or another separator"
        )
    return number


def _file_name(song_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", song_id).strip("-.") or "song"
