"""Which tracks may be the same song, going by tags and file names alone.

`metadata_candidates` joins a catalogue with itself. It never compares all tracks with all: tracks meet in blocks
that share an id, an artist, a title, or a word of the title and a duration; only pairs within a block are scored.
Audio decides later, so a candidate that is wrong costs time and one that is missing costs a pair.

Conventions
-----------
A pair has ``a < b`` (track ids as text). Titles and artists are compared by their keys (`curation.versions`); the
numbers in two titles must agree, so that *Part 1* never meets *Part 2*. Version labels are not looked at: the
caller says which versions may pair. Durations agree within `DURATION_SECONDS`.

Evidence and its weight; several pieces combine as ``1 - (1 - w1) * (1 - w2) * ...``:

================ =================================================================== =========================
``isrc``          equal ISRC                                                          0.98
``recording_mbid`` equal MusicBrainz recording                                         0.98
``work_mbid``     equal MusicBrainz work (covers share it too)                        0.7
``title+artist``  similar titles, a common or similar artist                          0.8 x title x artist
``title+duration`` similar titles, durations agree                                     0.6 x title x closeness
``filename``      equal names where a tag is missing, and the same folder, artist     0.6
                  or duration
================ =================================================================== =========================
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd
from rapidfuzz import fuzz
from rapidfuzz.process import cpdist

from curation.versions import artist_key, artist_names, label, title_key
from manifests.errors import TableError

__all__ = ["DURATION_SECONDS", "MAX_BLOCK", "metadata_candidates"]

DURATION_SECONDS = 2.0
"""Durations of one song's versions differ by no more (a study on training data, Deezer, step 2)."""

MAX_BLOCK = 200
"""In larger blocks a track meets only the `_NEIGHBOURS` next in duration."""

_NEIGHBOURS = 32
_TITLE_SIMILARITY = 0.85
_ARTIST_SIMILARITY = 0.88
_CONTAINED = 0.85
_WEIGHTS = {
    "isrc": 0.98,
    "recording_mbid": 0.98,
    "work_mbid": 0.7,
    "title+artist": 0.8,
    "title+duration": 0.6,
    "filename": 0.6,
}
_IDS = ("isrc", "recording_mbid", "work_mbid")
_CHUNK = 1 << 18
_NOBODY = frozenset(
    ["various artists", "various", "va", "unknown artist", "unknown", "artist", "none", "n a", "soundtrack"]
)
_ROLES = frozenset(
    ["accompaniment", "acapella", "acappella", "backing", "beat", "full", "inst", "instr", "instrumental"]
    + ["instrumentals", "karaoke", "main", "master", "masters", "minus", "mix", "mixes", "mixture", "mixtures"]
    + ["music", "original", "originals", "vocal", "vocals", "voice", "vox"]
)
_TRACK_NUMBER = re.compile(r"^(?:\d{1,2}[-.])?\d{1,3}(?:\s*[-._)]+\s*|\s+)(?=\D)")
_FILE_ID = re.compile(r"\[(?=[^\]]*\d)[\w-]{6,}\]")
_NUMERALS = frozenset(["ii", "iii", "iv", "vi", "vii", "viii", "ix"])

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Pairs = tuple[Ints, Ints]


def metadata_candidates(tracks: pd.DataFrame) -> pd.DataFrame:
    """Find the pairs of tracks that metadata holds for the same song.

    Memory grows with the tracks and the pairs found, not with the pairs compared.

    Parameters
    ----------
    tracks : pd.DataFrame
        Rows of the ``tracks`` table: ``track_id``, ``path``, ``num_frames``, ``sample_rate``, and of ``title``,
        ``song_title``, ``artist``, ``album_artist``, ``isrc``, ``recording_mbid``, ``work_mbid`` those there are.
        Of rows with one ``track_id`` (one content at several paths) the first counts.

    Returns
    -------
    pd.DataFrame
        ``a``, ``b`` (str, a < b), ``score`` (float, 0 to 1), ``evidence`` (str, joined by ``;``), sorted by a, b.

    Raises
    ------
    TableError
        If one of the first four columns is missing.
    """
    missing = {"track_id", "path", "num_frames", "sample_rate"}.difference(tracks.columns)
    if missing:
        raise TableError(f"tracks: columns {sorted(missing)} are missing; run 'stemloom scan' again")
    frame = tracks.drop_duplicates("track_id").sort_values("track_id", ignore_index=True)
    catalogue = _catalogue(frame)
    i, j = _unique(_candidates(catalogue), len(frame))
    scores, codes = _scored(catalogue, i, j)
    found = codes > 0
    ids = np.array(_texts(frame, "track_id"), dtype=object)
    return pd.DataFrame(
        {
            "a": pd.Series(ids[i[found]], dtype="str"),
            "b": pd.Series(ids[j[found]], dtype="str"),
            "score": scores[found],
            "evidence": pd.Series(_EVIDENCE[codes[found]], dtype="str"),
        }
    )


@dataclass(frozen=True)
class _Catalogue:
    """Comparable columns of the tracks, one entry per track; -1 and '' stand for nothing.

    `named` holds the tracks whose title comes from the file name, `places` where such a file lies.
    """

    titles: npt.NDArray[np.object_]
    sorted_titles: npt.NDArray[np.object_]
    title_ids: Ints
    numbers: Ints
    named: Bools
    places: Ints
    artists: list[frozenset[str]]
    main_artists: npt.NDArray[np.object_]
    seconds: Floats
    ids: dict[str, Ints]


def _catalogue(frame: pd.DataFrame) -> _Catalogue:
    tagged = _texts(frame, "title" if "title" in frame else "song_title")
    songs = _texts(frame, "song_title")
    names = [_FileName.of(path) for path in _texts(frame, "path")]
    titles = [
        title_key(song or label(title).song_title) if title.strip() else name.title
        for title, song, name in zip(tagged, songs, names, strict=True)
    ]
    named = np.array([not title.strip() for title in tagged], dtype=bool)
    credits = [
        [k for k in map(artist_key, (*artist_names(artist), *artist_names(album_artist))) if k not in _NOBODY]
        for artist, album_artist in zip(_texts(frame, "artist"), _texts(frame, "album_artist"), strict=True)
    ]
    artists = [
        frozenset(keys) or name.artists if unnamed else frozenset(keys)
        for keys, name, unnamed in zip(credits, names, named, strict=True)
    ]
    return _Catalogue(
        titles=np.array(titles, dtype=object),
        sorted_titles=np.array([" ".join(sorted(title.split())) for title in titles], dtype=object),
        title_ids=_numbered(titles),
        numbers=_numbered([_numbers(title) for title in titles], keep_empty=True),
        named=named,
        places=_numbered([name.place if unnamed else "" for name, unnamed in zip(names, named, strict=True)]),
        artists=artists,
        main_artists=np.array([keys[0] if keys else "" for keys in credits], dtype=object),
        seconds=(frame["num_frames"] / frame["sample_rate"]).to_numpy(dtype=np.float64, na_value=np.nan),
        ids={name: _numbered(_texts(frame, name)) for name in _IDS},
    )
