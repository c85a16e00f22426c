"""Results in a bucket: a builder works in a local folder, and what it makes is published at a URL.

    with published("s3://bucket/corpora/songs") as out:
        CatalogBuilder(out).build(fetched("s3://bucket/music"))

`out` is the folder that stands for the URL (`manifests.staging.working_folder`), and no builder knows of
more. On entry it becomes what is published there; each object is then uploaded whole, and its place in the
order says what it means:

1. new audio and cached results, as they are finished and at the end: no table names them yet;
2. before anything that is published is replaced: the published `stems` table goes, as it does in a local folder;
3. tables and records;
4. `stems`, and a packed store's index: their existence means that the corpus, or the store, is complete;
5. what an earlier run has published and this one has not is removed.

A run that is killed anywhere in between leaves either the corpus as it was, or one without `stems`, or a whole one
with objects that no row names; the same command goes on from there. On another machine too: what was
uploaded, results in `.cache` included, is brought on entry.

An object `.lock` in the folder keeps the builds of other machines out, and the lock of the local folder those
of this one. A machine that was lost leaves it behind, and the message to the next one says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from builders.stage import Progress, silent
from manifests.audio import content_id
from manifests.errors import BuildError
from manifests.files import TEMPORARY_PREFIX, replacing
from manifests.lock import BuildLock
from manifests.staging import as_fetched, fetched, stand_in, state_path, url_of, working_folder
from manifests.stores import Store, Stored

__all__ = ["published"]

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The object that says who builds here."""

MARK = ".published"
"""The object that says that a build made what lies here, and may replace it."""

_STREAMS = 8
_PAUSE_S = 10.0
_TABLES = (".parquet", ".jsonl", ".json")


@contextlib.contextmanager
def published(place: Path | str, *, whole: bool = True, progress: Progress = silent) -> Iterator[Path]:
    """A local folder whose contents are at a URL when the block has ended.

    Parameters
    ----------
    place : Path or str
        A URL, or the folder that stands for it. A local folder is given back, and nothing is published.
    whole : bool
        Whether the block makes all that is to be there: then all that is published is brought first, and what
        is not in the folder at the end is removed. Otherwise something is added to a corpus, of which only
        tables and records are brought; audio comes when it is read.
    progress : callable, optional
        Of the stages `fetch` and `upload`.

    Yields
    ------
    Path
        The folder.

    Raises
    ------
    BuildError
        When another build is at work there, or the store or the disk refuses. Nothing is lost: the folder
        keeps what was made, and the same build uploads it.
    RecipeError
        When the URL is none of a known store.
    """
    folder = working_folder(place) if isinstance(place, str) else place
    url = url_of(folder)
    if url is None:
        yield folder
        return
    state = state_path(url, "work" if whole else "added")
    with BuildLock(state, "build"), _claimed(Store(url), state):
        if whole:
            publication = _Publication(Store(url), working_folder(url), state, progress)
            publication.folder.mkdir(parents=True, exist_ok=True)
            publication.bring()
            with publication.following():
                yield publication.folder
        else:
            publication = _Addition(Store(url), fetched(stand_in(url)), state, progress)
            publication.bring()
            yield publication.folder
        publication.publish()


@contextlib.contextmanager
def _claimed(store: Store, state: Path) -> Iterator[None]:
    """Hold the lock in the store; take over the one that a killed run of this machine has left."""
    own = state / "token"
    if not own.exists():
        with replacing(own) as file:
            file.write(secrets.token_hex(16).encode())
    token = own.read_text(encoding="ascii")
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    claim = json.dumps({"token": token, "machine": platform.node(), "since": since}) + "\n"
    store.create(LOCK, claim.encode())
    holder = _holder(store.read(LOCK))
    if holder.get("token") != token:
        raise BuildError(
            f"{store.url}: another build is at work there (machine {holder.get('machine', 'unknown')}, since "
            f"{holder.get('since', 'unknown')}); wait until it has ended, choose another --out, or, if you know "
            f"that it was lost, remove the object {store.address(LOCK)}"
        )
    try:
        yield
    finally:
        try:
            store.remove(LOCK)
        except BuildError as error:
            log.warning("%s (the lock is left; this machine takes it over)", error)


def _holder(data: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(data or b"{}")
        return found if isinstance(found, dict) else {}
    return {}


@dataclass
class _Copy:
    """An object that was brought or uploaded, and the file it was then."""

    version: list[Any]
    size: int
    mtime_ns: int
    content: str


@dataclass
class _Publication:
    """What lies at a URL and in the folder that stands for it, and what is known to be the same in both."""

    store: Store
    folder: Path
    state: Path
    progress: Progress
    there: set[str] = field(default_factory=set)
    copies: dict[str, _Copy] = field(default_factory=dict)
    _noting: threading.Lock = field(default_factory=threading.Lock)

    def bring(self) -> None:
        """Make the folder what is published, but for what was made here and is not published yet."""
        self._read_notes()
        listed = self.store.listed()
        listed.pop(LOCK, None)
        if listed and MARK not in listed:  # it would all be downloaded, and then removed
            raise BuildError(
                f"{self.store.url}: already holds '{min(listed)}', which no build has published there, and nothing "
                "is overwritten; choose a folder that is new or empty"
            )
        if listed.pop(MARK, None) is None:
            self.store.create(MARK, b"a build of stemloom is published here\n")
        for path in self.copies.keys() - listed.keys():  # somebody has removed it there
            (self.folder / path).unlink(missing_ok=True)
            del self.copies[path]
        wanted = [path for path, stored in listed.items() if not self._is_here(path, stored)]
        self._each("fetch", self._take, wanted)
        self.there = set(listed)

    @property
    def _notes(self) -> Path:
        return self.state / "copies.jsonl"

    def _is_here(self, path: str, stored: Stored) -> bool:
        copy = self.copies.get(path)
        return copy is not None and copy.version == _version(stored) and (self.folder / path).is_file()

    def _take(self, path: str) -> None:
        found = self.store.take(path, self.folder / path)
        self._note(path, found)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Upload what is new and finished while the block runs."""
        stop = threading.Event()
        thread = threading.Thread(target=self._follow, args=(stop,), name="publish", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _follow(self, stop: threading.Event) -> None:
        pause = _PAUSE_S
        while not stop.wait(pause):
            start = time.monotonic()
            try:
                for path in self._files():
                    if stop.is_set():
                        return
                    if path not in self.there and path not in self.copies and _rank(path) == 0:
                        self._put(path)
            except FileNotFoundError:
                pass  # the build has removed it in the meantime
            except BuildError as error:
                log.warning("%s (the build goes on, and uploads it at its end)", error)
            # a walk over very many files is not to be the build's main work
            pause = max(_PAUSE_S, 10 * (time.monotonic() - start))

    def publish(self) -> None:
        """Upload all that is new or other than what is there, in the order that the module says."""
        here = list(self._files())
        changed = [path for path in here if self._is_changed(path)]
        there = self.there | self.copies.keys()
        gone = sorted(there - set(here))
        replaced = there.intersection(changed) | set(gone)
        for path in replaced:
            if _rank(path) == 2:
                self._remove(path)
        done = 0
        for rank in range(3):
            ours = [path for path in changed if _rank(path) == rank]
            self._each("upload", self._put, ours, done, len(changed))
            done += len(ours)
        self._each("remove", self._remove, [path for path in gone if _rank(path) < 2])
        self._write_notes()

    def _is_changed(self, path: str) -> bool:
        copy, file = self.copies.get(path), self.folder / path
        if copy is None:
            return True
        status = file.stat()
        if (status.st_size, status.st_mtime_ns) == (copy.size, copy.mtime_ns):
            return False
        # what was linked or written anew may hold the same bytes
        return status.st_size != copy.size or content_id(file) != copy.content

    def _put(self, path: str) -> None:
        self._note(path, self.store.put(self.folder / path, path))

    def _remove(self, path: str) -> None:
        self.store.remove(path)
        self.copies.pop(path, None)

    def _each(
        self, stage: str, work: Callable[[str], None], paths: Iterable[str], done: int = 0, total: int | None = None
    ) -> None:
        """Do something to objects, several at once; the first error ends it."""
        paths = list(paths)
        total = len(paths) if total is None else total
        if not paths:
            return
        pool = ThreadPoolExecutor(_STREAMS)
        try:
            for number, _ in enumerate(pool.map(work, paths), done + 1):
                self.progress(stage, number, total, 0)
        finally:
            pool.shutdown(cancel_futures=True)

    def _files(self) -> Iterator[str]:
        """Files that are whole, by their paths in the folder."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name != LOCK and not path.name.startswith(TEMPORARY_PREFIX):
                yield path.relative_to(self.folder).as_posix()

    def _note(self, path: str, stored: Stored) -> None:
        """Remember that an object and a file are the same, even if this process is killed."""
        file = self.folder / path
        status = file.stat()
        copy = _Copy(_version(stored), status.st_size, status.st_mtime_ns, content_id(file))
        with self._noting:
            self.copies[path] = copy
            with self._notes.open("a", encoding="utf-8") as notes:
                notes.write(json.dumps([path, *vars(copy).values()]) + "\n")

    def _read_notes(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            for line in self._notes.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last line of a process that was killed
                    path, *values = json.loads(line)
                    self.copies[path] = _Copy(*values)

    def _write_notes(self) -> None:
        with replacing(self._notes) as file:
            file.writelines(
                f"{json.dumps([path, *vars(copy).values()])}\n".encode() for path, copy in self.copies.items()
            )


class _Addition(_Publication):
    """A corpus that something is added to: a packed store, a page, verdicts."""

    def bring(self) -> None:
        """Remember what was brought; all else in the folder was added on this machine, in an earlier run too."""
        self._read_notes()
        self.found = as_fetched(self.store.url)
        self.there = set(self.found)

    def _is_changed(self, path: str) -> bool:
        return self.found.get(path) != self._status(path) and super()._is_changed(path)

    def _status(self, path: str) -> tuple[int, int]:
        status = (self.folder / path).stat()
        return status.st_size, status.st_mtime_ns


def _rank(path: str) -> int:
    """When an object is uploaded: 0 what tables name, 1 tables and records, 2 what says that all is there."""
    file = PurePosixPath(path)
    if ".cache" in file.parts or file.suffix not in _TABLES:
        return 0
    return 2 if file.stem == "stems" or file.parts[-2:] == ("packed", "index.parquet") else 1


def _version(stored: Stored) -> list[Any]:
    return [stored.size, stored.version]
