"""Writing a packed store: giving every stem its place, and writing samples there; `manifests.packed` reads it.

Everything about the layout is known before anything is decoded (`plan_layout`), so that workers write into their
own regions in any order (`region_written`). The index is written last (`write_index`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.parquet

from manifests.audio import Audio, quantise
from manifests.crops import is_finite
from manifests.errors import AudioError, BuildError
from manifests.files import replacing
from manifests.packed import COLUMNS, DTYPES, INDEX, TABLE_KEY, SampleFormat, shard_path

ALIGNMENT_BYTES = 64
SHARD_BYTES = 4 << 30

_REBUILD = "run 'stemloom check', then build it again"


@dataclass(frozen=True)
class Region:
    """Where a stem lies: a row of the index, without its names.

    Attributes
    ----------
    shard : int
        Number of the file.
    offset_bytes : int
        A multiple of `ALIGNMENT_BYTES`.
    num_frames, channels : int
        Of the samples there.
    sample_format : {'int16', 'float32'}
    """

    shard: int
    offset_bytes: int
    num_frames: int
    channels: int
    sample_format: SampleFormat


def plan_layout(
    stems: pd.DataFrame, sample_format: SampleFormat = "float32", shard_bytes: int = SHARD_BYTES
) -> pd.DataFrame:
    """Give every stem its place.

    Parameters
    ----------
    stems : pd.DataFrame
        Rows of the stems table, with `num_frames`, `channels` and `sample_rate` as they are to be packed. A file
        that several rows name is packed once.
    sample_format : {'int16', 'float32'}
    shard_bytes : int >= 1
        A new shard begins where the next stem would pass this. A longer stem has a shard of its own.

    Returns
    -------
    pd.DataFrame
        The index, in the order of `stems`, rows numbered from 0.

    Raises
    ------
    ValueError
        When `shard_bytes` is less than 1.
    """
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes is {shard_bytes}; a shard holds at least a byte")
    rows = stems.drop_duplicates(["root", "path"]).reset_index(drop=True)
    frames, channels = (rows[name].to_numpy(np.int64) for name in ("num_frames", "channels"))
    sizes = frames * channels * DTYPES[sample_format].itemsize
    room = -(-sizes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    starts = np.cumsum(room) - room
    ends = starts + sizes
    shards, bases = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    first, shard = 0, 0
    while first < len(rows):
        stop = int(np.searchsorted(ends, starts[first] + shard_bytes, side="right"))
        stop = max(stop, first + 1)
        shards[first:stop], bases[first:stop] = shard, starts[first]
        first, shard = stop, shard + 1
    facts = {"shard": shards, "offset_bytes": starts - bases, "sample_format": sample_format}
    index: pd.DataFrame = rows.assign(**facts)[COLUMNS.names]
    return index


def shard_sizes(index: pd.DataFrame) -> dict[int, int]:
    """Length in bytes of every shard.

    Parameters
    ----------
    index : pd.DataFrame
        From `plan_layout`.

    Returns
    -------
    dict of int to int
    """
    if index.empty:
        return {}
    itemsizes = index["sample_format"].map({name: dtype.itemsize for name, dtype in DTYPES.items()})
    ends = index["offset_bytes"] + index["num_frames"] * index["channels"] * itemsizes
    largest = ends.groupby(index["shard"]).max()
    return dict(zip(largest.index.astype(int).tolist(), largest.astype(int).tolist(), strict=True))


@contextlib.contextmanager
def region_written(packed: Path, region: Region, source: Path) -> Iterator[Callable[[Audio], None]]:
    """Write a stem into its region, block by block. When the `with` block ends well, it is on the disk.

    Parameters
    ----------
    packed : Path
        The store's folder, where the shard is already, in its full length.
    region : Region
    source : Path
        The file that the audio is from, for messages.

    Yields
    ------
    callable
        Takes one block [shape=(channels, frames)], float32, after the other. int16 is rounded to the nearest step
        without dither.

    Raises
    ------
    AudioError
        When there are more or fewer frames than the region has, a sample is NaN or infinite, or, in int16, beyond
        full scale.
    BuildError
        When the disk refuses.
    """
    path = shard_path(packed, region.shard)
    with _refusals_told(path):
        descriptor = os.open(path, os.O_WRONLY)
    try:
        done = 0

        def put(block: Audio) -> None:
            nonlocal done
            if done + block.shape[1] > region.num_frames:
                raise AudioError(
                    f"{source}: delivers more than the {region.num_frames} frames of its row; {_REBUILD}"
                )
            samples = _encoded(block, region.sample_format, source)
            for channel, values in enumerate(samples):
                place = (channel * region.num_frames + done) * samples.itemsize
                _write_at(descriptor, values.tobytes(), region.offset_bytes + place)
            done += block.shape[1]

        with _refusals_told(path):
            yield put
            if done < region.num_frames:
                raise AudioError(
                    f"{source}: ends at frame {done}, and its row says {region.num_frames}; {_REBUILD}"
                )
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encoded(block: Audio, sample_format: SampleFormat, source: Path) -> npt.NDArray[Any]:
    if sample_format == "float32":
        if not is_finite(block):
            raise AudioError(f"{source}: holds NaN or infinite samples; write the file again")
        return block.astype(DTYPES["float32"], copy=False)
    peak = float(np.abs(block).max(initial=0.0))
    if not peak <= 1:
        raise AudioError(
            f"{source}: peak {peak:.6g} is beyond full scale, which int16 cannot hold; pack with sample_format "
            "float32"
        )
    return (quantise(block, 16) * np.float32(32768)).astype(DTYPES["int16"])


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


@contextlib.contextmanager
def _refusals_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be written ({error.strerror or error}); free some space, or check the disk, then run "
            "the same command again: it resumes"
        ) from error


def make_shards(packed: Path, sizes: Mapping[int, int]) -> None:
    """Create the shards, sparse, in their full length. What is there in that length is left as it is.

    Parameters
    ----------
    packed : Path
        The store's folder.
    sizes : mapping of int to int
        From `shard_sizes`.

    Raises
    ------
    BuildError
        When the disk refuses.
    """
    for shard, size in sizes.items():
        path = shard_path(packed, shard)
        with _refusals_told(path):
            packed.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                os.ftruncate(file.fileno(), size)
                os.fsync(file.fileno())


def write_index(packed: Path, index: pd.DataFrame, stems_table: str) -> None:
    """Write the index, whole or not at all, after everything else.

    Parameters
    ----------
    packed : Path
        The store's folder.
    index : pd.DataFrame
        Rows of what `plan_layout` gave.
    stems_table : str
        Content id of the file with the stems table that they are from.

    Raises
    ------
    BuildError
        When the disk refuses.
    """
    table = pyarrow.Table.from_pandas(index, COLUMNS, preserve_index=False)
    table = table.replace_schema_metadata({TABLE_KEY: stems_table.encode()})
    with replacing(packed / INDEX) as file:
        pyarrow.parquet.write_table(table, file, compression="zstd", write_page_checksum=True)


def forget_index(packed: Path) -> None:
    """Remove the index, so that the store does not count as complete."""
    (packed / INDEX).unlink(missing_ok=True)
