"""The packed store: a corpus' audio as plain samples, for training that would wait for decoders.

It is the folder `packed/` inside a corpus: shards `00000.pcm`, `00001.pcm` ... of little-endian samples, and
`index.parquet`, one row for each stem, written last: its existence means that the store is complete. A stem is
planar (all frames of channel 0, then of channel 1 ...), starts at a multiple of 64 bytes, and is in one shard.
int16 stands for value / 32768, float32 for itself.

`PackedReader` maps the shards into memory: a crop costs a copy. The index holds the content id of the stems table
that was packed, and a store whose corpus has changed is refused; verdicts by ear change none (`manifests.audited`).
`manifests.packing` writes it.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from manifests.audio import Audio, content_id
from manifests.audited import stems_as_built
from manifests.corpus import Corpus
from manifests.crops import is_finite
from manifests.errors import AudioError, BuildError, TableError
from manifests.staging import located
from manifests.tables import find_table, read_table, refuse_bomb
from manifests.validation import validated

SampleFormat: TypeAlias = Literal["int16", "float32"]

PACKED = "packed"
"""The store's folder, inside a corpus'."""

DTYPES: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
"""Of the samples in a shard, by sample format."""

INDEX = "index.parquet"
COLUMNS = pyarrow.schema(
    [
        pyarrow.field("root", pyarrow.string(), nullable=False),
        pyarrow.field("path", pyarrow.string(), nullable=False),
        pyarrow.field("song_id", pyarrow.string(), nullable=False),
        pyarrow.field("stem", pyarrow.string(), nullable=False),
        pyarrow.field("shard", pyarrow.int64(), nullable=False),
        pyarrow.field("offset_bytes", pyarrow.int64(), nullable=False),
        pyarrow.field("num_frames", pyarrow.int64(), nullable=False),
        pyarrow.field("channels", pyarrow.int64(), nullable=False),
        pyarrow.field("sample_rate", pyarrow.int64(), nullable=False),
        pyarrow.field("sample_format", pyarrow.string(), nullable=False),
        pyarrow.field("content_id", pyarrow.string(), nullable=True),
    ]
)
"""Of the index."""

TABLE_KEY = b"stems_table"
"""What the index' metadata calls the content id of the stems table that was packed."""

_INT16_SCALE = 1 / 32768


def shard_path(packed: Path, shard: int) -> Path:
    """The file of a shard.

    Parameters
    ----------
    packed : Path
        The store's folder.
    shard : int

    Returns
    -------
    Path
    """
    return packed / f"{shard:05d}.pcm"


def read_index(folder: Path) -> pd.DataFrame:
    """Read the index of a corpus' packed store.

    Parameters
    ----------
    folder : Path
        The corpus' folder.

    Returns
    -------
    pd.DataFrame
        A row for each stem: root, path, song_id, stem, shard, offset_bytes, num_frames, channels, sample_rate,
        sample_format, content_id. Frames and channels are the packed ones.

    Raises
    ------
    BuildError
        When there is no store, it is not complete, or the corpus was changed after it was packed.
    TableError
        When there is no stems table, or the index is damaged.
    """
    index: pd.DataFrame = _read_table(folder).to_pandas()
    return index


def _read_table(folder: Path, columns: list[str] | None = None) -> pyarrow.Table:
    """The index, once its store is known to be complete and of the corpus as it is."""
    path = folder / PACKED / INDEX
    if not path.exists():
        found = "is not complete" if path.parent.exists() else "is not there"
        raise BuildError(f"{path.parent}: the packed store {found}; run 'stemloom pack {folder}'")
    try:
        schema = pyarrow.parquet.read_schema(path)
        if not schema.equals(COLUMNS) or TABLE_KEY not in (schema.metadata or {}):
            raise TableError(f"{path}: is not the index of a packed store; run 'stemloom pack {folder}' again")
        with pyarrow.parquet.ParquetFile(path) as file:
            refuse_bomb(path, file, f"run 'stemloom pack {folder}' again")
        table = pyarrow.parquet.read_table(path, columns=columns, page_checksum_verification=True)
        table.validate(full=True)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise TableError(f"{path}: cannot be read ({error}); run 'stemloom pack {folder}' again") from error
    for name in table.column_names:
        _refuse_wrong(path, name, table[name])
    stems = stems_as_built(folder)
    if stems is None:
        raise TableError(f"{folder}: holds no stems.parquet or stems.jsonl; give the folder of a finished build")
    if content_id(stems).encode() != schema.metadata[TABLE_KEY]:
        raise BuildError(
            f"{path.parent}: {stems.name} was changed after it was packed; run 'stemloom pack {folder}' again"
        )
    return table


def _refuse_wrong(path: Path, name: str, column: pyarrow.ChunkedArray) -> None:
    """Raise where no store that we write has such a value: a crop would be read from another place."""
    least = {"shard": 0, "offset_bytes": 0, "num_frames": 1, "channels": 1, "sample_rate": 1}.get(name)
    nulls = 0 if COLUMNS.field(name).nullable else column.null_count
    if nulls or (least is not None and len(column) and pyarrow.compute.min(column).as_py() < least):
        raise TableError(f"{path}: column '{name}' has nulls or numbers that are too small; pack the corpus again")


class PackedCorpus(Corpus):
    """A corpus as its packed store holds it: what was not packed is not there.

    Its stems have the lengths, rates and channels of the store, so that positions count frames of what is read
    (`PackedReader`); its clips are where they were, in seconds.

    Examples
    --------
    >>> corpus = PackedCorpus.open(Path("corpus"))  # doctest: +SKIP
    """

    @functools.cached_property
    def _of_files(self) -> pd.DataFrame:
        """The stems table as it lies there: of a million stems, reading it takes seconds."""
        return read_table(self.folder, "stems")

    @functools.cached_property
    def stems(self) -> pd.DataFrame:
        """The stems table, of what is in the store, as it is there."""
        columns = ["num_frames", "sample_rate", "channels"]
        index = read_index(self.folder)[["root", "path", *columns]]
        stems = self._of_files.drop(columns=columns).merge(index, on=["root", "path"])
        return validated("stems", stems, str(self.folder / PACKED), "pack the corpus again")

    @functools.cached_property
    def clips(self) -> pd.DataFrame | None:
        """The clips table, in frames of the store; None when there is none."""
        if find_table(self.folder, "clips") is None:
            return None
        clips = read_table(self.folder, "clips")
        songs = self.stems.groupby("song_id").agg({"num_frames": "min", "sample_rate": "first"})
        before = self._of_files.groupby("song_id")["sample_rate"].first()
        clips = clips[clips["song_id"].isin(songs.index)].reset_index(drop=True)
        ratio = clips["song_id"].map(songs["sample_rate"] / before).to_numpy(float)
        length = clips["song_id"].map(songs["num_frames"]).to_numpy(np.int64)
        start = np.minimum((clips["start_frame"].to_numpy(float) * ratio).astype(np.int64), length - 1)
        frames = (clips["num_frames"].to_numpy(float) * ratio).astype(np.int64)
        return clips.assign(start_frame=start, num_frames=np.clip(frames, 1, length - start))


class PackedReader:
    """Reads crops out of the packed store of a corpus, as `manifests.crops.CropReader` does out of its files.

    Not to be shared between threads. What is pickled is the folder, and the other process opens it again. The index
    of a million stems takes 0.25 GB of memory.

    Parameters
    ----------
    folder : Path
        The corpus' folder. The index is read, and no shard is opened.
    max_open_shards : int >= 1
        How many shards are mapped at once; each takes a file descriptor.

    Raises
    ------
    BuildError, TableError
        As `read_index`.

    Examples
    --------
    >>> crops = PackedReader(Path("corpus"))  # doctest: +SKIP
    >>> audio = crops.read(".", "audio/song/vocals.flac", 44100, 132300)  # doctest: +SKIP
    """

    def __init__(self, folder: Path, max_open_shards: int = 256) -> None:
        if max_open_shards < 1:
            raise ValueError(f"max_open_shards is {max_open_shards}; at least one is open to be read")
        self.folder = folder
        self.max_open_shards = max_open_shards
        numbers = ["shard", "offset_bytes", "num_frames", "channels"]
        table = _read_table(folder, ["root", "path", "sample_format", *numbers])
        formats = table["sample_format"].unique().to_pylist()
        if len(formats) > 1 or not set(formats) <= DTYPES.keys():
            raise TableError(f"{folder / PACKED / INDEX}: sample formats {formats}; pack the corpus again")
        self._dtype = DTYPES[formats[0]] if formats else DTYPES["float32"]
        self._shards, self._offsets, self._frames, self._channels = (table[name].to_numpy() for name in numbers)
        # by root, and then by path: a tuple for every stem would take half as much again
        self._rows: dict[str, dict[str, int]] = {}
        names = zip(table["root"], table["path"], strict=True)
        for row, (root, path) in enumerate(names):
            self._rows.setdefault(root.as_py(), {})[path.as_py()] = row
        del table, names
        pyarrow.default_memory_pool().release_unused()  # or Arrow would keep half as much again
        self._maps: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether a file, by root and path, is in the store."""
        root, path = key
        return path in self._rows.get(root, ())

    def read(
        self,
        root: str,
        path: str,
        start_frame: int,
        num_frames: int,
        gain: float = 1.0,
        out: Audio | None = None,
    ) -> Audio:
        """Read a crop.

        Parameters
        ----------
        root : str
            As in the stems table.
        path : str
            As in the stems table.
        start_frame : int
            First frame, at least 0, at the rate that the index says.
        num_frames : int
            How many frames, at least 1.
        gain : float
            Factor, finite.
        out : np.ndarray [shape=(channels, num_frames)], optional
            float32; written and returned where it has the file's shape. After an error it may hold anything.

        Returns
        -------
        np.ndarray [shape=(channels, num_frames)]
            float32, the caller's own. Full scale is +-1 before the gain. C-contiguous, but for `out`.

        Raises
        ------
        TableError
            When the store does not hold the file.
        AudioError
            When the stem ends before the last frame asked for, or was damaged.
        BuildError
            When its shard is missing or cut short.
        ValueError
            When `start_frame` is negative or `num_frames` is less than 1.
        """
        if start_frame < 0 or num_frames < 1:
            raise ValueError(f"{path}: cannot read {num_frames} frames from frame {start_frame} on")
        row = self._rows.get(root, {}).get(path)
        if row is None:
            raise TableError(
                f"{self.folder / PACKED}: holds no '{path}' of root '{root}'; look into rejected.parquet there, or "
                "pack it too"
            )
        length, channels = int(self._frames[row]), int(self._channels[row])
        end = start_frame + num_frames
        if end > length:
            raise AudioError(
                f"{path}: ends at frame {length} in the packed store, but frames {start_frame} to {end} were asked "
                "for; ask in frames of the packed store's index"
            )
        first = int(self._offsets[row]) // self._dtype.itemsize
        samples = self._map(int(self._shards[row]), first + channels * length)
        shape = (channels, num_frames)
        audio = np.empty(shape, np.float32) if out is None or out.shape != shape else out
        factor = np.float32(gain * (_INT16_SCALE if self._dtype.kind == "i" else 1.0))
        for channel in audio:
            np.multiply(samples[first + start_frame : first + end], factor, out=channel)
            first += length
        if self._dtype.kind == "f" and not is_finite(audio):
            raise AudioError(
                f"{path}: NaN or infinite in the packed store; remove {self.folder / PACKED}, pack again"
            )
        return audio

    def _map(self, shard: int, num_samples: int) -> npt.NDArray[Any]:
        """The samples of a shard, of which so many are needed."""
        samples = self._maps.get(shard)
        if samples is None:
            path = located(self.folder, shard_path(Path(PACKED), shard).as_posix())
            try:
                # whole samples only, even where the file was cut
                size = path.stat().st_size // self._dtype.itemsize
                samples = np.asarray(np.memmap(path, self._dtype, "r", shape=(size,)) if size else np.empty(0))
            except OSError as error:
                raise BuildError(
                    f"{path}: cannot be opened ({error.strerror or error}); run 'stemloom pack {self.folder}' again"
                ) from error
        if len(samples) < num_samples:  # behind the end of a map, the system ends the process
            raise BuildError(
                f"{shard_path(self.folder / PACKED, shard)}: holds {len(samples)} samples, and the index says at "
                f"least {num_samples}; run 'stemloom pack {self.folder}' again"
            )
        if shard not in self._maps:
            while len(self._maps) >= self.max_open_shards:
                self._maps.popitem(last=False)
            self._maps[shard] = samples
        self._maps.move_to_end(shard)
        return samples

    def close(self) -> None:
        """Let go of the shards. A later read maps them again."""
        self._maps.clear()

    def __enter__(self) -> PackedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "max_open_shards": self.max_open_shards}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # the index is read again, and the corpus looked at
