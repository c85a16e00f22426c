"""Which tracks may be the same song, going by tags and file names alone.

`metadata_candidates` joins a catalogue with itself. It never compares all tracks with all: tracks meet in
blocks that share an id, an artist, a title, or a word of the title and a duration, and only pairs within a
block are scored. Audio decides later: a candidate that is wrong costs time, one that is missing costs a pair.

Conventions
-----------
A pair has ``a < b`` (track ids as text). Titles and artists are compared by their keys (`curation.versions`);
the numbers in two titles must agree, so that *Part 1* never meets *Part 2*. Version labels are not looked at:
the caller says which versions may pair. Durations agree within `DURATION_SECONDS`.

Evidence and its weight; several pieces combine as ``1 - (1 - w1) * (1 - w2) * ...``:

- ``isrc``, ``recording_mbid`` (0.98): equal ids;
- ``work_mbid`` (0.7): equal ids, which covers share;
- ``title+artist`` (0.8 x title x artist): similar titles, a common or similar artist. A title that holds all
  words of the other (a subtitle) counts 0.8 when an artist is common and the durations agree;
- ``title+duration`` (0.6 x title x closeness): similar titles, durations agree;
- ``filename`` (0.6): where a title tag is missing, equal names and the same folder, artist or duration.
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
_CONTAINED = 0.8
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
    [
        *(
            "accompaniment",
            "acapella",
            "acappella",
            "backing",
            "beat",
            "full",
            "inst",
            "instr",
            "instrumental",
        ),
        *("instrumentals", "karaoke", "main", "master", "masters", "minus", "mix", "mixes", "mixture"),
        *("mixtures", "music", "original", "originals", "vocal", "vocals", "voice", "vox"),
    ]
)
_TRACK_NUMBER = re.compile(r"^(?:\d{1,2}[-.])?\d{1,3}(?:\s*[-._)]+\s*|\s+)(?=\D)")
_FILE_ID = re.compile(r"\[(?=[^\]]*\d)[\w-]{6,}\]|\(\d\)$")
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
        Rows of the ``tracks`` table: ``track_id``, ``path``, ``num_frames``, ``sample_rate``, and those there
        are of ``title``, ``song_title``, ``artist``, ``album_artist``, ``isrc``, ``recording_mbid``,
        ``work_mbid``. Of rows with one ``track_id`` (one content at several paths) the first counts.

    Returns
    -------
    pd.DataFrame
        ``a``, ``b`` (str, a < b), ``score`` (float, 0 to 1), ``evidence`` (str, joined by ``;``), sorted by
        ``a`` and ``b``.

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
    named = np.array([not title.strip() for title in tagged], dtype=bool)
    names = {row: _FileName.of(path) for row, path in enumerate(_texts(frame, "path")) if named[row]}
    titles = [
        names[row].title if row in names else title_key(song or label(title).song_title)
        for row, (title, song) in enumerate(zip(tagged, _texts(frame, "song_title"), strict=True))
    ]
    credits = [
        [k for k in map(artist_key, (*artist_names(artist), *artist_names(album_artist))) if k not in _NOBODY]
        for artist, album_artist in zip(_texts(frame, "artist"), _texts(frame, "album_artist"), strict=True)
    ]
    artists = [
        frozenset(keys) or (names[row].artists if row in names else frozenset()) for row, keys in enumerate(credits)
    ]
    return _Catalogue(
        titles=np.array(titles, dtype=object),
        sorted_titles=np.array([" ".join(sorted(title.split())) for title in titles], dtype=object),
        title_ids=_numbered(titles),
        numbers=_numbered([_numbers(title) for title in titles], keep_empty=True),
        named=named,
        places=_numbered([names[row].place if row in names else "" for row in range(len(frame))]),
        artists=artists,
        main_artists=np.array([keys[0] if keys else "" for keys in credits], dtype=object),
        seconds=(frame["num_frames"] / frame["sample_rate"]).to_numpy(dtype=np.float64, na_value=np.nan),
        ids={name: _numbered(_texts(frame, name)) for name in _IDS},
    )


@dataclass(frozen=True)
class _FileName:
    """What a path says: a title key, the folders around it (roles left out), and keys of possible artists.

    ``Artist/Album/01 - Song (Instrumental).wav``, ``Artist - Song.wav``, ``instrumentals/song_inst.wav`` and
    ``Artist - Song/mixture.wav`` are understood.
    """

    title: str
    place: str
    artists: frozenset[str]

    @classmethod
    def of(cls, path: str) -> "_FileName":
        *folders, stem = PurePosixPath(path).with_suffix("").parts or ("",)
        folders = [folder for folder in folders if title_key(folder) not in _ROLES]
        artist, title = _artist_and_title(stem)
        if not title and folders:
            artist, title = _artist_and_title(folders.pop())
        artists = [artist, *folders[-2:-1]]
        return cls(
            title,
            "/".join(["", *folders]) or "/",
            frozenset(artist_key(a) for a in artists if a.strip()) - _NOBODY,
        )


def _artist_and_title(name: str) -> tuple[str, str]:
    """Artist as written and title key of a file's or folder's name, without number, id, version and role."""
    name = _FILE_ID.sub(" ", name).replace("_", " ").strip()
    song = label(_TRACK_NUMBER.sub("", name) or name).song_title
    artist, dash, title = song.partition(" - ")
    words = title_key(title if dash else song).split()
    while words and words[-1] in _ROLES:
        words.pop()
    while words and words[0] in _ROLES:
        words.pop(0)
    return artist if dash else "", " ".join(words)


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    if column not in frame:
        return [""] * len(frame)
    return [str(value) if isinstance(value, str) else "" for value in frame[column].tolist()]


def _numbers(title: str) -> str:
    return " ".join(word for word in title.split() if word in _NUMERALS or any(c.isdecimal() for c in word))


def _numbered(values: Sequence[str], *, keep_empty: bool = False) -> Ints:
    """One integer per distinct value; -1 for ''."""
    codes = pd.factorize(np.array(values, dtype=object))[0].astype(np.int64)
    return codes if keep_empty else np.where(np.array([bool(value) for value in values], dtype=bool), codes, -1)


def _candidates(catalogue: _Catalogue) -> Iterator[Pairs]:
    """Pairs that share an id, or that share a block and pass its test."""
    everyone = np.arange(len(catalogue.titles))
    seconds = catalogue.seconds
    for name, ids in catalogue.ids.items():
        yield from _meetings(everyone, ids, seconds, name)
    tagged = np.flatnonzero((catalogue.title_ids >= 0) & ~catalogue.named)
    counts = np.array([len(catalogue.artists[row]) for row in tagged], dtype=np.int64)
    rows = np.repeat(tagged, counts)
    artists = _numbered([artist for row in tagged for artist in sorted(catalogue.artists[row])])
    for i, j in _meetings(rows, artists, seconds, "artist"):
        similar = _title_similarity(catalogue, i, j, np.ones(len(i), dtype=bool)) > 0.0
        yield i[similar], j[similar]
    both = catalogue.title_ids[rows] * (artists.max(initial=0) + 1) + artists
    yield from _meetings(rows, both, seconds, "title and artist")
    yield from _within_large_artists(catalogue, rows, artists)
    for i, j in _meetings(everyone, catalogue.title_ids, seconds, "title"):
        supported = _agree(catalogue, i, j) | (_artist_similarity(catalogue, i, j) > 0.0)
        supported |= (catalogue.places[i] >= 0) & (catalogue.places[i] == catalogue.places[j])
        yield i[supported], j[supported]
    yield from _across_artists(catalogue, tagged)


def _within_large_artists(catalogue: _Catalogue, rows: Ints, artists: Ints) -> Iterator[Pairs]:
    """Similar titles of an artist whose block is over `MAX_BLOCK`: those that share a rare word."""
    large = np.bincount(artists, minlength=1)[artists] > MAX_BLOCK
    entries, words = _rare_words(catalogue.titles, rows[large])
    keys = words * (artists.max(initial=0) + 1) + artists[large][entries]
    for i, j in _meetings(rows[large][entries], keys, catalogue.seconds, "artist and word"):
        similar = _title_similarity(catalogue, i, j, np.ones(len(i), dtype=bool)) > 0.0
        yield i[similar], j[similar]


def _across_artists(catalogue: _Catalogue, rows: Ints) -> Iterator[Pairs]:
    """Similar titles of any artists: those that share a rare word and whose durations agree."""
    rows = rows[np.isfinite(catalogue.seconds[rows])]
    entries, words = _rare_words(catalogue.titles, rows)
    bins = np.floor(catalogue.seconds[rows[entries]] / DURATION_SECONDS).astype(np.int64)
    # Every track stands in its own bin and the next, so that no border parts two durations that agree.
    keys = words * (bins.max(initial=0) + 2) + bins
    keys, rows = np.concatenate([keys, keys + 1]), np.tile(rows[entries], 2)
    for i, j in _meetings(rows, keys, catalogue.seconds, "word and duration"):
        near = _agree(catalogue, i, j)
        i, j = i[near], j[near]
        similar = _title_similarity(catalogue, i, j, np.zeros(len(i), dtype=bool)) > 0.0
        yield i[similar], j[similar]


def _rare_words(titles: npt.NDArray[np.object_], rows: Ints) -> tuple[Ints, Ints]:
    """Position in `rows` and word of the two rarest words of each title: rarely are both misspelt."""
    split = [str(titles[row]).split() for row in rows]
    words = _numbered(list(chain.from_iterable(split)))
    counts = np.bincount(words, minlength=1)
    owners = np.repeat(np.arange(len(rows)), np.array([len(title) for title in split], dtype=np.int64))
    order = np.lexsort((words, counts[words], owners))
    owners, words = owners[order], words[order]
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    rank = np.arange(len(owners)) - np.repeat(firsts, np.diff(firsts, append=len(owners)))
    return owners[rank < 2], words[rank < 2]


def _meetings(rows: Ints, keys: Ints, seconds: Floats, what: str) -> Iterator[Pairs]:
    """Pairs of rows with one key (not -1), smaller row first; in large blocks those next in duration.

    The k-th yield pairs every entry with the k-th after it: no more than one pair per entry is held at once.
    """
    present = keys >= 0
    rows, keys = rows[present], keys[present]
    order = np.lexsort((seconds[rows], keys))
    rows, keys = rows[order], keys[order]
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    sizes = np.diff(firsts, append=len(keys))
    if (huge := sizes > MAX_BLOCK).any():
        logging.getLogger(__name__).warning(
            "metadata: %d blocks of one %s hold more than %d tracks (largest %d); there a track meets only "
            "the %d next in duration",
            int(huge.sum()),
            what,
            MAX_BLOCK,
            int(sizes.max()),
            _NEIGHBOURS,
        )
    reach = np.repeat(np.where(huge, _NEIGHBOURS, MAX_BLOCK), sizes)
    left = np.minimum(np.repeat(firsts + sizes, sizes) - np.arange(len(keys)) - 1, reach)
    here = np.flatnonzero(left > 0)
    step = 1
    while here.size:
        one, other = rows[here], rows[here + step]
        different = one != other
        yield np.minimum(one, other)[different], np.maximum(one, other)[different]
        step += 1
        here = here[left[here] >= step]


def _unique(found: Iterable[Pairs], num_tracks: int) -> Pairs:
    codes, waiting, held = np.empty(0, dtype=np.int64), list[Ints](), 0
    for i, j in found:
        waiting.append(i * num_tracks + j)
        held += len(i)
        if held > _CHUNK * 16:
            codes, waiting, held = np.unique(np.concatenate([codes, *waiting])), [], 0
    codes = np.unique(np.concatenate([codes, *waiting]))
    return codes // max(num_tracks, 1), codes % max(num_tracks, 1)


def _agree(catalogue: _Catalogue, i: Ints, j: Ints) -> Bools:
    return np.asarray(np.abs(catalogue.seconds[i] - catalogue.seconds[j]) <= DURATION_SECONDS)


def _title_similarity(catalogue: _Catalogue, i: Ints, j: Ints, shared_artist: Bools) -> Floats:
    """Similarity of the titles of pairs, 0 to 1; 0 below `_TITLE_SIMILARITY` but for subtitles."""
    equal = (catalogue.title_ids[i] == catalogue.title_ids[j]) & (catalogue.title_ids[i] >= 0)
    similarity: Floats = equal.astype(np.float64)
    open_ = np.flatnonzero(
        ~equal
        & (catalogue.numbers[i] == catalogue.numbers[j])
        & ~(catalogue.named[i] | catalogue.named[j])
        & (catalogue.title_ids[i] >= 0)
        & (catalogue.title_ids[j] >= 0)
    )
    for titles in (catalogue.titles, catalogue.sorted_titles):
        ratio = _ratio(fuzz.ratio, titles[i[open_]], titles[j[open_]], _TITLE_SIMILARITY)
        similarity[open_] = np.maximum(similarity[open_], ratio)
    agree = _agree(catalogue, i[open_], j[open_])
    rest = open_[(similarity[open_] == 0.0) & shared_artist[open_] & agree]
    held = _ratio(fuzz.token_set_ratio, catalogue.titles[i[rest]], catalogue.titles[j[rest]], 1.0)
    similarity[rest] = _CONTAINED * held
    return similarity


def _artist_similarity(catalogue: _Catalogue, i: Ints, j: Ints) -> Floats:
    """1 where an artist is common, else the similarity of the main artists; 0 below `_ARTIST_SIMILARITY`."""
    artists = catalogue.artists
    shared = [not artists[a].isdisjoint(artists[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    similarity = np.array(shared, dtype=np.float64)
    main = catalogue.main_artists
    rest = np.flatnonzero((similarity == 0.0) & (main[i] != "") & (main[j] != ""))
    similarity[rest] = _ratio(fuzz.ratio, main[i[rest]], main[j[rest]], _ARTIST_SIMILARITY)
    return similarity


def _ratio(
    scorer: Callable[..., float], left: npt.NDArray[np.object_], right: npt.NDArray[np.object_], least: float
) -> Floats:
    """Scores of pairs of texts, 0 to 1, those under `least` as 0."""
    if not len(left):
        return np.zeros(0)
    scores = cpdist(list(left), list(right), scorer=scorer, score_cutoff=100.0 * least, dtype=np.float64)
    fractions: Floats = np.asarray(scores, dtype=np.float64) / 100.0
    return fractions


def _scored(catalogue: _Catalogue, i: Ints, j: Ints) -> tuple[Floats, Ints]:
    """Score and evidence of pairs; the evidence as a sum of powers of two in the order of `_WEIGHTS`."""
    parts = [
        _scored_chunk(catalogue, i[start : start + _CHUNK], j[start : start + _CHUNK])
        for start in range(0, len(i), _CHUNK)
    ]
    if not parts:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    return np.concatenate([scores for scores, _ in parts]), np.concatenate([codes for _, codes in parts])


def _scored_chunk(catalogue: _Catalogue, i: Ints, j: Ints) -> tuple[Floats, Ints]:
    artist = _artist_similarity(catalogue, i, j)
    title = _title_similarity(catalogue, i, j, artist == 1.0)
    agree = _agree(catalogue, i, j)
    gap = np.where(agree, np.abs(catalogue.seconds[i] - catalogue.seconds[j]), DURATION_SECONDS)
    named = catalogue.named[i] | catalogue.named[j]
    same_place = (catalogue.places[i] >= 0) & (catalogue.places[i] == catalogue.places[j])
    strengths = {
        **{name: ((ids[i] >= 0) & (ids[i] == ids[j])).astype(np.float64) for name, ids in catalogue.ids.items()},
        "title+artist": np.where(named, 0.0, title * artist),
        "title+duration": np.where(
            agree & ~named & (title >= _TITLE_SIMILARITY), title * (1.0 - gap / (2.0 * DURATION_SECONDS)), 0.0
        ),
        "filename": (named & (title > 0.0) & (same_place | agree | (artist > 0.0))).astype(np.float64),
    }
    unlikely = np.ones(len(i))
    codes = np.zeros(len(i), dtype=np.int64)
    for bit, (name, weight) in enumerate(_WEIGHTS.items()):
        unlikely *= 1.0 - weight * strengths[name]
        codes += (strengths[name] > 0.0).astype(np.int64) << bit
    return 1.0 - unlikely, codes


_EVIDENCE = np.array(
    [";".join(name for bit, name in enumerate(_WEIGHTS) if code >> bit & 1) for code in range(1 << len(_WEIGHTS))],
    dtype=object,
)
