"""Object stores, through fsspec: a folder of objects in a bucket, by its URL.

An object is taken and put whole. What a store answers when it is not well (after the retries that s3fs and
gcsfs make themselves) becomes a `StemloomError` that names the object and what to do. Of the kinds of
trouble, an object that is not there is an `AudioError`, as a file that is missing; all others are a
`BuildError`, which ends a run instead of leaving songs out: it is the store that is not well, and not the
song.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from manifests.errors import AudioError, BuildError, RecipeError, StemloomError, did_you_mean
from manifests.files import TEMPORARY_PREFIX

__all__ = ["Store", "Stored", "checked_url", "is_url"]

_SCHEMES = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "memory": "memory"}
"""Schemes, and the one that stands for all names of a store."""

_URL = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]+://|({'|'.join(_SCHEMES)}):", re.IGNORECASE)
"""Also with too few slashes, where nothing but a store can be meant."""

_LIBRARIES = frozenset(
    ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "google", "requests", "s3fs", "urllib3")
)
_ATTEMPTS = 3
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_NO_BUCKET = "create the bucket, or correct the address"
_CREDENTIALS = "the credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID ...; GOOGLE_APPLICATION_CREDENTIALS)"
_CONNECTION = "the endpoint (AWS_ENDPOINT_URL) and the connection"
_AGAIN = "then run the same command again: builds resume"


def is_url(text: str) -> bool:
    """Whether a place is written as a URL, of a store or of anything else.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_url("s3://bucket/music"), is_url("music"), is_url("checkpoint:a.safetensors")
    (True, False, False)
    """
    return _URL.match(text) is not None


def checked_url(text: str) -> str:
    """The URL of a folder in a store, spelt in one way.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        Without a slash at the end.

    Raises
    ------
    RecipeError
        When the store is not known, the bucket is missing, or a part of the path is empty or leads upwards.
    """
    scheme, _, path = text.partition(":")
    if not path.startswith("//"):
        raise RecipeError(f"{text}: is no address of a folder in a bucket; write {scheme}://{path.lstrip('/')}")
    if scheme.lower() not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise RecipeError(
            f"{text}: stores of the scheme '{scheme}'{did_you_mean(scheme, _SCHEMES)} are not read; give a folder, "
            f"or one of {known}"
        )
    path = path.strip("/")
    if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")):
        raise RecipeError(f"{text}: is no address of a folder in a bucket; write {scheme}://BUCKET/FOLDER")
    return f"{_SCHEMES[scheme.lower()]}://{path}"


@dataclass(frozen=True)
class Stored:
    """An object as its store tells: how long it is, in bytes, and what changes whenever it is written."""

    size: int
    version: str


@dataclass(frozen=True)
class Store:
    """A folder in a bucket.

    Parameters
    ----------
    url : str
        From `checked_url`. Nothing is asked yet.
    """

    url: str

    def listed(self) -> dict[str, Stored]:
        """All objects below the folder, by their paths relative to it; none where there is no such folder.

        Raises
        ------
        BuildError
            When there is not even the bucket.
        """
        with contextlib.suppress(FileNotFoundError), self._listing():
            return self._relative(self._system.find(self._path(), detail=True).values())
        return {}

    def listed_here(self) -> tuple[dict[str, Stored], list[str]]:
        """The objects in the folder itself, and the names of the folders in it; otherwise as `listed`."""
        with contextlib.suppress(FileNotFoundError), self._listing():
            entries = self._system.ls(self._path(), detail=True)
            folders = (entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory")
            return self._relative(entries), sorted(name.rpartition("/")[2] for name in folders)
        return {}, []

    def look(self, path: str) -> Stored | None:
        """What the store tells of an object; None where there is none.

        Parameters
        ----------
        path : str
            POSIX, relative to the folder, as in all methods.
        """
        with self._asking(path), contextlib.suppress(FileNotFoundError):
            found = self._system.info(self._path(path))
            return None if found["type"] == "directory" else _stored(found)
        return None

    def known(self, path: str) -> Stored:
        """As `look`.

        Raises
        ------
        AudioError
            When there is no such object.
        """
        found = self.look(path)
        if found is None:
            raise AudioError(f"{self.address(path)}: there is no such object; look at the name, or put it there")
        return found

    def take(self, path: str, target: Path, expected: Stored | None = None) -> Stored:
        """Download an object to a file, whole or not at all.

        Parameters
        ----------
        path : str
        target : Path
            Missing parent folders are created, an existing file is replaced.
        expected : Stored, optional
            What the object was when the store was asked before.

        Raises
        ------
        AudioError
            There is no such object, or it was written anew while it was read.
        BuildError
            The store, or the disk, refuses.
        """
        before = expected or self.known(path)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}.tmp")
        try:
            with self._asking(path, gone=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                self._download(path, temporary)
            if temporary.stat().st_size != before.size or self.look(path) != before:
                raise AudioError(
                    f"{self.address(path)}: changed while it was read; run the same command again when it is at "
                    "rest"
                )
            os.replace(temporary, target)
        except OSError as error:
            raise BuildError(f"{target}: cannot be written ({error.strerror or error}); free some space") from error
        finally:
            temporary.unlink(missing_ok=True)
        return before

    def _download(self, path: str, target: Path) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._system.get_file(self._path(path), str(target))
                return
            except Exception as error:
                # s3fs goes on where a connection broke, and then compares the checksum of the whole with that of
                # the rest: it never fits
                if type(error).__name__ != "FlexibleChecksumError" or attempt == _ATTEMPTS - 1:
                    raise

    def put(self, source: Path, path: str) -> Stored:
        """Upload a file: the object is the new one, whole, or what it was."""
        with self._writing(path):
            self._system.put_file(str(source), self._path(path))
        found = self.look(path)
        if found is None or found.size != source.stat().st_size:
            raise BuildError(f"{self.address(path)}: is not what was uploaded from {source}; {_fix()}")
        return found

    def create(self, path: str, data: bytes) -> bool:
        """Put an object where there is none; False where there is one.

        Exact where the store knows conditional writes (AWS and Google do). In others, of two that write within the
        same moment the later one may win; `read` tells who has.
        """
        if self.look(path) is not None:
            return False
        try:
            with self._writing(path):
                self._system.pipe_file(self._path(path), data, mode="create")
        except _Exists:
            return False
        return True

    def read(self, path: str) -> bytes | None:
        """The bytes of a small object; None where there is none."""
        with self._asking(path), contextlib.suppress(FileNotFoundError):
            data: bytes = self._system.cat_file(self._path(path))
            return data
        return None

    def remove(self, path: str) -> None:
        """Remove an object, if there is one."""
        with self._asking(path), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(path))

    def address(self, path: str = "") -> str:
        """The URL of an object, for people: stores take any character in a name."""
        return f"{self.url}/{path}" if path else self.url

    @property
    def _system(self) -> Any:
        scheme = self.url.partition("://")[0]
        try:
            # fsspec keeps one for each process and thread of events, and forgets it in a fork
            return importlib.import_module("fsspec").filesystem(scheme, use_listings_cache=False)
        except ImportError as error:
            raise RecipeError(
                f"{self.url}: stores of {scheme}:// need packages that are not installed ({error}); "
                "pip install 'stemloom[cloud]'"
            ) from error

    def _path(self, path: str = "") -> str:
        # not by fsspec's parser of URLs: names may hold '#', '?', '%' and '::'
        name = self.url.partition("://")[2]
        prefix = "/" if self.url.startswith("memory:") else ""
        return f"{prefix}{name}/{path}" if path else f"{prefix}{name}"

    def _relative(self, entries: Any) -> dict[str, Stored]:
        start = f"{self._path()}/"
        return {
            entry["name"][len(start) :]: _stored(entry)
            for entry in entries
            if entry["type"] == "file" and entry["name"].startswith(start) and not entry["name"].endswith("/")
        }

    @contextlib.contextmanager
    def _listing(self) -> Iterator[None]:
        """As `_asking`; of a folder that is not there, the bucket must be."""
        try:
            with self._asking(""):
                yield
        except FileNotFoundError as error:
            if getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") == "NoSuchBucket":
                raise BuildError(f"{self.url}: there is no such bucket; {_NO_BUCKET}") from error
            raise

    @contextlib.contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        """As `_asking`; what is missing where an object is made is the bucket."""
        try:
            with self._asking(path):
                yield
        except FileNotFoundError as error:
            raise BuildError(f"{self.address(path)}: cannot be made ({error}); {_NO_BUCKET}") from error

    @contextlib.contextmanager
    def _asking(self, path: str, gone: bool = False) -> Iterator[None]:
        """Turn what goes wrong in a store into errors for people; a missing object passes, unless it is `gone`."""
        try:
            yield
        except StemloomError:
            raise
        except FileNotFoundError as error:
            if not gone:
                raise
            raise AudioError(f"{self.address(path)}: was removed while it was read; put it there again") from error
        except FileExistsError as error:
            raise _Exists(f"{self.address(path)}: is there already") from error
        except Exception as error:
            if getattr(error, "errno", None) in _DISK:
                raise BuildError(
                    f"{self.address(path)}: cannot be kept on this disk ({error}); free some space, or name "
                    "another folder in STEMLOOM_CACHE, then run the same command again: it resumes"
                ) from error
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _LIBRARIES:
                raise
            if _is_precondition(error):
                raise _Exists(f"{self.address(path)}: is there already") from error
            told = f"{type(error).__name__}: {error}".rstrip(": .")
            raise BuildError(f"{self.address(path)}: the store cannot be used ({told}); {_fix(error)}") from error


class _Exists(BuildError):
    """What `Store.create` found: the store has such an object."""


def _is_precondition(error: BaseException) -> bool:
    return any(
        word in str(error) for word in ("PreconditionFailed", "pre-conditions", "ConditionalRequestConflict")
    )


def _fix(error: Exception | None = None) -> str:
    kind = type(error).__name__
    if isinstance(error, PermissionError) or "Credential" in kind:
        return f"look at {_CREDENTIALS}, {_AGAIN}"
    if "Connect" in kind or "Timeout" in kind:
        return f"look at {_CONNECTION}, {_AGAIN}"
    return f"look at the address, {_CREDENTIALS}, {_CONNECTION}, {_AGAIN}"


def _stored(info: dict[str, Any]) -> Stored:
    """Of what a store tells, that which changes with every write: a hash, a generation, or else the time."""
    known = ("ETag", "etag", "md5Hash", "generation", "LastModified", "updated", "created")
    name = next((name for name in known if info.get(name)), "")
    value = info.get(name, "")
    # a store tells the same in one way when it lists and in another when it is asked
    text = str(value.timestamp()) if isinstance(value, datetime) else str(value).strip('"')
    return Stored(int(info["size"]), f"{name} {text}".strip())
