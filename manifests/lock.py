"""The lock that keeps two builds, or two trainings, out of one folder."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from manifests.errors import BuildError

__all__ = ["BuildLock"]


@dataclass
class BuildLock:
    """Holds a build folder for one build, for as long as a `with` block or the process lasts.

    The lock is the system's (flock), so a build that was killed leaves none behind.

    Parameters
    ----------
    folder : Path
        The build folder; created if need be.
    worker : str
        What holds it, as a second one is told.

    Raises
    ------
    BuildError
        On entry: another build holds the folder, or it is a file, cannot be made or cannot be written to.

    Examples
    --------
    >>>     >>> with BuildLock(Path(tempfile.mkdtemp())):
    ...     pass
    """

    folder: Path
    worker: str = "build"
    _handle: int | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> BuildLock:
        path = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self.folder.is_file():
                raise BuildError(f"{self.folder}: is a file; give a folder") from error
            raise BuildError(
                f"{self.folder}: the folder cannot be made ({error.strerror or error}); choose one that you may "
                "write to"
            ) from error
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _lock_error(path, error) from error
        try:
            self._lock(handle, path)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return self

    def _lock(self, handle: int, path: Path) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise BuildError(
                f"{self.folder}: another {self.worker} (pid {pid}) is at work in this folder; wait until it has "
                f"ended, stop it with 'kill -INT {pid}', or choose another folder"
            ) from error
        except OSError as error:
            raise _lock_error(path, error) from error
        try:
            # The file stays after the build: if it were removed, two builds could lock two files of one name.
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            raise _lock_error(path, error) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _lock_error(path: Path, error: OSError) -> BuildError:
    return BuildError(
        f"{path}: cannot be locked ({error.strerror or error}); choose a folder that you may write to, on a "
        "file system that has locks"
    )
