"""The fingerprints of a catalogue on disk, in the order of their arrival.

A million fingerprints are 7 GB: they are appended to one file, never changed, and mapped into memory where they are
looked at. `store.json` says how much of the files counts. It is written last, so that what a killed run had
appended is written over by the next one.

    store.json     tracks and items that count, checksums of what each run added
    tracks.bin     a record for each track: its id, where its items end, whether it is labelled an instrumental
    items.bin      sub-fingerprints, uint32, end to end
"""

from __future__ import annotations

import functools
import json
import logging
import mmap
import shutil
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.chromaprint import Fingerprint
from manifests.errors import BuildError
from manifests.files import appending, replacing

VERSION = 1
ID_LENGTH = 32
RECORD = np.dtype([("id", f"S{ID_LENGTH}"), ("end", "<u8"), ("labelled", "?")])

_ITEM_BYTES = 4
_FIX = "delete the folder, and what is in it is made again"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Print:
    """A track as it arrives: its content id, whether its title calls it an instrumental, its fingerprint."""

    track_id: str
    is_labelled: bool
    items: Fingerprint


@dataclass(frozen=True)
class PrintStore:
    """The fingerprints in a folder, as they were when it was opened.

    Parameters
    ----------
    folder : Path
        It need not be there.

    Raises
    ------
    BuildError
        When its files are shorter than they should be, or are no store of this version.
    """

    folder: Path

    @functools.cached_property
    def tracks(self) -> npt.NDArray[Any]:
        """The records of all tracks, shape ``(tracks,)``, fields `id`, `end` and `labelled`."""
        count = self._state["tracks"]
        tracks = np.fromfile(self._path("tracks"), RECORD, count) if count else np.zeros(0, RECORD)
        items = int(tracks["end"][-1]) if len(tracks) else 0
        found = self._path("items").stat().st_size // _ITEM_BYTES if items else 0
        if len(tracks) < count or items != self._state["items"] or found < items:
            raise BuildError(
                f"{self.folder}: holds {len(tracks)} tracks and {found} sub-fingerprints, and store.json promises "
                f"{count} and {self._state['items']}; {_FIX}"
            )
        return tracks

    @functools.cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Items of each track, shape ``(tracks,)``."""
        return np.diff(self._ends)

    @functools.cached_property
    def ids(self) -> npt.NDArray[np.str_]:
        """Content ids of all tracks, shape ``(tracks,)``."""
        return self.tracks["id"].astype(f"U{ID_LENGTH}")

    def items_of(self, first: int, end: int) -> Fingerprint:
        """Fingerprints of the tracks from `first` to `end` (out), end to end, shape ``(items,)``."""
        begin, stop = self._ends[first], self._ends[end]
        if begin == stop:
            return np.zeros(0, np.uint32)
        items = np.fromfile(self._path("items"), "<u4", stop - begin, offset=begin * _ITEM_BYTES)
        if len(items) < stop - begin:  # a read that fails gives fewer, and no error
            raise BuildError(f"{self._path('items')}: cannot be read to its end; check the disk, or {_FIX}")
        return items

    def mapped(self) -> MappedPrints:
        """All fingerprints, without reading them."""
        return MappedPrints(self._path("items"), self._ends)

    def add(self, prints: Iterable[Print]) -> PrintStore:
        """Append tracks, all or none.

        Parameters
        ----------
        prints : iterable of Print
            Of ids that are not in the store.

        Returns
        -------
        PrintStore
            With them. This one stays as it is.

        Raises
        ------
        ValueError
            If an id is not of 32 characters, or is there already.
        BuildError
            When the disk refuses.
        """
        state, known = self._state, set(self.ids.tolist())
        end = state["items"]
        sums = {"tracks": 0, "items": 0}
        added = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            appending(self._path("items"), end * _ITEM_BYTES) as items,
            appending(self._path("tracks"), state["tracks"] * RECORD.itemsize) as tracks,
        ):
            for one in prints:
                if len(one.track_id) != ID_LENGTH or one.track_id in known:
                    raise ValueError(f"track id {one.track_id!r} is not of {ID_LENGTH} characters, or came twice")
                known.add(one.track_id)
                end += len(one.items)
                record = np.array([(one.track_id, end, one.is_labelled)], RECORD).tobytes()
                data = np.ascontiguousarray(one.items, "<u4").tobytes()
                for file, name, written in ((tracks, "tracks", record), (items, "items", data)):
                    file.write(written)
                    sums[name] = zlib.crc32(written, sums[name])
                added += 1
        if not added:
            return self
        runs = [*state["runs"], {"tracks": added, "checksums": sums}]
        after = {"version": VERSION, "tracks": state["tracks"] + added, "items": end, "runs": runs}
        with replacing(self._path("store")) as file:
            file.write(json.dumps(after).encode())
        return PrintStore(self.folder)

    def missing(self, track_ids: Collection[str]) -> set[str]:
        """Those of some ids that the store does not have."""
        return set(track_ids).difference(self.ids.tolist())

    def verify(self) -> None:
        """Read everything, and compare it with the checksums.

        Raises
        ------
        BuildError
            When something has changed.
        """
        first = 0
        for run in self._state["runs"]:
            end = first + run["tracks"]
            found = {
                "tracks": zlib.crc32(self.tracks[first:end].tobytes()),
                "items": functools.reduce(lambda sum, part: zlib.crc32(part.data, sum), self._parts(first, end), 0),
            }
            if found != run["checksums"]:
                raise BuildError(f"{self.folder}: tracks {first} to {end} are not what was written; {_FIX}")
            first = end

    def _parts(self, first: int, end: int) -> Iterator[Fingerprint]:
        for at in range(first, end, 1024):
            yield self.items_of(at, min(end, at + 1024))

    @functools.cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), self.tracks["end"].astype(np.int64)])

    @functools.cached_property
    def _state(self) -> dict[str, Any]:
        path = self._path("store")
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if state["version"] != VERSION:
                raise BuildError(f"{path}: is of version {state['version']}, and this is {VERSION}; {_FIX}")
            return {"tracks": int(state["tracks"]), "items": int(state["items"]), "runs": list(state["runs"])}
        except FileNotFoundError:
            return {"tracks": 0, "items": 0, "runs": []}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BuildError(f"{path}: cannot be read ({error}); {_FIX}") from error

    def _path(self, name: str) -> Path:
        return self.folder / (f"{name}.json" if name == "store" else f"{name}.bin")


class MappedPrints:
    """Fingerprints mapped into memory. What was looked at can be let go.

    Attributes
    ----------
    items : np.ndarray of uint32 [shape=(items,)]
        All of them, end to end.
    """

    def __init__(self, path: Path, ends: npt.NDArray[np.int64]) -> None:
        self._ends = ends
        self._map: mmap.mmap | None = None
        self.items = np.zeros(0, np.uint32)
        if ends[-1]:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), int(ends[-1]) * _ITEM_BYTES, access=mmap.ACCESS_READ)
            self.items = np.frombuffer(self._map, "<u4")

    def __getitem__(self, track: int) -> Fingerprint:
        return self.items[self._ends[track] : self._ends[track + 1]]

    def spans(self, tracks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the fingerprints of some tracks begin in `items`, and their ends, shape ``(2, tracks)``."""
        return np.stack([self._ends[tracks], self._ends[tracks + 1]])

    def let_go(self) -> None:
        """Give back the memory of what was looked at; it is read from the disk again when it is needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def opened_store(folder: Path) -> PrintStore:
    """A store of what can be made again: one that is torn is removed.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    PrintStore
        Empty where there was none that is whole.
    """
    try:
        store = PrintStore(folder)
        store.verify()
    except BuildError as error:
        log.warning("%s; that is done now", error)
        shutil.rmtree(folder)
        return PrintStore(folder)
    return store
