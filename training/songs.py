"""A song of a corpus, ready to be measured: its mixture, its targets' references, and what separators make of it.

All audio lies in temporary files (`np.memmap`), is written block by block and read so by the metrics: memory does
not grow with a song's length.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from manifests.audio import Audio
from manifests.corpus import MIXTURE, Corpus
from manifests.errors import AudioError, BuildError, RecipeError, TableError, did_you_mean
from manifests.files import TEMPORARY_PREFIX
from separators.resampling import Resampled
from separators.separator import Separator

__all__ = ["Song", "opened", "separated", "songs_of"]

_BLOCK_FRAMES = 1 << 20
_LAYOUT = ("num_frames", "sample_rate", "channels")


@dataclasses.dataclass(frozen=True, eq=False)
class Song:
    """A song in temporary files.

    Attributes
    ----------
    song_id : str
    sample_rate : int
        In Hz.
    targets : tuple of str
    mixture : np.ndarray of float32 [shape=(channels, frames)]
        The song's stem of that name, or else the sum of its stems.
    references : np.ndarray of float32 [shape=(targets, channels, frames)]
    folder : Path
        Of the temporary files.
    """

    song_id: str
    sample_rate: int
    targets: tuple[str, ...]
    mixture: Audio
    references: Audio
    folder: Path


def songs_of(corpus: Corpus, split: str | None = None) -> list[str]:
    """Which songs a corpus has to measure.

    Parameters
    ----------
    corpus : Corpus
    split : str, optional
        Only songs of this split.

    Returns
    -------
    list of str
        At least one, in the order of the stems table.

    Raises
    ------
    RecipeError
        There are none.
    """
    table = corpus.stems
    if split is not None:
        splits = sorted(table["split"].dropna().unique())
        table = table[table["split"] == split]
        if not len(table):
            raise RecipeError(
                f"{corpus.folder}: has no song of the split '{split}'{did_you_mean(split, splits)}; "
                f"it has {', '.join(splits) or 'no splits'}"
            )
    if not len(table):
        raise RecipeError(f"{corpus.folder}: has no songs to measure")
    return [str(song_id) for song_id in table["song_id"].unique()]


@contextlib.contextmanager
def opened(corpus: Corpus, song_id: str, targets: Mapping[str, Sequence[str]], folder: Path) -> Iterator[Song]:
    """Read a song.

    Parameters
    ----------
    corpus : Corpus
    song_id : str
    targets : mapping of str to sequence of str
        Stems that sum to each target.
    folder : Path
        Where the temporary files are; created if missing. They are gone when the block ends.

    Yields
    ------
    Song

    Raises
    ------
    TableError
        The stems differ in length, rate or channels.
    AudioError
        A file cannot be read.
    BuildError
        The folder cannot be written.
    """
    stems = corpus.song(song_id)
    whole = (MIXTURE,) if MIXTURE in stems else tuple(stems)
    first, *others = dict.fromkeys([*whole, *itertools.chain(*targets.values())])
    for other in others:
        for field in _LAYOUT:
            if stems[other][field] != stems[first][field]:
                raise TableError(
                    f"{corpus.folder}: song '{song_id}' has {field} {stems[first][field]} in '{first}' and "
                    f"{stems[other][field]} in '{other}'; stems that are compared must be alike: curate the corpus"
                )
    frames, rate, channels = (int(stems[first][field]) for field in _LAYOUT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder)
    except OSError as error:
        raise BuildError(
            f"{folder}: cannot be written ({error.strerror}); choose a folder that you may write to"
        ) from error
    with scratch:
        place = Path(scratch.name)
        mixture = _on_disk(place / "mixture", (channels, frames))
        references = _on_disk(place / "references", (len(targets), channels, frames))
        for out, parts in ((mixture, whole), *zip(references, targets.values(), strict=True)):
            for stem, start in itertools.product(parts, range(0, frames, _BLOCK_FRAMES)):
                count = min(_BLOCK_FRAMES, frames - start)
                out[:, start : start + count] += corpus.load((song_id, stem), start, count)
        yield Song(song_id, rate, tuple(targets), mixture, references, place)


@contextlib.contextmanager
def separated(song: Song, separator: Separator, order: Sequence[int], gain: float = 1.0) -> Iterator[Audio]:
    """Take a song apart.

    Parameters
    ----------
    song : Song
    separator : Separator
    order : sequence of int
        Where the separator has each target among its sources.
    gain : float
        The mixture is multiplied by it, and the estimates divided.

    Yields
    ------
    np.ndarray of float32 [shape=(targets, channels, frames)]
        At the song's rate and channels; in a temporary file that is gone when the block ends.

    Raises
    ------
    AudioError
        The separator cannot take so many channels, or gives another length than it took.
    """
    channels, frames = song.mixture.shape
    fitted = Resampled(separator, song.sample_rate, channels)
    starts = range(0, frames, _BLOCK_FRAMES)
    blocks = (song.mixture[:, start : start + _BLOCK_FRAMES] * np.float32(gain) for start in starts)
    path = song.folder / "estimates"
    estimates = _on_disk(path, song.references.shape)
    position = 0
    for block in fitted.stream(blocks):
        end = position + block.shape[2]
        if end <= frames:
            estimates[..., position:end] = block[list(order)] / np.float32(gain)
        position = end
    if position != frames:
        raise AudioError(
            f"'{separator.name}' gave {position} frames for {frames}: a separator must give as many as it takes"
        )
    try:
        yield estimates
    finally:
        del estimates
        path.unlink(missing_ok=True)


def _on_disk(path: Path, shape: tuple[int, ...]) -> Audio:
    try:
        return np.memmap(path, np.float32, "w+", shape=shape)
    except OSError as error:
        raise BuildError(
            f"{path}: a temporary file cannot be written ({error.strerror}); free some space"
        ) from error
