"""Finished work that a build finds again.

A result is kept under a key made of everything that it depends on: the stage's name and version, its
parameters and the content ids of the files it read. Paths and modification times are not part of it. So a
changed parameter computes again, an unchanged one does not, and a moved catalogue keeps its results.

On disk: `<folder>/<first 2 hex digits of the key>/<key>.json`, and `<key>.<name>.npy` for each array of the
entry. Files appear whole or not at all, the arrays first, and the entry holds checksums of itself and of its
arrays: what was torn or tampered with is a miss, never a wrong result.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from manifests.files import replacing

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{32}")
_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_]*")


def cache_key(stage: str, version: int, parameters: Mapping[str, Any], content_ids: Sequence[str]) -> str:
    """Name a piece of work by all that its result depends on.

    Parameters
    ----------
    stage : str
        The stage's name.
    version : int
        Raised by whoever changes what the stage returns.
    parameters : mapping
        JSON values (tuples count as lists); the order of its keys does not matter.
    content_ids : sequence of str
        Ids of the files that the stage reads, in the order of their roles (mixture, instrumental).

    Returns
    -------
    str
        32 hex digits: blake2b of the canonical JSON.

    Raises
    ------
    TypeError
        A parameter that JSON cannot hold, such as a path or an array.
    ValueError
        A parameter that is NaN or infinite.
    """
    return _digest(_canonical([stage, version, dict(parameters), list(content_ids)]))


@dataclass(frozen=True)
class ResultCache:
    """Results of stages in a folder, found again by key.

    Meant for one writer at a time (see `BuildLock`). Creates its folders when it first writes.

    Parameters
    ----------
    folder : Path
        Where the entries are kept. It can be deleted whenever no build runs.

    Examples
    --------
    >>>     >>> cache = ResultCache(Path(tempfile.mkdtemp()))
    >>> key = cache_key("loudness", 1, {"block_s": 0.4}, ["00ff"])
    >>> cache.get(key) is None
    True
    >>> cache.put(key, {"loudness_lufs": -23.0})
    >>> cache.get(key)
    {'loudness_lufs': -23.0}
    """

    folder: Path

    def holds_any(self) -> bool:
        """Whether anything was put here.

        Returns
        -------
        bool
        """
        return any(_KEY.fullmatch(path.stem) for path in self.folder.glob("??/*.json"))

    def get(self, key: str) -> JsonValue:
        """Return the value put under a key; None when there is none, or none that is whole.

        Parameters
        ----------
        key : str
            From `cache_key`.

        Returns
        -------
        JSON value or None
            Equal to what was put.
        """
        body = self._body(key)
        return None if body is None else body["value"]

    def get_arrays(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """Return the arrays put under a key.

        Parameters
        ----------
        key : str
            From `cache_key`.

        Returns
        -------
        dict of str to np.ndarray, or None
            None when the entry or any of its arrays is missing or torn; empty when it was put without arrays.
        """
        body = self._body(key)
        if body is None:
            return None
        arrays = {}
        for name, digest in body["arrays"].items():
            data = _read(self._array_path(key, name))
            if data is None or _digest(data) != digest:
                log.warning("%s: missing or torn; its result is computed again", self._array_path(key, name))
                return None
            arrays[name] = np.load(io.BytesIO(data), allow_pickle=False)
        return arrays

    def put(self, key: str, value: JsonValue, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """Keep a value, and arrays with it, under a key. Replaces what was there.

        Parameters
        ----------
        key : str
            From `cache_key`.
        value : JSON value
            Not None, which would read as a miss.
        arrays : mapping of str to np.ndarray, optional
            Names in lower case with digits and underscores.

        Raises
        ------
        TypeError
            A value that JSON would change or cannot hold: tuples, keys that are no strings, numpy scalars.
        ValueError
            None, NaN or infinity as a value; an array of objects; a bad name or key.
        BuildError
            The disk is full or the folder cannot be written to.
        """
        if value is None:
            raise ValueError("None cannot be cached: it would read as a miss")
        if json.loads(_canonical(value)) != value:
            raise TypeError("the value would not read back equal: use lists for tuples, and strings for keys")
        blobs = {name: _npy(name, array) for name, array in (arrays or {}).items()}
        body = {"key": key, "value": value, "arrays": {name: _digest(data) for name, data in blobs.items()}}
        for name, data in blobs.items():
            _write(self._array_path(key, name), data)
        _write(self._path(key), _canonical({"checksum": _digest(_canonical(body)), "body": body}))

    def _body(self, key: str) -> dict[str, Any] | None:
        path = self._path(key)
        data = _read(path)
        if data is None:
            return None
        try:
            entry = json.loads(data)
            if entry["checksum"] == _digest(_canonical(entry["body"])) and entry["body"]["key"] == key:
                return dict(entry["body"])
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        log.warning("%s: torn or not an entry of this cache; its result is computed again", path)
        return None

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no cache key: 32 hex digits from cache_key() are")
        return self.folder / key[:2] / f"{key}.json"

    def _array_path(self, key: str, name: str) -> Path:
        if not _ARRAY_NAME.fullmatch(name):
            raise ValueError(f"array name {name!r}: use lower case letters, digits and underscores")
        return self._path(key).with_suffix(f".{name}.npy")


def _canonical(value: Any) -> bytes:
    """Encode as JSON, always the same for the same value. ASCII, so that odd file names survive."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _npy(name: str, array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    try:
        np.save(buffer, array, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"array {name!r} of dtype {array.dtype}: only plain numbers can be cached") from error
    return buffer.getvalue()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s: cannot be read (%s); its result is computed again", path, error)
        return None


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)
