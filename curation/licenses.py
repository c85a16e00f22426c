"""Licences: what a tag or a person's text calls one, and the licences of the songs of a corpus.

A song is under the licences of all of its stems, and of the tracks that they were made of as far as those state
one. A stem that states none, made of tracks that do not all state one, has an unknown licence, and so has its song:
who made the recording has all rights, and nobody may pass it on. This is book-keeping, not advice: whether a
licence holds is for people to judge.

References
----------
SPDX licence list, https://spdx.org/licenses/: the names. Hugging Face Hub, "Licenses",
https://huggingface.co/docs/hub/repositories-licenses: the names in dataset cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

__all__ = [
    "SEPARATOR",
    "License",
    "LicenseRow",
    "joined_licenses",
    "license_table",
    "normalise_license",
    "stem_licenses",
    "unlicensed_songs",
]

UNKNOWN = "unknown"
"""What stands for a licence that nobody stated."""

SEPARATOR = "; "
"""Between the licences that a mixed stem states: those of all that it was mixed of."""

_PARTS = {
    "attribution": "by",
    "by": "by",
    "noncommercial": "nc",
    "nc": "nc",
    "noderivatives": "nd",
    "noderivs": "nd",
    "nd": "nd",
    "sharealike": "sa",
    "sa": "sa",
}
_URL = re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", re.IGNORECASE)
_ZERO = re.compile(r"creativecommons\.org/publicdomain/zero|\bcc[\s_-]*0\b|\bcc[\s_-]*zero\b", re.IGNORECASE)
_PUBLIC_DOMAIN = re.compile(r"publicdomain/mark|\bpublic[\s-]domain\b", re.IGNORECASE)
_COMMONS = re.compile(r"\bcc\b|creative\s*commons|\battribution\b", re.IGNORECASE)
_VERSION = re.compile(r"\b([1-4]\.[05])\b")
_RESERVED = re.compile(r"all\s+rights\s+reserved|\(c\)|\(p\)|[©℗]|^copyright\b", re.IGNORECASE)
_MAX_CHARACTERS = 80

# Identifiers of the Hub, besides "other", "unknown" and "cc" for a Creative Commons licence without its version.
_HUB = frozenset(
    {
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "apache-2.0",
        "mit",
        "odbl",
        "odc-by",
        "pddl",
    }
)
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "odbl": "ODbL-1.0", "odc-by": "ODC-By-1.0", "pddl": "PDDL-1.0"}
_SPELLINGS = {"apache 2.0": "apache-2.0", "apache license 2.0": "apache-2.0", "mit license": "mit"} | {
    spdx.lower(): hub for hub, spdx in _SPDX.items()
}


@dataclass(frozen=True)
class License:
    """A licence, as far as its text tells.

    Attributes
    ----------
    name : str
        The SPDX identifier where there is one (``CC-BY-NC-4.0``), else the text that was given.
    hub : str
        Its identifier on the Hugging Face Hub; ``cc`` for Creative Commons of no stated version, ``other`` for
        what the Hub has no name for.
    url : str or None
        Of its text.
    forbids_sale : bool
        NonCommercial.
    forbids_change : bool
        NoDerivatives: stems and clips made of the recording may not be passed on.
    is_reserved : bool
        All rights are reserved: nothing may be passed on.
    """

    name: str
    hub: str
    url: str | None = None
    forbids_sale: bool = False
    forbids_change: bool = False
    is_reserved: bool = False


@dataclass(frozen=True)
class LicenseRow:
    """Songs of one licence (or None) and one origin (the provenance of their stems), and how much it is."""

    license: License | None
    provenance: str
    songs: int
    hours: float
    artists: int


def normalise_license(text: str | None) -> License | None:
    """Recognise a licence.

    Parameters
    ----------
    text : str or None
        An SPDX identifier, a Creative Commons address or name, or what a tag says.

    Returns
    -------
    License or None
        None when there is no text, or it says that the licence is unknown.

    Examples
    --------
    >>> normalise_license("http://creativecommons.org/licenses/by-nc-sa/3.0/").name
    'CC-BY-NC-SA-3.0'
    >>> normalise_license("Creative Commons Attribution 4.0 International").hub
    'cc-by-4.0'
    >>> normalise_license(" ") is None
    True
    """
    text = " ".join((text or "").split())
    if not text or text.lower() in {UNKNOWN, "none", "n/a", "null", "?"}:
        return None
    if _ZERO.search(text):
        return License("CC0-1.0", "cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/")
    if found := _URL.search(text):
        return _commons(found[1].lower().split("-"), found[2])
    known = _SPELLINGS.get(text.lower(), text.lower())
    if known in _SPDX:
        return License(_SPDX[known], known, f"https://spdx.org/licenses/{_SPDX[known]}.html")
    if _COMMONS.search(text):
        letters = re.sub(r"non[\s-]*commercial", "noncommercial", text.lower())
        letters = re.sub(r"no[\s-]*deriv(ative)?s?(\s*works)?", "nd", letters)
        letters = re.sub(r"share[\s-]*alike", "sharealike", letters)
        parts = [_PARTS[word] for word in re.findall(r"[a-z]+", letters) if word in _PARTS]
        version = _VERSION.search(text)
        return _commons(parts, version[1] if version else None)
    if _PUBLIC_DOMAIN.search(text):
        return License("public domain", "other", "https://creativecommons.org/publicdomain/mark/1.0/")
    if _RESERVED.search(text):
        return License("all rights reserved", "other", is_reserved=True)
    return License(text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…", "other")


def _commons(parts: Iterable[str], version: str | None) -> License:
    found = set(parts)
    if not found & {"by", "nc", "nd", "sa"}:
        return License("Creative Commons", "cc", "https://creativecommons.org/licenses/")
    elements = ["by", *(part for part in ("nc", "nd", "sa") if part in found)]
    code = "-".join(elements)
    name = f"cc-{code}" + (f"-{version}" if version else "")
    url = f"https://creativecommons.org/licenses/{code}/{version}/" if version else None
    hub = name if name in _HUB else "cc"
    return License(name.upper(), hub, url, "nc" in found, "nd" in found)


def joined_licenses(licenses: Iterable[License | None]) -> str | None:
    """What a stem states that is mixed of stems with these licences; `stem_licenses` takes it apart again.

    Parameters
    ----------
    licenses : iterable of License or None

    Returns
    -------
    str or None
        Their names, sorted, with `SEPARATOR` between them; None where one of them is unknown, or there are none.
    """
    names: set[str] = set()
    for license in licenses:
        if license is None:
            return None
        names.add(license.name.replace(";", ","))
    return SEPARATOR.join(sorted(names)) or None


def stem_licenses(stems: pd.DataFrame, tracks: pd.DataFrame) -> list[frozenset[License | None]]:
    """The licences of each stem: those that it states, and those of the tracks that it was made of.

    Parameters
    ----------
    stems : pd.DataFrame
        The stems table.
    tracks : pd.DataFrame
        The tracks table: what `parents` of the stems name, and the licences of those.

    Returns
    -------
    list of frozenset of License or None
        In the order of the rows. None stands for an unknown licence: the stem states none, and not all of its
        tracks do.
    """
    licenses = {text: normalise_license(text) for text in {*stems["license"].dropna(), *tracks["license"].dropna()}}
    stated = zip(tracks["track_id"], tracks["license"], strict=True)
    of_track = {track_id: None if pd.isna(text) else licenses[text] for track_id, text in stated}
    found: list[frozenset[License | None]] = []
    for text, parents, provenance in zip(
        *(stems[column].to_list() for column in ("license", "parents", "provenance")), strict=True
    ):
        if provenance == "mixed" and not pd.isna(text):
            own = {normalise_license(part) for part in text.split(SEPARATOR)}
        else:
            own = {None if pd.isna(text) else licenses[text]}
        of_parents = [of_track.get(parent) for parent in ("" if pd.isna(parents) else parents).split(";")]
        known: set[License | None] = {parent for parent in of_parents if parent is not None}
        if own != {None} or None in of_parents:
            known |= own
        found.append(frozenset(known))
    return found


def license_table(stems: pd.DataFrame, tracks: pd.DataFrame) -> list[LicenseRow]:
    """The licences of a corpus's songs, by where their stems come from.

    Parameters
    ----------
    stems : pd.DataFrame
        The stems table.
    tracks : pd.DataFrame
        The tracks table: what `parents` of the stems name, and the licences of those.

    Returns
    -------
    list of LicenseRow
        Songs without a licence first, then by hours. A song of several licences counts under each of them.
    """
    groups: dict[tuple[License | None, str], list[_Song]] = {}
    for song in _songs(stems, tracks):
        for license in song.licenses:
            groups.setdefault((license, ", ".join(sorted(song.provenances))), []).append(song)
    rows = [
        LicenseRow(
            license,
            provenance,
            len(songs),
            sum(song.seconds for song in songs) / 3600,
            len({artist for song in songs for artist in song.artists}),
        )
        for (license, provenance), songs in groups.items()
    ]
    return sorted(rows, key=_place)


def unlicensed_songs(rows: Iterable[LicenseRow]) -> int:
    """How many songs of a table of licences have none."""
    return sum(row.songs for row in rows if row.license is None)


def _place(row: LicenseRow) -> tuple[bool, float, str, str]:
    return (row.license is not None, -row.hours, row.license.name if row.license else "", row.provenance)


@dataclass
class _Song:
    licenses: set[License | None] = field(default_factory=set)
    provenances: set[str] = field(default_factory=set)
    artists: set[str] = field(default_factory=set)
    seconds: float = 0.0


def _songs(stems: pd.DataFrame, tracks: pd.DataFrame) -> Iterable[_Song]:
    """What the stems of each song say."""
    columns = ("song_id", "provenance", "artist", "num_frames", "sample_rate")
    songs: dict[str, _Song] = {}
    for licenses, song_id, provenance, artist, num_frames, sample_rate in zip(
        stem_licenses(stems, tracks), *(stems[column].to_list() for column in columns), strict=True
    ):
        song = songs.setdefault(song_id, _Song())
        song.licenses.update(licenses)
        song.provenances.add(provenance)
        if not pd.isna(artist):
            song.artists.add(artist)
        song.seconds = max(song.seconds, num_frames / sample_rate)
    return songs.values()
