"""Genre tags as people write them, and what must hold for any text."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import genres
from curation.genres import GENRES, OTHER, UNKNOWN, normalise_genre, normalise_genres
from manifests.errors import TableError


@pytest.mark.parametrize(
    ("tag", "genre"),
    [
        ("Rock; Pop", "rock"),
        ("Pop/Rock", "pop"),
        ("Pop Rock", "pop"),
        ("Rock/Pop", "rock"),
        ("Electronic/House", "electronic"),
        ("Electronic, Folk, World, & Country", "electronic"),
        ("Deep House", "electronic"),
        ("Hip Hop", "hip-hop"),
        ("HipHop", "hip-hop"),
        ("hip-hop & rap", "hip-hop"),
        ("Rap/Hip Hop", "hip-hop"),
        ("R&B/Soul", "r&b"),
        ("R'n'B", "r&b"),
        ("Contemporary R & B", "r&b"),
        ("Rhythm and Blues", "r&b"),
        ("Funk / Soul", "soul"),
        ("Blues & Rock", "blues"),
        ("Rock 'n' Roll", "rock"),
        ("Rock & Roll", "rock"),
        ("Drum & Bass", "electronic"),
        ("drum n bass", "electronic"),
        ("Singer/Songwriter", "folk"),
        ("Country & Western", "country"),
        ("Stage & Screen", "soundtrack"),
        ("Films/Games", "soundtrack"),
        ("Children’s Music", "children"),
        ("Swedish Death Metal", "metal"),
        ("Latin Jazz", "jazz"),
        ("Pop Latino", "latin"),
        ("Rock clásico", "rock"),
        ("Alternative Rock", "alternative"),
        ("Indie Folk", "folk"),
        ("Ska Punk", "punk"),
        ("Christian Rock", "rock"),
        ("Christian & Gospel", "gospel"),
        ("Genre: Reggae", "reggae"),
        ("Acoustic; Pop", "pop"),
        ("Something new & Jazz", "jazz"),
        ("(17)", "rock"),
        ("17", "rock"),
        ("(17)Rock", "rock"),
        ("(4)(31)Eurodisco", "soul"),
        ("(12)", OTHER),
        ("Deutschrap", "hip-hop"),
        ("Krautrock", "rock"),
        ("Klassik", "classical"),
        ("Filmmusik", "soundtrack"),
        ("Musique classique", "classical"),
        ("Variété française", "pop"),
        ("Bande originale", "soundtrack"),
        ("Música eletrônica", "electronic"),
        ("Infantil", "children"),
        ("Colonna sonora", "soundtrack"),
        ("Русский рок", "rock"),
        ("Рэп и хип-хоп", "hip-hop"),
        ("ロック", "rock"),
        ("J-POP", "pop"),
        ("Ｊ－ＰＯＰ", "pop"),
        ("힙합", "hip-hop"),
        ("流行音乐", "pop"),
        ("爵士", "jazz"),
        ("Zorblax", OTHER),
        ("Christmas", OTHER),
        ("1999", OTHER),
        (None, UNKNOWN),
        ("", UNKNOWN),
        (" \t", UNKNOWN),
        ("-", UNKNOWN),
        ("N/A", UNKNOWN),
        ("<unknown>", UNKNOWN),
        ("Unknown genre", UNKNOWN),
        ("Unknown; Unknown genre", UNKNOWN),
        ("Unknown; Jazz", "jazz"),
        ("(255)", UNKNOWN),
        ("Music", UNKNOWN),
    ],
)
def test_a_tag_has_its_genre(tag: str | None, genre: str) -> None:
    assert normalise_genre(tag) == genre


def test_the_vocabulary_is_small_lower_case_and_stays_as_it_is() -> None:
    assert len(GENRES) == len(set(GENRES)) <= 26
    assert list(GENRES) == [*sorted(set(GENRES) - {OTHER, UNKNOWN}), OTHER, UNKNOWN]
    assert [normalise_genre(genre) for genre in GENRES] == list(GENRES)
    assert [normalise_genre(genre.upper()) for genre in GENRES] == list(GENRES)


def test_every_phrase_of_the_table_belongs_to_one_genre() -> None:
    phrases = [(genres._key(p), g) for g, listed in genres._PHRASES.items() for p in (g, *genres._phrases(listed))]
    assert len({key for key, _ in phrases}) == len(phrases)
    assert [(key, normalise_genre(key), genre) for key, genre in phrases if normalise_genre(key) != genre] == []


def test_the_numbers_of_id3_are_names_that_are_read_like_any_other() -> None:
    assert len(genres._NUMBERED) == 192
    assert [genres._NUMBERED[number] for number in (0, 17, 79, 80, 125, 137, 191)] == [
        *("Blues", "Rock", "Hard Rock", "Folk", "Dance Hall", "Heavy Metal", "Psybient"),
    ]
    for number, name in enumerate(genres._NUMBERED):
        assert normalise_genre(f"({number})") == normalise_genre(str(number)) == normalise_genre(name)
    known = [name for name in genres._NUMBERED if normalise_genre(name) != OTHER]
    assert len(known) >= 175
    assert UNKNOWN not in {normalise_genre(name) for name in genres._NUMBERED}


@given(st.text())
def test_any_text_has_a_genre_and_the_genre_is_its_own(text: str) -> None:
    genre = normalise_genre(text)
    assert genre in GENRES
    assert normalise_genre(genre) == genre


@given(
    st.sampled_from(GENRES[:-2]), st.sampled_from([";", "; ", "/", ", ", " & ", " and ", " | ", "\0"]), st.text()
)
def test_the_first_genre_named_is_the_main_one(genre: str, separator: str, rest: str) -> None:
    tag = f"{genre}{separator}{rest}"
    whole = genres._GENRE_OF.get(genres._key(tag))
    assert normalise_genre(tag) == (whole or genre)


def test_a_very_long_tag_costs_no_more_than_its_length() -> None:
    assert normalise_genre("la " * 20_000 + "rock") == "rock"


@given(st.lists(st.none() | st.sampled_from(["Rock", "(17)", "R&B/Soul", "Zorblax", ""])))
def test_many_tags_are_read_like_each(tags: list[str | None]) -> None:
    index = pd.Index([f"row {i}" for i in range(len(tags))], dtype="str")
    for dtype in ("object", "string", "str"):
        found = normalise_genres(pd.Series(tags, index=index, name="genre", dtype=dtype))
        assert found.tolist() == [normalise_genre(tag) for tag in tags]
        assert found.index.equals(index)
        assert found.name == "genre"


def test_a_tag_that_is_no_text_is_refused_by_row() -> None:
    with pytest.raises(TableError, match=r"column 'genre' has 17 at row 2; write genres as text"):
        normalise_genres(pd.Series(["Rock", None, 17, 17], name="genre"))
