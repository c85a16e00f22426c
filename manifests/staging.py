"""Folders in buckets, as local folders that stand for them: whole objects, staged once, where they are first read.

Everything above this module reads files by paths. For a URL, `stand_in` gives the path of a folder that stands for
it, `fetched` brings the tables and records of a corpus there, and `located` (which `manifests.paths.resolve` ends
with) brings a file that is not there, when it is asked for, as one whole object. What is where:

    CACHE/buckets/read/s3/bucket/corpora/songs/...    stands for s3://bucket/corpora/songs: its tables and records
    CACHE/buckets/made/s3/bucket/corpora/songs/...    the same for what is written there (`builders.publishing`)
    CACHE/buckets/staged/s3/bucket/corpora/songs/vocals.flac/=abcdef.../vocals.flac
                                                      an object, as its store told that it was
    CACHE/buckets/state/...                           locks, and what is known of the objects behind the files above

`CACHE` is `STEMLOOM_CACHE`, or the system's folder for caches. A path says by itself which URL it stands for:
a worker on another machine, with the same cache folder, stages for itself.

The folder `staged` is bounded by `STEMLOOM_STAGING_GB` (50 by default); what was asked for longest ago goes
first. The last files that a living process asked for are its own (a shared lock on each one's folder) and
stay. A file is never changed: an object that was written anew is another file. What a process has once asked
a store about an object holds until it opens a corpus or lists a folder again, so that a training asks about
each file once.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import json
import os
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from manifests.errors import AudioError, BuildError, RecipeError
from manifests.files import replacing
from manifests.stores import Store, Stored, checked_url, is_url

__all__ = [
    "address",
    "as_addresses",
    "as_fetched",
    "cache_folder",
    "fetched",
    "is_record",
    "located",
    "staged",
    "stand_in",
    "state_path",
    "url_of",
    "working_folder",
]

_LIMIT = "STEMLOOM_STAGING_GB"
_DEFAULT_LIMIT_GB = 50.0
_KEY_MARK = "="
_IN_USE = 32
"""How many files a process keeps from being removed: those that it asked for last."""

_WALK_SHARE = 64
"""The folder is measured again after each such part of the limit that a process has added."""

_RECORDS = (".parquet", ".jsonl", ".json")
_RECORD_FOLDERS = ("audit", "packed")


def cache_folder() -> Path:
    """Where files from elsewhere are kept.

    Returns
    -------
    Path
        What the variable ``STEMLOOM_CACHE`` says, or the system's folder for caches.
    """
    if folder := os.environ.get("STEMLOOM_CACHE"):
        return Path(folder).expanduser()
    pooch: Any = importlib.import_module("pooch")
    return Path(pooch.os_cache("stemloom"))


def stand_in(place: str) -> Path:
    """The local folder that a person means, to read from: for a bucket, the one that stands for it.

    Parameters
    ----------
    place : str
        A URL, or the path of a folder (``file://`` too), which stands for itself.

    Returns
    -------
    Path
        Whether or not it is there: nothing is asked of the store.

    Raises
    ------
    RecipeError
        When the URL is none of a known store.
    """
    return _place("read", place)


def working_folder(place: str) -> Path:
    """The local folder in which what will be published at a URL is made; as `stand_in`."""
    return _place("made", place)


def url_of(folder: Path) -> str | None:
    """The URL that a local folder, or a file in one, stands for; None where it stands for nothing but itself."""
    text = os.fspath(folder)
    if f"{os.sep}buckets{os.sep}" not in text:  # of almost all paths there is no more to ask
        return None
    for tree in ("read", "made"):
        start = f"{_tree(tree)}{os.sep}"
        if text.startswith(start):
            scheme, _, path = text[len(start) :].partition(os.sep)
            return f"{scheme}://{PurePosixPath(path)}" if path else None
    return None


def address(folder: Path) -> str:
    """What a folder is called, wherever the process runs: its URL, or its absolute path."""
    return url_of(folder) or str(folder.resolve())


def as_addresses(text: str) -> str:
    """A message in which folders that stand for URLs are called by these."""
    if f"{os.sep}buckets{os.sep}" not in text:
        return text
    for tree in ("read", "made"):
        for scheme in ("s3", "gs", "memory"):
            text = text.replace(f"{_tree(tree)}{os.sep}{scheme}{os.sep}", f"{scheme}://")
    # an object's own name stands before its key and behind it
    pattern = rf"{re.escape(str(_tree('staged')))}/(\w+)/((?:[^\n]*?/)?([^/\n]+))/{_KEY_MARK}[0-9a-f]{{32}}/\3"
    return re.sub(pattern, r"\1://\2", text)


def fetched(place: Path | str) -> Path:
    """A folder to read from, with the tables and records of the corpus in it as they are now.

    Parameters
    ----------
    place : Path or str
        A folder, a URL, or a folder that stands for one.

    Returns
    -------
    Path
        A local folder is given back as it is.

    Raises
    ------
    AudioError, BuildError
        When the store cannot be read.
    RecipeError
        When the URL is none of a known store.
    """
    folder = stand_in(place) if isinstance(place, str) else place
    url = url_of(folder)
    if url is None or folder.is_relative_to(_tree("made")):
        return folder
    _limit_bytes()  # a wrong one is told now, not hours later
    _version_of.cache_clear()
    _bring_records(Store(url), folder)
    return folder


def as_fetched(url: str) -> dict[str, tuple[int, int]]:
    """Size in bytes, and time of writing in ns, of each record as `fetched` has brought it."""
    return {name: (size, mtime) for name, (size, _, mtime) in _read_state(state_path(url, "read.json")).items()}


def is_record(path: str) -> bool:
    """Whether an object is brought whenever its corpus is opened: a table, or a file that says what it is."""
    folder, _, name = path.rpartition("/")
    return folder in ("", *_RECORD_FOLDERS) and PurePosixPath(name).suffix in _RECORDS


def located(root: Path, path: str) -> Path:
    """Where a file of a folder is to be read, staged if need be.

    Parameters
    ----------
    root : Path
        A folder, which may stand for a URL.
    path : str
        POSIX, relative to it, portable (`manifests.paths`).

    Returns
    -------
    Path
        Of a local folder the path below it, whether or not it is there; of an object that is not there, too.

    Raises
    ------
    AudioError
        When the object is written anew while it is read.
    BuildError
        When the store or the disk refuses.
    """
    place = root.joinpath(*path.split("/"))
    url = url_of(root)
    is_here = url is None or place.is_file() or _version_of(url, path) is None
    return place if is_here or url is None else staged(url, path)


def staged(url: str, path: str) -> Path:
    """An object as a local file, whole; downloaded if it is not there.

    Parameters
    ----------
    url : str
        Of the folder, from `checked_url`.
    path : str
        POSIX, relative to the folder.

    Returns
    -------
    Path
        With the object's own name. It is not to be written to. It stays as long as this process lives and has not
        asked for 32 others since.

    Raises
    ------
    AudioError, BuildError
        As `located`, and when there is no such object.
    """
    stored = _version_of(url, path) or Store(url).known(path)
    key = hashlib.blake2b(f"{stored.size}\n{stored.version}".encode(), digest_size=16).hexdigest()
    scheme, _, root = url.partition("://")
    folder = _tree("staged").joinpath(scheme, *root.split("/"), *path.split("/"), f"{_KEY_MARK}{key}")
    file = folder / path.rpartition("/")[2]
    _hold(folder)
    with contextlib.suppress(FileNotFoundError):
        os.utime(folder)  # asked for now
        if file.stat().st_size == stored.size:
            return file
    with _alone(folder):
        if not (file.is_file() and file.stat().st_size == stored.size):
            _make_room(stored.size)
            try:
                Store(url).take(path, file, stored)
            except AudioError:
                _version_of.cache_clear()  # what this process knows of the object no longer holds
                raise
    return file


@functools.lru_cache(maxsize=1 << 17)
def _version_of(url: str, path: str) -> Stored | None:
    return Store(url).look(path)


_held: OrderedDict[Path, int] = OrderedDict()
_holder = [os.getpid()]
_holding = threading.Lock()


def _hold(folder: Path) -> None:
    """Take a shared lock on a folder, and let go of the one that was asked for longest ago."""
    with _holding:
        if _holder[0] != os.getpid():  # a fork shares its parent's locks: it leaves those, and takes its own
            _held.clear()
            _holder[0] = os.getpid()
        handle = _held.pop(folder, None)
        if handle is not None and not _is_there(handle, folder):
            os.close(handle)
            handle = None
        _held[folder] = _opened(folder, fcntl.LOCK_SH) if handle is None else handle
        while len(_held) > _IN_USE:
            os.close(_held.popitem(last=False)[1])


def _opened(folder: Path, lock: int) -> int:
    """A lock on a folder, which is made if need be, and may be removed until the lock is held."""
    while True:
        _make(folder)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        fcntl.flock(handle, lock)
        if _is_there(handle, folder):
            return handle
        os.close(handle)


def _make(folder: Path) -> None:
    for is_last in (False, False, True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not is_last:
                continue  # another process removes a staged file above it
            raise BuildError(
                f"{folder}: cannot be made ({error.strerror or error}); name a folder that you may write to in "
                "STEMLOOM_CACHE"
            ) from error


def _is_there(handle: int, folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(folder))
    return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one that downloads into a folder, which the process holds with others."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


_added = [0.0]


def _make_room(size: int) -> None:
    """Remove staged files, those asked for longest ago first, until the limit holds with one more of this size."""
    limit = _limit_bytes()
    _added[0] += size
    if _added[0] - size > 0 and _added[0] < limit / _WALK_SHARE:
        return
    _added[0] = size
    found = []
    for place, folders, _ in os.walk(_tree("staged")):
        for folder in [Path(place, name) for name in folders if name.startswith(_KEY_MARK)]:
            with contextlib.suppress(FileNotFoundError):  # another process is at the same
                used = folder.stat().st_mtime_ns
                found.append((used, sum(entry.stat().st_size for entry in os.scandir(folder)), folder))
    total = size + sum(each for _, each, _ in found)
    for _, each, folder in sorted(found):
        if total <= limit:
            break
        if _removed(folder):
            total -= each


def _removed(folder: Path) -> bool:
    """Remove a staged file, unless a process holds it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # the object's own folder, unless another version is in it
                folder.parent.rmdir()
            return True
        finally:
            os.close(handle)
    return False


def _limit_bytes() -> float:
    text = os.environ.get(_LIMIT, "")
    try:
        limit = float(text) if text else _DEFAULT_LIMIT_GB
    except ValueError:
        limit = -1.0
    if not limit > 0:
        raise RecipeError(f"{_LIMIT} is {text!r}; write how many GB staged objects may take, as 50")
    return limit * 1e9


def _bring_records(store: Store, folder: Path) -> None:
    """Make the records of a stand-in those of its store."""
    with _locked_state(store.url, "read") as path:
        known = _read_state(path)
        here, folders = store.listed_here()
        found = {name: stored for name, stored in here.items() if is_record(name)}
        for inner in _RECORD_FOLDERS:
            if inner in folders:
                below, _ = Store(store.address(inner)).listed_here()
                names = {f"{inner}/{name}": stored for name, stored in below.items()}
                found |= {name: stored for name, stored in names.items() if is_record(name)}
        for name in known.keys() - found.keys():
            (folder / name).unlink(missing_ok=True)
        versions = {}
        for name, stored in sorted(found.items()):
            before, file = known.get(name, []), folder / name
            if before[:2] != [stored.size, stored.version] or not file.is_file():
                stored = store.take(name, file)
                before = [stored.size, stored.version, file.stat().st_mtime_ns]
            versions[name] = before
        if versions != known:
            with replacing(path) as state:
                state.write(json.dumps(versions).encode())


@contextlib.contextmanager
def _locked_state(url: str, kind: str) -> Iterator[Path]:
    path = state_path(url, f"{kind}.json")
    _make(path.parent)
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(handle)


def state_path(url: str, name: str) -> Path:
    """Where something is kept that is known of a URL's folder."""
    return _tree("state") / f"{hashlib.blake2b(url.encode(), digest_size=12).hexdigest()}-{name}"


def _read_state(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tree(name: str) -> Path:
    return Path(os.path.abspath(cache_folder() / "buckets" / name))


def _place(tree: str, place: str) -> Path:
    if not is_url(place) or place.startswith("file://"):
        return Path(place.removeprefix("file://"))
    scheme, _, path = checked_url(place).partition("://")
    return _tree(tree).joinpath(scheme, *path.split("/"))
