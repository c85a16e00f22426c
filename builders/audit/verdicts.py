"""Verdicts on disk: one line of JSON for each, appended only, and what they say of the stems that are there now.

`audit/verdicts.jsonl` in the build's folder. A line is written by one call, and synced before anybody is told that
it was taken: a crash at any moment loses no verdict that was answered. What a crash tore is moved aside, and told,
when the file is next opened. Of a song's or a stem's lines the newest counts; 'unheard' takes back what was said
before.

Whether a verdict still is on what is there, `builders.audit.standing` says.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.audit import Judgement
from manifests.audited import AUDIT
from manifests.errors import BuildError

log = logging.getLogger(__name__)

VERDICTS = "verdicts.jsonl"
_TORN = "verdicts.torn"


@dataclass(frozen=True)
class Verdict:
    """What a person said of a song, or of one of its stems.

    Attributes
    ----------
    seq : int
        Number of the line, from 1 on.
    time : str
        UTC, ISO 8601.
    reviewer : str
    song_id : str
    stem : str or None
        None for the song as a whole.
    verdict : {'unheard', 'accepted', 'rejected'}
    reason : str or None
        A key of `curation.audit.REASONS`.
    note : str
    nudge_frames : float
        How much later the instrumental was heard than it is in its file.
    order : str
        In which songs were being heard.
    key : str
        The page's own: a request that is sent twice is written once.
    content_ids : mapping of str to (str or None)
        Of each stem that the verdict is on, as the stems table had them.
    """

    seq: int
    time: str
    reviewer: str
    song_id: str
    stem: str | None
    verdict: Judgement
    reason: str | None
    note: str
    nudge_frames: float
    order: str
    key: str
    content_ids: Mapping[str, str | None]

    def line(self) -> bytes:
        """As it stands in the file."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


_FIELDS: dict[str, tuple[type, ...]] = {
    "seq": (int,),
    "time": (str,),
    "reviewer": (str,),
    "song_id": (str,),
    "stem": (str, type(None)),
    "verdict": (str,),
    "reason": (str, type(None)),
    "note": (str,),
    "nudge_frames": (int, float),
    "order": (str,),
    "key": (str,),
    "content_ids": (dict,),
}


def _parsed(line: bytes) -> Verdict | None:
    """A line of the file; None for what is no verdict."""
    try:
        found = json.loads(line)
        wrong = [name for name, kinds in _FIELDS.items() if not isinstance(found[name], kinds)]
        if wrong or found["verdict"] not in ("unheard", "accepted", "rejected"):
            return None
        return Verdict(**{name: found[name] for name in _FIELDS})
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def read_verdicts(build: Path) -> list[Verdict]:
    """Every verdict of a build, the oldest first, and nothing written.

    Parameters
    ----------
    build : Path
        The build folder.

    Returns
    -------
    list of Verdict
        Lines that are none are told, all at once, and passed over.

    Raises
    ------
    BuildError
        When the file cannot be read.
    """
    path = build / AUDIT / VERDICTS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    lines = data.split(b"\n")
    found = [_parsed(line) for line in lines]
    pairs = enumerate(zip(lines, found, strict=True), 1)
    bad = [number for number, (line, verdict) in pairs if verdict is None and line.strip()]
    if bad and bad[-1] == len(lines):
        bad.pop()
        log.warning(
            "%s: the last line is not whole, and is passed over: a server is writing it, or a crash has torn it",
            path,
        )
    if len(bad) == 1:
        log.warning("%s: line %d is no verdict, and is passed over", path, bad[0])
    elif bad:
        log.warning(
            "%s: %d lines are no verdicts, and are passed over; the first is line %d", path, len(bad), bad[0]
        )
    return [verdict for verdict in found if verdict is not None]


class VerdictLog:
    """The file of verdicts, open for more. May be shared between threads.

    Parameters
    ----------
    build : Path
        The build folder, of whose `audit` folder a `BuildLock` is held.

    Raises
    ------
    BuildError
        When the file cannot be read or written.
    """

    def __init__(self, build: Path) -> None:
        self.path = build / AUDIT / VERDICTS
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if is_new:
                _sync(self.path.parent)
            self._mend()
        except OSError as error:
            raise self._refused(error) from error
        self._verdicts = read_verdicts(build)
        self._by_key = {verdict.key: verdict for verdict in self._verdicts}
        self._seq = max((verdict.seq for verdict in self._verdicts), default=0)

    def _refused(self, error: OSError) -> BuildError:
        return BuildError(
            f"{self.path}: verdicts cannot be written ({error.strerror or error}); free some space, or give a "
            "build in a folder that you may write to"
        )

    def _mend(self) -> None:
        """Move aside what a crash has torn: bytes after the last line's end."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        tail = data[whole:]
        if not tail:
            return
        if _parsed(tail) is not None:  # whole, and its line's end was lost in an editor
            os.write(self._handle, b"\n")
        else:
            with (self.path.parent / _TORN).open("ab") as file:
                file.write(tail + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.ftruncate(self._handle, whole)
            log.warning(
                "%s: the last line was torn (%d bytes), as a crash does; it was never answered, and is now in %s",
                self.path,
                len(tail),
                self.path.parent / _TORN,
            )
        os.fsync(self._handle)

    def append(self, **said: Any) -> Verdict:
        """Write a verdict, so that it is on the disk when this returns.

        Parameters
        ----------
        **said
            Fields of `Verdict`, but for `seq` and `time`.

        Returns
        -------
        Verdict
            As it was written; the earlier one of the same key where there is one.

        Raises
        ------
        BuildError
            When the disk refuses; the file is as it was before.
        """
        with self._lock:
            known = self._by_key.get(said["key"])
            if known is not None:
                return known
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            verdict = Verdict(seq=self._seq + 1, time=now, **said)
            line = verdict.line()
            try:
                size = os.fstat(self._handle).st_size
                try:
                    if os.write(self._handle, line) < len(line):
                        raise OSError(0, "the disk is full")
                    os.fsync(self._handle)
                except OSError:
                    os.ftruncate(self._handle, size)
                    raise
            except OSError as error:
                raise self._refused(error) from error
            self._seq = verdict.seq
            self._verdicts.append(verdict)
            self._by_key[verdict.key] = verdict
            return verdict

    @property
    def seq(self) -> int:
        """Number of the newest verdict; 0 where there is none."""
        return self._seq

    def all(self) -> list[Verdict]:
        """Every verdict, the oldest first."""
        with self._lock:
            return list(self._verdicts)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            os.close(self._handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
