"""Files of sorted 64-bit words, cut into parts that are read one by one, by copy or mapped into memory.

A file holds a histogram (where one is kept), the number of bounds, the bounds of its parts, and the words: all
little-endian and of 8 bytes.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from curation.joining import Ints, Words
from manifests.files import replacing


class PartWriter:
    """Writes a file, part after part: whole or not at all.

    Parameters
    ----------
    path : Path
    num_parts : int
        How many will be added.
    bins : int
        Of the histogram; 0 for none.
    """

    def __init__(self, path: Path, num_parts: int, bins: int = 0) -> None:
        self._replacing = replacing(path)
        self._counts = np.zeros(bins, np.int64)
        self._bounds = np.zeros(num_parts + 1, np.int64)
        self._part = 0

    def __enter__(self) -> PartWriter:
        self._file = self._replacing.__enter__()
        self._write_head()
        return self

    def add(self, words: Words, bins: Ints | None = None) -> None:
        """Write the next part, and count the bins that its words are in."""
        self._write(words)
        self._bounds[self._part + 1] = self._bounds[self._part] + len(words)
        self._part += 1
        if bins is not None:
            self._counts += np.bincount(bins, minlength=len(self._counts))

    def add_all(self, words: Words, bounds: Ints) -> None:
        """Write all parts at once: part `p` is ``words[bounds[p]:bounds[p + 1]]``."""
        self._write(words)
        self._bounds[:] = bounds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.seek(0)
            self._write_head()
        self._replacing.__exit__(kind, error, trace)

    def _write_head(self) -> None:
        self._write(np.concatenate([self._counts, [len(self._bounds)], self._bounds]))

    def _write(self, numbers: Ints | Words) -> None:
        self._file.write(np.ascontiguousarray(numbers).data.cast("B"))


def read_part(path: Path, part: int, *, bins: int = 0, mapped: bool = False) -> Words:
    """One part of a file.

    Parameters
    ----------
    path : Path
    part : int
    bins : int
        Of the file's histogram.
    mapped : bool
        Whether the words are read when they are looked at.

    Returns
    -------
    np.ndarray of uint64 [shape=(words,)]
    """
    with path.open("rb") as file:
        file.seek(8 * bins)
        num_bounds = int(np.fromfile(file, np.int64, 1)[0])
        file.seek(8 * (bins + 1 + part))
        begin, end = np.fromfile(file, np.int64, 2).tolist()
        offset = 8 * (bins + 1 + num_bounds + begin)
        if begin == end:
            return np.zeros(0, np.uint64)
        if mapped:
            return np.memmap(file, np.uint64, "r", offset, (end - begin,))
        file.seek(offset)
        return np.fromfile(file, np.uint64, end - begin)


def read_bins(path: Path, bins: int) -> Ints:
    """The histogram of a file."""
    return np.fromfile(path, np.int64, bins)
