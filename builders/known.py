"""Content ids that an earlier scan found: a file that has not been written to since is not read again.

A file's **marks** are its size, the times of its last change (of its bytes, and of anything about it, which no
program can set back) and its number on the disk; those of an object in a bucket are what its store calls its
version. Marks only save reading: what a later stage decodes is compared with its content id all the same.

The record is a file of lines that is appended to while files are hashed, so that a killed scan goes on where it
was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from manifests.files import appending, replacing
from manifests.staging import address, url_of
from manifests.stores import Store

_SETTLED_NS = 2_000_000_000
"""File systems count time in steps of up to 2 s: within one, a second change would not show."""


def marks_of(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """The marks of files that have been at rest for some seconds.

    Parameters
    ----------
    folder : Path
        Of the catalogue; what stands for a bucket, too.
    paths : sequence of str
        POSIX, relative to it.

    Returns
    -------
    dict of str to str
        By path. Files that are gone, or were changed only now, have none.
    """
    url = url_of(folder)
    if url is not None:
        wanted = set(paths)
        return {
            path: found.version for path, found in Store(url).listed().items() if path in wanted and found.version
        }
    now = time.time_ns()
    marks = {}
    for path in paths:
        try:
            status = os.stat(folder / path)
        except OSError:
            continue
        if max(status.st_mtime_ns, status.st_ctime_ns) + _SETTLED_NS < now:
            marks[path] = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    return marks


@dataclass(frozen=True)
class KnownFiles:
    """The record of an earlier scan.

    Parameters
    ----------
    path : Path
        It need not be there.
    folder : Path
        Of the catalogue: marks of another one are not compared.
    """

    path: Path
    folder: Path

    def content_ids(self, marks: Mapping[str, str]) -> dict[str, str]:
        """Content ids of the files whose marks are those recorded.

        Parameters
        ----------
        marks : mapping of str to str
            From `marks_of`.

        Returns
        -------
        dict of str to str
            By path. A line that is torn, or no line of this record, is passed over.
        """
        return {path: content_id for path, mark, content_id in self._lines() if marks.get(path) == mark}

    @contextmanager
    def recording(self, kept: Mapping[str, str], marks: Mapping[str, str]) -> Iterator[Callable[[str, str], None]]:
        """Write the record anew with what is kept of it, and add to it what is found.

        Parameters
        ----------
        kept : mapping of str to str
            From `content_ids`.
        marks : mapping of str to str
            Taken before the files are read: those of a file that changes meanwhile will differ.

        Yields
        ------
        callable
            To be called with the path and the content id of each file that was read.
        """
        home = address(self.folder)

        def line(path: str, content_id: str) -> bytes:
            return json.dumps([home, path, marks[path], content_id]).encode() + b"\n"

        with replacing(self.path) as file:
            file.writelines(line(path, content_id) for path, content_id in kept.items())
            size = file.tell()
        with appending(self.path, size) as file:

            def record(path: str, content_id: str) -> None:
                if path in marks:
                    file.write(line(path, content_id))

            yield record

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        home = address(self.folder)
        try:
            with self.path.open("rb") as file:
                for line in file:
                    try:
                        where, path, mark, content_id = json.loads(line)
                    except (ValueError, TypeError):
                        continue
                    if where == home and all(isinstance(value, str) for value in (path, mark, content_id)):
                        yield path, mark, content_id
        except OSError:
            return
