"""What an audio file's tags say: title, artists, album, genre, year and the ids that catalogues agree on.

Conventions
-----------
`read_tags` never raises: a file without tags gives empty `Tags`, a file whose tags are broken or unreadable
gives empty `Tags` with a `warning`. Text is cleaned (`clean`), an id that is not well formed is left out, and
a field that says nothing is ``None``. Several artists in one tag are joined by ``; ``.

Containers: ID3v1 and ID3v2.2 to 2.4 (mp3, wav, aiff), vorbis comments (flac, ogg, opus), MP4 atoms, RIFF
INFO, ASF. ISRC is read from TSRC, ``ISRC`` or ``----:com.apple.iTunes:ISRC``, MusicBrainz ids from where
Picard writes them (UFID or ``MUSICBRAINZ_TRACKID`` for the recording).

References
----------
IFPI, "International Standard Recording Code Handbook", 4th edition, 2021, section 3.
MusicBrainz Picard documentation, appendix B: tag mapping.
"""

import errno
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tinytag import TinyTag, UnsupportedFormatError

from manifests.errors import AudioError

__all__ = ["MAX_TEXT", "Tags", "clean", "parse_isrc", "parse_mbid", "parse_year", "read_tags"]

MAX_TEXT = 500
"""Longest text that is kept, in characters; longer ones are lyrics or binary in the wrong frame."""

Found = TypeVar("Found", int, str)

_ISRC = re.compile(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}")
_DATE = re.compile(r"(?<![0-9])(1[89][0-9]{2}|20[0-9]{2})(?:(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))?(?![0-9])")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_NIL_UUID = "00000000-0000-0000-0000-000000000000"
_MUSICBRAINZ_OWNER = "http://musicbrainz.org"
_RECORDING_KEYS = ("musicbrainz_trackid", "musicbrainz track id", "musicbrainz recording id")
_WORK_KEYS = ("musicbrainz_workid", "musicbrainz work id")
_YEAR_KEYS = ("date", "year", "originaldate", "originalyear", "original year", "tdor", "tory", "tdrl")


@dataclass(frozen=True)
class Tags:
    """Tags of one file.

    Parameters
    ----------
    title, artist, album_artist, album, genre : str, optional
        Cleaned, at most `MAX_TEXT` characters.
    year : int, optional
        1800 to 2099.
    isrc : str, optional
        Twelve characters, upper case, without dashes.
    recording_mbid, work_mbid : str, optional
        MusicBrainz ids of recording and work, lower case with dashes.
    warning : str, optional
        Why there are no tags although there should be.
    """

    title: str | None = None
    artist: str | None = None
    album_artist: str | None = None
    album: str | None = None
    genre: str | None = None
    year: int | None = None
    isrc: str | None = None
    recording_mbid: str | None = None
    work_mbid: str | None = None
    warning: str | None = None


def read_tags(path: Path) -> Tags:
    """Read the tags of an audio file; the audio itself is not looked at.

    Parameters
    ----------
    path : Path
        Any audio file. Its suffix is trusted first; where it misleads, the first bytes decide.

    Returns
    -------
    Tags
        Empty, with a `warning` that names the path and the cause, when the tags cannot be read.

    Raises
    ------
    AudioError
        When the disk does not give the file's bytes.
    """
    try:
        raw = _parse(path)
    # Tags are written by everybody, and a parser of broken bytes may fail in any way; none is worth the file.
    except Exception as error:
        # but for a disk that does not give them, which it may do the next time; a seek to nowhere is a parser's
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise AudioError(
                f"{path}: its tags cannot be read ({error.strerror}); check the disk, or copy the file again"
            ) from error
        cause = clean(str(error)) or type(error).__name__
        return Tags(warning=f"{path}: tags cannot be read ({cause}); the file counts as untagged")
    other = {key.casefold(): values for key, values in raw.other.items()}
    ufids = [u.removeprefix(_MUSICBRAINZ_OWNER) for u in other.get("ufid", ()) if u.startswith(_MUSICBRAINZ_OWNER)]
    return Tags(
        title=_text(raw.title),
        artist=_joined(raw.artist, other.get("artist", ())),
        album_artist=_joined(raw.albumartist, _values(other, "albumartist", "album artist", "album_artist")),
        album=_text(raw.album),
        genre=_text(raw.genre),
        year=_first(map(parse_year, [raw.year or "", *_values(other, *_YEAR_KEYS)])),
        isrc=_first(map(parse_isrc, _values(other, "isrc", "tsrc"))),
        recording_mbid=_first(map(parse_mbid, [*ufids, *_values(other, *_RECORDING_KEYS)])),
        work_mbid=_first(map(parse_mbid, _values(other, *_WORK_KEYS))),
    )


def clean(text: str) -> str:
    r"""Make text fit for a table: NFC, no control or format characters, single spaces, at most `MAX_TEXT`.

    Zero-width joiners stay, because Persian and Indic words need them. Cleaning twice changes nothing.

    Examples
    --------
    >>> clean("  Cafe\u0301\tdel\x00 Mar\u202e ")
    'Café del Mar'
    """
    spaced = (" " if c.isspace() else c for c in text)
    kept = "".join(
        c for c in spaced if c in "\u200c\u200d" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Cn"}
    )
    return " ".join(unicodedata.normalize("NFC", kept).split())[:MAX_TEXT].rstrip()


def parse_year(text: str) -> int | None:
    """Year of a date as tags write it (``1999``, ``1999-05-01``, ``19990501``, ``01.05.1999``), 1800 to 2099.

    Examples
    --------
    >>> parse_year("1999-05-01"), parse_year("99")
    (1999, None)
    """
    found = _DATE.search(text)
    return int(found[1]) if found else None


def parse_isrc(text: str) -> str | None:
    """Read the first well-formed ISRC in a tag as twelve upper-case characters; ``None`` if there is none.

    Examples
    --------
    >>> parse_isrc("us-s1z-99-00001")
    'USS1Z9900001'
    """
    for part in re.split(r"[;,/|\0]", text.upper()):
        code = re.sub(r"[^A-Z0-9]", "", part)
        code = code.removeprefix("ISRC") if len(code) > 12 else code
        if _ISRC.fullmatch(code):
            return code
    return None


def parse_mbid(text: str) -> str | None:
    """Read the first MusicBrainz id in a tag, lower case; ``None`` if there is none or it is the nil UUID.

    Examples
    --------
    >>> parse_mbid("{D6B2F8C0-1F3D-4E9A-9B3E-0A1B2C3D4E5F}")
    'd6b2f8c0-1f3d-4e9a-9b3e-0a1b2c3d4e5f'
    """
    found = _UUID.search(text.lower())
    return found[0] if found and found[0] != _NIL_UUID else None


def _parse(path: Path) -> TinyTag:
    with path.open("rb") as file:
        try:
            return TinyTag.get(file_obj=file, duration=False)
        except UnsupportedFormatError:
            # An mp3 may start with anything; only its suffix says what it is.
            if not TinyTag.is_supported(path):
                return TinyTag()
            file.seek(0)
            return TinyTag.get(path, file_obj=file, duration=False)


def _text(value: str | None) -> str | None:
    return clean(value or "") or None


def _joined(main: str | None, more: Iterable[str]) -> str | None:
    """Several values of one field as one text; those that the first already names are left out."""
    names: list[str] = []
    for name in (clean(value) for value in (main or "", *more)):
        if name and not any(name.casefold() in known.casefold() for known in names):
            names.append(name)
    return clean("; ".join(names)) or None


def _values(other: Mapping[str, Sequence[str]], *keys: str) -> list[str]:
    return [value for key in keys for value in other.get(key, ())]


def _first(values: Iterable[Found | None]) -> Found | None:
    return next((value for value in values if value is not None), None)
