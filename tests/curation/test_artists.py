"""Artist groups against pairs that people would join or keep apart, and against a plain union-find."""

import logging
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.artists import NOBODY, artist_groups, merge_groups
from curation.versions import artist_key
from manifests.errors import RecipeError, TableError


def songs_of(*credits: str | None, albums: tuple[str | None, ...] | None = None) -> pd.DataFrame:
    """A song for each credit, named 0, 1, ..."""
    frame = pd.DataFrame(
        {"song_id": [str(i) for i in range(len(credits))], "artist": pd.Series(credits, dtype="string")}
    )
    return frame if albums is None else frame.assign(album_artist=pd.Series(albums, dtype="string"))


def joined(one: str | None, other: str | None, **options: Any) -> bool:
    return artist_groups(songs_of(one, other), **options).nunique() == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Beatles", "beatles"),
        ("Beatles, The", "The Beatles"),
        ("BEYONCÉ", "Beyonce"),
        ("Sigur Rós", "SIGUR ROS"),
        ("P!nk", "P!NK"),
        ("AC/DC", "ac-dc"),
        ("Ann feat. Bob", "Bob"),
        ("Ann ft. Bob", "Bob"),
        ("Ann Ft Bob", "Bob"),
        ("Ann featuring Bob & Cleo", "Cleo"),
        ("Ann (feat. Bob)", "Bob"),
        ("Ann [ft. Bob, Cleo]", "Cleo"),
        ("Ann feat. Bob", "Cleo feat. Bob"),
        ("Ann with Bob", "Bob"),
        ("Ann (with Bob)", "Bob"),
        ("Ann & Bob", "Bob"),
        ("Ann and Bob", "Bob"),
        ("Ann And Bob", "Ann & Bob"),
        ("Ann x Bob", "Bob"),
        ("Ann X Bob", "Bob"),
        ("Ann × Bob", "Bob"),
        ("Ann vs. Bob", "Bob"),
        ("Ann vs Bob", "Bob"),
        ("Ann + Bob", "Bob"),
        ("Ann, Bob", "Bob"),
        ("Ann,Bob", "Bob"),
        ("Ann; Bob", "Bob"),
        ("Ann / Bob", "Bob"),
        ("Annika/Robert", "Robert"),
        ("Ana y Beto", "Beto"),
        ("Anne et Bernard", "Bernard"),
        ("Anna und Bernd", "Bernd"),
        ("Crosby, Stills, Nash, & Young", "Young"),
        ("Crosby, Stills, Nash & Young", "Crosby, Stills & Nash"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("Simon & Garfunkel", "Garfunkel"),
        ("Earth, Wind & Fire", "EARTH, WIND & FIRE"),
        ("Bob Ray & The Roads", "Bob Ray"),
        ("The Easton Ellises (Baumi)", "The Easton Ellises"),
        ("Ye (Kanye West)", "Kanye West"),
        ("Ye (aka Kanye)", "Kanye"),
        ("Various Artists feat. Bob", "Bob"),
        ("Actions", "Actions"),
        ("!!!", "!!!"),
        ("Кино & Бутусов", "Бутусов"),
        ("宇多田ヒカル、椎名林檎", "椎名林檎"),
    ],
)
def test_songs_with_an_artist_in_common_are_joined(one: str, other: str) -> None:
    assert joined(one, other)
    assert joined(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann", "Bob"),
        ("Ann", "Anna"),
        ("Ann feat. Bob", "Cleo feat. Dora"),
        ("Nirvana (UK)", "Oasis (UK)"),
        ("AC/DC", "DC"),
        ("10,000 Maniacs", "10"),
        ("Malcolm X", "X"),
        ("Bob & Friends", "Ann & Friends"),
        ("Bob and His Orchestra", "Ann and His Orchestra"),
        ("Harry Bob, Jr.", "Sammy Ann, Jr."),
        ("The Ann", "The Bob"),
        ("Various Artists", "Various Artists"),
        ("Various", "Various Artists; Various"),
        ("Ann feat. Various Artists", "Bob feat. Various Artists"),
        ("Ann & Unknown", "Unknown Artist"),
        ("Unknown Artist", "unknown artist"),
        ("[unknown]", "[unknown]"),
        ("V.A.", "VA"),
        ("Verschiedene Interpreten", "Verschiedene Interpreten"),
        ("群星", "群星"),
        ("Traditional", "Traditional"),
        ("", ""),
        (" ", " "),
        ("-", "-"),
        ("???", "???"),
        ("&", "&"),
        (None, None),
    ],
)
def test_songs_without_an_artist_in_common_stay_apart(one: str | None, other: str | None) -> None:
    assert not joined(one, other)


def test_album_artists_join_their_albums() -> None:
    songs = songs_of("Ann", "Bob", "Cleo", None, albums=("Dora", "DORA", None, "Dora"))
    groups = artist_groups(songs)
    assert groups["0"] == groups["1"] == groups["3"] != groups["2"]


@pytest.mark.parametrize("count", [255, 256, 512])
def test_an_album_of_any_length_is_one_group(count: int) -> None:
    assert artist_groups(songs_of(*["Ann"] * count, albums=("Bob",) * count)).nunique() == 1


def test_various_album_artists_join_nobody() -> None:
    songs = songs_of("Ann", "Bob", None, None, albums=("Various Artists",) * 4)
    assert artist_groups(songs).nunique() == 4


@pytest.mark.parametrize(
    "aliases", [{"Ye": "Kanye West"}, {"kanye west": "YE"}, {"Ye": "Yeezy", "Yeezy": "Kanye West"}]
)
def test_aliases_join_in_either_direction(aliases: dict[str, str]) -> None:
    assert not joined("Ye", "Bob feat. Kanye West")
    assert joined("Ye", "Bob feat. Kanye West", aliases=aliases)
    assert not joined("Ann", "Bob", aliases=aliases)


@pytest.mark.parametrize("alias", [{"": "Ann"}, {"Ann": " "}, {"Various Artists": "Ann"}, {"Ann": "unknown"}])
def test_an_alias_that_would_join_strangers_is_refused(alias: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"aliases: .* stands for nobody"):
        artist_groups(songs_of("Ann"), aliases=alias)


def test_a_name_that_a_catalogue_credits_everywhere_can_be_ignored() -> None:
    songs = songs_of("Ann & Big Label", "Bob & Big Label", "Big Label")
    assert artist_groups(songs).nunique() == 1
    assert artist_groups(songs, ignore=["BIG LABEL"]).nunique() == 3
    with pytest.raises(RecipeError, match="'Big Label' stands for nobody"):
        artist_groups(songs, ignore=["BIG LABEL"], aliases={"Big Label": "Ann"})


def test_songs_without_artist_stand_alone_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "curation.artists"):
        groups = artist_groups(songs_of("Ann", None, "Various Artists", "Ann"))
    assert groups.str.startswith("song-").tolist() == [False, True, True, False]
    assert groups.nunique() == 3
    assert "2 songs of 1 artist groups; 2 more name no artist" in caplog.text


def test_ids_come_from_the_smallest_main_credit_and_are_part_of_the_format() -> None:
    groups = artist_groups(songs_of("Bob", "Cleo feat. Bob", "Dora feat. Aaron", None))
    assert groups["0"] == groups["1"] == artist_groups(songs_of("The BOB"))["0"]
    assert groups["2"] == artist_groups(songs_of("Dora"))["0"]
    # Corpora were split by these: they must not change.
    golden = ["artist-74f32b2bb966a492", "artist-566b34d00a5a5d4b", "song-9e251905a6d98e01"]
    assert groups.tolist()[1:] == golden


NAMES = ["Ann", "Bob", "Cleo", "The Roads", "Él Niño", "MC Dora", "!!!", "Various Artists", "Unknown Artist"]
JOINERS = [
    " feat. ",
    " ft. ",
    " (feat. ",
    " & ",
    " and ",
    ", ",
    "; ",
    " x ",
    " vs. ",
    " with ",
    " + ",
    " featuring ",
]


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[pd.DataFrame, list[set[str]]]:
    """Songs, and who is in each of them."""
    credits, albums, people = [], [], []
    for _ in range(draw(st.integers(0, 12))):
        crew = draw(st.lists(st.sampled_from(NAMES), max_size=3))
        album = draw(st.none() | st.sampled_from(NAMES))
        credit = crew[0] if crew else None
        for name in crew[1:]:
            credit = f"{credit}{draw(st.sampled_from(JOINERS))}{draw(st.sampled_from([name, name.upper()]))}"
        credits.append(credit)
        albums.append(album)
        people.append({artist_key(name) for name in (*crew, *([album] if album else []))} - NOBODY)
    return songs_of(*credits, albums=tuple(albums)), people


def partition(people: list[set[str]]) -> set[frozenset[str]]:
    """Songs by who is in them, joined until no two parts share anybody."""
    parts = [({str(song)}, set(crew)) for song, crew in enumerate(people)]
    changed = True
    while changed:
        changed = False
        for i, (_, one) in enumerate(parts):
            for j in range(len(parts) - 1, i, -1):
                if one & parts[j][1]:
                    parts[i][0].update(parts[j][0])
                    one |= parts.pop(j)[1]
                    changed = True
    return {frozenset(songs) for songs, _ in parts}


def parts_of(groups: "pd.Series[str]") -> set[frozenset[str]]:
    return {frozenset(songs) for songs in groups.groupby(groups).groups.values()}


@given(catalogues())
def test_groups_are_the_connected_components_of_who_sings_with_whom(
    catalogue: tuple[pd.DataFrame, list[set[str]]],
) -> None:
    songs, people = catalogue
    assert parts_of(artist_groups(songs)) == partition(people)


@given(catalogues(), st.randoms())
def test_groups_do_not_depend_on_the_order(catalogue: tuple[pd.DataFrame, list[set[str]]], chance: Any) -> None:
    songs, _ = catalogue
    shuffled = songs.sample(frac=1, random_state=chance.randrange(2**32))
    pd.testing.assert_series_equal(artist_groups(shuffled), artist_groups(songs))


@given(catalogues(), catalogues())
def test_new_songs_never_part_a_group(
    catalogue: tuple[pd.DataFrame, list[set[str]]], more: tuple[pd.DataFrame, list[set[str]]]
) -> None:
    songs = catalogue[0]
    before = artist_groups(songs)
    grown = artist_groups(pd.concat([songs, more[0].assign(song_id=[f"new {i}" for i in more[0].index])]))
    assert grown[before.index].groupby(before).nunique().le(1).all()


@given(catalogues(), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=4))
def test_links_join_groups_and_nothing_else(
    catalogue: tuple[pd.DataFrame, list[set[str]]], links: list[tuple[int, int]]
) -> None:
    songs, people = catalogue
    links = [(one, other) for one, other in links if max(one, other) < len(people)]
    groups = artist_groups(songs)
    merged = merge_groups(groups, [(str(one), str(other)) for one, other in links])
    # A link is a guest who is on both songs and on no others.
    linked = [
        crew | {f"link {at}" for at, link in enumerate(links) if song in link} for song, crew in enumerate(people)
    ]
    assert parts_of(merged) == partition(linked)
    assert merged.index.equals(groups.index)
    assert (merged == groups.groupby(merged).transform("min")).all()


def test_a_link_to_a_song_without_a_group_is_refused() -> None:
    with pytest.raises(TableError, match="song 'x' of a link has no group"):
        merge_groups(artist_groups(songs_of("Ann")), [("0", "x")])


@given(st.lists(st.text(), max_size=6))
def test_any_text_is_an_artist_or_nobody(credits: list[str]) -> None:
    groups = artist_groups(songs_of(*credits, *credits))
    assert len(groups) == 2 * len(credits)
    for i in range(len(credits)):
        same = groups[str(i)] == groups[str(i + len(credits))]
        assert same == groups[str(i)].startswith("artist-")


def test_the_result_is_indexed_by_song_in_order() -> None:
    groups = artist_groups(songs_of("Ann", "Bob").iloc[::-1])
    assert list(groups.index) == ["0", "1"]
    assert (groups.name, groups.index.name) == ("group", "song_id")
    assert artist_groups(songs_of()).empty


@pytest.mark.parametrize(
    ("songs", "message"),
    [
        (songs_of("Ann").drop(columns="artist"), "column 'artist' is missing"),
        (songs_of("Ann").drop(columns="song_id"), "column 'song_id' is missing"),
        (songs_of("Ann", "Bob").assign(song_id="a"), "song_id 'a' is there twice"),
        (songs_of("Ann").assign(song_id=None), "a song_id is null or no text"),
        (songs_of("Ann").assign(artist=17), "an artist is 17; write artists as text, or null"),
    ],
)
def test_a_bad_table_of_songs_is_refused(songs: pd.DataFrame, message: str) -> None:
    with pytest.raises(TableError, match=message):
        artist_groups(songs)
