"""Names that every file system takes, and that no two things share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import TableError
from manifests.exports.names import file_name, unique_names

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Johnny Lokke - Promises & Lies", "Johnny Lokke - Promises & Lies"),
        ("AC/DC - T.N.T.", "AC_DC - T.N.T"),
        ("...And Justice for All", "And Justice for All"),
        ('What? <"x"> a:b|c*\\\x00\n', "What_ __x__ a_b_c____"),
        ("Beyonce\u0301", "Beyonc\u00e9"),
        ("Con", "_Con"),
        ("nul .wav", "_nul .wav"),
        ("Contact", "Contact"),
        (" . ", "untitled"),
        ("", "untitled"),
    ],
)
def test_what_a_file_system_does_not_take_is_replaced(text, name):
    assert file_name(text) == name


@given(texts)
def test_a_name_is_short_visible_and_stays_in_its_folder(text):
    name = file_name(text)
    assert 1 <= len(name.encode()) <= 150
    assert name[0] not in " ."
    assert name[-1] not in " ."
    assert not set(name) & set('/\\\0<>:"|?*\n\r')
    assert file_name(name) == name


def test_songs_of_one_name_get_their_ids(tmp_path):
    names = unique_names({"1": "A - B", "2": "a - b", "3": "A - C", "4": "A - B?", "5": "A - B_"})
    assert names == {"1": "A - B (1)", "2": "a - b (2)", "3": "A - C", "4": "A - B_ (4)", "5": "A - B_ (5)"}


@given(st.dictionaries(st.text("ab01", min_size=1, max_size=5), texts, max_size=8))
def test_no_two_names_are_alike(labels):
    names = unique_names(labels)
    assert list(names) == list(labels)
    assert len({name.casefold() for name in names.values()}) == len(labels)
    assert all(len(name.encode()) <= 240 for name in names.values())


def test_ids_that_a_file_name_cannot_tell_apart_are_an_error():
    with pytest.raises(TableError, match=r"'a:1' and 'a\?1' would both be named 'x \(a_1\)'; rename one of them"):
        unique_names({"a:1": "x", "a?1": "x"})
