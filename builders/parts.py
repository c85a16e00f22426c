"""Files of sorted 64-bit words, cut into parts that are read one by one, by copy or mapped into memory.

A file holds a histogram (where one is kept), the number of bounds, the bounds of its parts, the checksum of each
part (CRC-32), that of all these, and the words: all little-endian and of 8 bytes. What a disk has lost is told from
what was written, never taken for fewer words.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from curation.joining import Ints, Words
from manifests.errors import BuildError
from manifests.files import replacing


class TornFile(BuildError):
    """A file is not what was written; it can be made again."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path}: is not what was written; remove it, and it is made again")
        self.path = str(path)

    def __reduce__(self) -> tuple[type[TornFile], tuple[str]]:
        return TornFile, (self.path,)


@contextmanager
def part_writer(path: Path, num_parts: int, bins: int = 0) -> Iterator[PartWriter]:
    """Write a file, part after part: whole or not at all.

    Parameters
    ----------
    path : Path
    num_parts : int
        How many will be added.
    bins : int
        Of the histogram; 0 for none.

    Yields
    ------
    PartWriter

    Raises
    ------
    BuildError
        When the file system refuses.
    """
    with replacing(path) as file:
        writer = PartWriter(file, num_parts, bins)
        writer.write_head()
        yield writer
        file.seek(0)
        writer.write_head()


class PartWriter:
    """Takes the parts of a file; from `part_writer`."""

    def __init__(self, file: BinaryIO, num_parts: int, bins: int) -> None:
        self._file = file
        self._counts = np.zeros(bins, np.int64)
        self._bounds = np.zeros(num_parts + 1, np.int64)
        self._sums = np.zeros(num_parts, np.int64)
        self._part = 0

    def add(self, words: Words, counts: Ints | None = None) -> None:
        """Write the next part, and add to the histogram's first bins how many of its words are in each."""
        self._write(words)
        self._bounds[self._part + 1] = self._bounds[self._part] + len(words)
        self._sums[self._part] = _checksum(words)
        self._part += 1
        if counts is not None:
            self._counts[: len(counts)] += counts

    def add_all(self, words: Words, bounds: Ints) -> None:
        """Write all parts at once: part `p` is ``words[bounds[p]:bounds[p + 1]]``."""
        self._write(words)
        self._bounds[:] = bounds
        self._sums[:] = [_checksum(words[a:b]) for a, b in itertools.pairwise(bounds.tolist())]

    def write_head(self) -> None:
        """Write what the file begins with, as far as it is known."""
        head = np.concatenate([self._counts, [len(self._bounds)], self._bounds, self._sums])
        self._write(np.append(head, _checksum(head)))

    def _write(self, numbers: Ints | Words) -> None:
        self._file.write(np.ascontiguousarray(numbers).data.cast("B"))


def read_part(path: Path, part: int, *, bins: int = 0, mapped: bool = False, checked: bool = True) -> Words:
    """One part of a file.

    Parameters
    ----------
    path : Path
    part : int
    bins : int
        Of the file's histogram.
    mapped : bool
        Whether the words are read when they are looked at.
    checked : bool
        Whether the words are compared with their checksum, for which all are read. Without, only the head is.

    Returns
    -------
    np.ndarray of uint64 [shape=(words,)]

    Raises
    ------
    TornFile
        When the file is not what was written.
    """
    bounds, sums = _read_head(path, bins)
    begin, end = bounds[part : part + 2].tolist()
    if begin == end:
        return np.zeros(0, np.uint64)
    offset = 8 * (bins + 2 + len(bounds) + len(sums) + begin)
    if path.stat().st_size < offset + 8 * (end - begin):
        raise TornFile(path)
    if mapped:
        words: Words = np.asarray(np.memmap(path, np.uint64, "r", offset, (end - begin,)))
    else:
        words = np.fromfile(path, np.uint64, end - begin, offset=offset)
    # a read that fails gives fewer words, and no error
    if len(words) < end - begin or (checked and _checksum(words) != sums[part]):
        raise TornFile(path)
    return words


def read_bins(path: Path, bins: int) -> Ints:
    """The histogram of a file."""
    _read_head(path, bins)
    return np.fromfile(path, np.int64, bins)


def is_whole(path: Path, bins: int = 0) -> bool:
    """Whether a file is there, and is what was written, to the last word."""
    try:
        for part in range(len(_read_head(path, bins)[1])):
            read_part(path, part, bins=bins)
    except TornFile:
        return False
    return True


def _read_head(path: Path, bins: int) -> tuple[Ints, Ints]:
    """Bounds and checksums of the parts."""
    try:
        with path.open("rb") as file:
            head = np.fromfile(file, np.int64, bins + 1)
            num_bounds = int(head[-1]) if len(head) == bins + 1 else 0
            if not 0 < num_bounds <= path.stat().st_size // 16:
                raise TornFile(path)
            rest = np.fromfile(file, np.int64, 2 * num_bounds)
    except FileNotFoundError as error:
        raise TornFile(path) from error
    if len(rest) < 2 * num_bounds or _checksum(np.append(head, rest[:-1])) != rest[-1]:
        raise TornFile(path)
    return rest[:num_bounds], rest[num_bounds:-1]


def _checksum(numbers: Ints | Words) -> int:
    return zlib.crc32(np.ascontiguousarray(numbers).data.cast("B"))
