"""Clips and pictures that were computed once: files in `audit/cache`, the ones used longest ago removed first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX, replacing

log = logging.getLogger(__name__)

_VERSION = 1
_LEFT = 0.9


class Store:
    """Bytes by what they were computed from. May be shared between threads.

    Parameters
    ----------
    folder : Path
        Created when something is first put.
    max_bytes : int
        Of all files together; when there are more, the ones used longest ago go until a tenth is free.
    """

    def __init__(self, folder: Path, max_bytes: int = 1_000_000_000) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._size: int | None = None

    def get(self, make: Callable[[], bytes], *facts: Any) -> bytes:
        """What was computed from these facts, computed now if need be.

        Parameters
        ----------
        make : callable
        *facts
            JSON values: content ids and parameters.

        Returns
        -------
        bytes
            A disk that refuses costs the keeping, not the answer.
        """
        name = hashlib.blake2b(json.dumps([_VERSION, *facts]).encode(), digest_size=16).hexdigest()
        path = self.folder / name[:2] / name
        try:
            data = path.read_bytes()
            os.utime(path)
            return data
        except OSError:
            pass
        data = make()
        try:
            with replacing(path) as file:
                file.write(data)
            self._bound(len(data))
        except (BuildError, OSError) as error:
            log.warning("%s: nothing can be kept here (%s)", self.folder, error)
        return data

    def _bound(self, added: int) -> None:
        with self._lock:
            if self._size is not None:
                self._size += added
            if self._size is None or self._size > self.max_bytes:
                self._size = self._removed()

    def _removed(self) -> int:
        """Remove the oldest files where there are too many; the bytes that are left."""
        files = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):  # another thread may be writing it
                found = path.stat()
                files.append((found.st_mtime_ns, found.st_size, path))
        size = sum(found[1] for found in files)
        if size <= self.max_bytes:
            return size
        for _, freed, path in sorted(files):
            if size <= _LEFT * self.max_bytes:
                break
            if not path.name.startswith(TEMPORARY_PREFIX):
                path.unlink(missing_ok=True)
                size -= freed
        return size
