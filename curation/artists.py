"""Which songs share an artist, so that no artist is on both sides of a split.

A separator remembers voices, so a test song whose singer was in training says too much. `artist_groups` joins
songs into groups that share nobody. Everybody named in ``artist`` and ``album_artist`` counts, featured or not.

What joins
----------
Names are compared by `curation.versions.artist_key`: case, accents, punctuation and *the* do not count. A credit
is taken apart at ``feat.``, ``with``, ``&``, *and*, ``x``, ``vs.``, ``+``, commas, semicolons and slashes, and the
whole of its main part remains a name beside its parts. Nobody can tell *Simon & Garfunkel* from *Simon* and
*Garfunkel*, therefore both are joined: a song too many in a group costs little, one too few is a leak.
A bracket of at least two words, or one that starts with ``feat.``, ``with`` or ``aka``, names another artist; a
shorter one tells namesakes apart (*Nirvana (UK)*).

What does not join: names that stand for nobody (`NOBODY`, and those given), and parts such as *friends* or *his
orchestra*, which say nothing apart from who they follow.

Real catalogues hold one large group: collaborations connect most artists of a genre. `curation.splits` keeps a
group that is too large for a split out of it.

References
----------
Flexer, "A closer look on artist filters for musical genre classification", ISMIR 2007.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from curation.versions import artist_key
from manifests.errors import RecipeError, TableError

__all__ = ["NOBODY", "artist_groups", "by_song_id", "merge_groups"]

Ints = npt.NDArray[np.int64]

log = logging.getLogger(__name__)


def _keys(names: str) -> frozenset[str]:
    return frozenset(artist_key(name) for name in names.split("|"))


NOBODY = _keys(
    """
    various artists | various | various artist | various performers | various interprets | va | v.a. | v/a
    | multiple artists | diverse | diverse artists | diverse interpreten | verschiedene interpreten
    | verschiedene | artistes divers | artistes variés | divers | artisti vari | aa.vv. | varios artistas
    | varios | artistas varios | vários artistas | vários intérpretes | varios interpretes | diverse artiesten
    | blandade artister | diverse artister | eri esittäjiä | różni wykonawcy | různí | çeşitli sanatçılar
    | сборник | разные исполнители | разные | 群星 | 合辑 | オムニバス | ヴァリアス・アーティスト
    | 여러 아티스트 | compilation | unknown artist | unknown | unknown artists | unbekannt
    | unbekannter künstler | artiste inconnu | inconnu | artista desconocido | desconocido
    | artista desconhecido | artista sconosciuto | onbekende artiest | okänd artist | неизвестный исполнитель
    | неизвестен | 不明 | 未知 | 未知艺术家 | 佚名 | artist | artists | no artist | none | null | nan | n/a
    | na | untitled | anonymous | anonymus | anonyme | anónimo | anon | traditional | trad | soundtrack
    | original soundtrack | ost | original cast | original broadway cast | cast | karaoke | all artists | tba
    | tbd | &"""
)
"""Keys of names that stand for nobody, or for anybody: they join no songs."""

# Parts that belong to the name before them.
_FOLLOWERS = _keys(
    """
    the | jr | jr. | sr | sr. | ii | iii | friends | friend | guests | guest | others | more | many more | co
    | company | sons | son | daughters | brothers | sisters | family | band | the band | the gang | gang
    | group | orchestra | orchester | orchestre | orquesta | orchestra and chorus | strings | ensemble | trio
    | quartet | quintet | choir | chorus | chor | choeur | coro | crew | all stars | dj | mc | remix | remixes
    | amigos | amis | freunde | vänner | музыканты | друзья | оркестр | хор"""
)
_FOLLOWER = re.compile(r"(?:his|her|their|su|sus|sein|seine|ihre?|son|ses|suo|seu) ")
_NAMELESS = re.compile(r"[-_?.*/~=#\s]*")
_GUESTS = re.compile(r"[\s([]+(?:feat\.?|ft\.?|f/|featuring|starring)\s+", re.IGNORECASE)
_BRACKET = re.compile(
    r"[(\[（]\s*(?P<opener>(?:with|w/|aka|a\.k\.a\.?|cv[:.：]?|vs\.?|&|and)\s+)?(?P<inside>[^)\]）]*)[)\]）]?",
    re.IGNORECASE,
)
# Blanks after a separator stay, so that the next one (", and ") finds them before it.
_SEPARATOR = re.compile(
    r"""[;；、|\0] | (?<!\d)[,，] | [,，](?!\d) | (?<=[^/]{3})[/／](?=[^/]{3})
    | \s(?:&|＆|\+|x|×|/|／|and|with|w/|vs\.?|versus|pres\.?|presents|y|e|et|und|och|og|и|і)(?=\s)""",
    re.IGNORECASE | re.VERBOSE,
)


def artist_groups(
    songs: pd.DataFrame, *, aliases: Mapping[str, str] | None = None, ignore: Iterable[str] = ()
) -> pd.Series[str]:
    """Groups of songs such that songs of two groups have no artist in common.

    A group's id is made of the smallest key among the main credits of its songs. So it depends on no order, and new
    songs change it only when they add to a group a main credit that sorts before all of its own, or join two
    groups.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``song_id``, ``artist`` and, where there is one, ``album_artist``; the latter two may be null.
    aliases : mapping of str to str, optional
        Name to another name of the same artist, in either direction: ``{"Ye": "Kanye West"}``.
    ignore : iterable of str
        Names that join nobody, besides `NOBODY`: the label or uploader whom a catalogue credits everywhere.

    Returns
    -------
    pd.Series of str
        ``group``, indexed by song id in ascending order: ``artist-`` and 16 hexadecimal digits. A song that names
        no artist is a group of its own, ``song-`` and 16 digits; how many there are is logged.

    Raises
    ------
    RecipeError
        If an alias is empty or stands for nobody: it would join strangers.
    TableError
        If a column is missing, a song id is null or there twice, or an artist is no text.

    Examples
    --------
    >>> songs = pd.DataFrame({"song_id": ["1", "2", "3"], "artist": ["Ann", "Bob feat. ANN", "Cleo"]})
    >>> groups = artist_groups(songs)
    >>> groups["1"] == groups["2"], groups["1"] == groups["3"]
    (True, False)
    """
    songs = by_song_id(songs, "artist")
    nobody = NOBODY | {artist_key(name) for name in ignore}
    columns = [songs[column] for column in ("artist", "album_artist") if column in songs]
    codes, credits = pd.factorize(pd.concat(columns))
    names = _Names({}, [])
    # A null has the code -1, which takes the last.
    numbers = np.array([*(names.join(_keys_of(credit, nobody)) for credit in credits), -1], dtype=np.int64)
    for alias, name in (aliases or {}).items():
        names.join([_alias_key(alias, nobody), _alias_key(name, nobody)])
    mains = numbers[codes].reshape(len(columns), len(songs))
    main = np.where(mains[0] >= 0, mains[0], mains[-1])
    named = main >= 0

    albums = mains[:, (mains >= 0).all(axis=0)][[0, -1]].T
    component = _components(np.concatenate([np.array(names.links, dtype=np.int64).reshape(-1, 2), albums]), names)
    smallest: dict[int, str] = {}
    keys = list(names.number)
    for key, number in sorted((keys[number], number) for number in np.unique(main[named]).tolist()):
        smallest.setdefault(int(component[number]), key)
    ids = {group: f"artist-{_digest(key)}" for group, key in smallest.items()}

    groups = np.empty(len(songs), dtype=object)
    groups[named] = [ids[group] for group in component[main[named]].tolist()]
    groups[~named] = [f"song-{_digest(song_id)}" for song_id in songs.index[~named]]
    log.info("%d songs of %d artist groups; %d more name no artist", named.sum(), len(ids), (~named).sum())
    return pd.Series(groups, index=songs.index, name="group", dtype="str")


def merge_groups(groups: pd.Series[str], links: Iterable[tuple[str, str]]) -> pd.Series[str]:
    """Join the groups of songs that must not be apart.

    Parameters
    ----------
    groups : pd.Series of str
        Group of every song, indexed by song id, as `artist_groups` makes them.
    links : iterable of (str, str)
        Ids of two songs each: two recordings of one performance, for example.

    Returns
    -------
    pd.Series of str
        The same songs; joined groups have the smallest of their ids.

    Raises
    ------
    TableError
        If a song of a link has no group.
    """
    pairs = list(links)
    missing = sorted({song for pair in pairs for song in pair} - set(groups.index))
    if missing:
        raise TableError(f"groups: song '{missing[0]}' of a link has no group; give the groups of all songs")
    if not pairs:
        return groups
    codes, names = pd.factorize(groups, sort=True)
    rows = groups.index.get_indexer(pd.Index([song for pair in pairs for song in pair])).reshape(-1, 2)
    a, b = codes[rows].T
    graph = scipy.sparse.coo_matrix((np.ones(len(a)), (a, b)), (len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    # names are sorted, so the first of a component is its smallest
    _, first = np.unique(component, return_index=True)
    return pd.Series(names[first[component[codes]]].to_numpy(), index=groups.index, name="group", dtype="str")


def by_song_id(songs: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Songs indexed by their ids, in ascending order, once it is sure that what is needed is there.

    Parameters
    ----------
    songs : pd.DataFrame
        One row per song, in any order.
    *columns : str
        What is needed besides ``song_id``. With ``seconds``, lengths are checked.

    Returns
    -------
    pd.DataFrame
        All other columns of `songs`.

    Raises
    ------
    TableError
        If a column is missing, a song id is null, no text or there twice, or a length is not finite and above 0.
    """
    for column in ("song_id", *columns):
        if column not in songs:
            raise TableError(f"songs: column '{column}' is missing; make the table of songs from stems again")
    ids = songs["song_id"]
    if ids.isna().any() or (len(ids) and pd.api.types.infer_dtype(ids) != "string"):
        raise TableError("songs: a song_id is null or no text; give every song an id")
    if not ids.is_unique:
        raise TableError(f"songs: song_id {ids[ids.duplicated()].iloc[0]!r} is there twice; keep one row per song")
    frame = songs.set_index("song_id")
    frame = frame if frame.index.is_monotonic_increasing else frame.sort_index()
    if "seconds" in columns:
        seconds = frame["seconds"].to_numpy(dtype=np.float64, na_value=np.nan)
        wrong = np.flatnonzero(~(np.isfinite(seconds) & (seconds > 0)))
        if len(wrong):
            raise TableError(
                f"songs: song {frame.index[wrong[0]]!r} has seconds {seconds[wrong[0]]}; expected a length above 0"
            )
    return frame


@dataclass(frozen=True)
class _Names:
    """Keys of names by number, and which of them are joined."""

    number: dict[str, int]
    links: list[tuple[int, int]]

    def join(self, keys: Sequence[str]) -> int:
        """Join names; the number of the first, or -1 when there is none."""
        numbers = [self.number.setdefault(key, len(self.number)) for key in keys]
        self.links.extend((numbers[0], other) for other in numbers[1:])
        return numbers[0] if numbers else -1


def _keys_of(credit: object, nobody: Set[str]) -> list[str]:
    """Keys of the names in a credit, each once; first that of the whole main part, if it names somebody."""
    if not isinstance(credit, str):
        raise TableError(f"songs: an artist is {credit}; write artists as text, or null")
    main, *guests = _GUESTS.split(credit)
    whole = _BRACKET.sub(" ", main).strip() or main
    guests += [found["inside"] for found in _BRACKET.finditer(main) if found["opener"] or " " in found["inside"]]
    parts = _SEPARATOR.split(whole)
    whole_key = artist_key(whole)
    if len(parts) == 1 and not guests:
        return [whole_key] if _is_somebody(whole_key, nobody) else []
    main_keys = _keys_of_parts(parts)
    keys = main_keys + [key for guest in guests for key in _keys_of_parts(_SEPARATOR.split(guest))]
    # Two nobodies ("Various; Unknown") are nobody, too.
    whole_keys = [whole_key] if any(_is_somebody(key, nobody) for key in main_keys) else []
    keys = whole_keys + [key for key in keys if key not in _FOLLOWERS and not _FOLLOWER.match(key)]
    return list(dict.fromkeys(key for key in keys if _is_somebody(key, nobody)))


def _keys_of_parts(parts: Iterable[str]) -> list[str]:
    return [artist_key(part.strip(" )]）")) for part in parts]


def _is_somebody(key: str, nobody: Set[str]) -> bool:
    return key not in nobody and not _NAMELESS.fullmatch(key)


def _alias_key(name: str, nobody: Set[str]) -> str:
    key = artist_key(name)
    if not _is_somebody(key, nobody):
        raise RecipeError(f"aliases: {name!r} stands for nobody and would join strangers; remove it")
    return key


def _components(links: Ints, names: _Names) -> Ints:
    """The connected component of every name."""
    size = len(names.number)
    edges = scipy.sparse.coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(size, size))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
