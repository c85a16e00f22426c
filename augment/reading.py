"""Where the sources of a pool are read from: the stores of corpora that were opened as packed, else files."""

from __future__ import annotations

from augment.pool import Pool
from manifests.audio import Audio
from manifests.crops import CropReader
from manifests.packed import PackedReader

__all__ = ["PoolReader"]


class PoolReader:
    """Reads crops of the files that a pool's events name.

    Not to be shared between threads. What is pickled opens its files again.

    Parameters
    ----------
    pool : Pool
        Its stores' indices are read, and no audio file is opened.
    max_open_files : int >= 1
        How many files are kept open.

    Raises
    ------
    BuildError, TableError
        When a packed store is not complete, or its corpus was changed after it was packed.
    """

    def __init__(self, pool: Pool, max_open_files: int = 64) -> None:
        self._files = CropReader(pool.roots, max_open_files)
        stores = {folder: PackedReader(folder) for folder, _ in pool.packed.values()}
        self._packed = {root: (stores[folder], inner) for root, (folder, inner) in pool.packed.items()}

    def read(
        self,
        root: str,
        path: str,
        start_frame: int,
        num_frames: int,
        gain: float = 1.0,
        out: Audio | None = None,
    ) -> Audio:
        """Read a crop, as `manifests.crops.CropReader.read` does."""
        if root in self._packed:
            store, inner = self._packed[root]
            return store.read(inner, path, start_frame, num_frames, gain, out)
        return self._files.read(root, path, start_frame, num_frames, gain, out)
