"""Tables that a person hands to a curation."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.references import read_aliases, read_fixed, read_reference
from manifests.errors import RecipeError


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_genres_of_a_reference_are_normalised_and_added_up(tmp_path: Path) -> None:
    table = written(tmp_path, "shares.csv", "genre,share\nHip Hop,0.2\nRap,0.3\nROCK,0.5\n")
    assert read_reference(table) == pytest.approx({"hip-hop": 0.5, "rock": 0.5})


def test_a_yaml_mapping_is_the_same(tmp_path: Path) -> None:
    assert read_reference(written(tmp_path, "shares.yaml", "jazz: 0.25\npop: 0.75\n")) == {
        "jazz": 0.25,
        "pop": 0.75,
    }


def test_uniform_stays_itself() -> None:
    assert read_reference("uniform") == "uniform"


def test_other_columns_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    table = written(tmp_path, "fixed.csv", "\ufeffnote,song,split\nx,Ann - Song,test\n")
    assert read_fixed(table) == {"Ann - Song": "test"}


def test_musdb18_is_its_fourteen_songs() -> None:
    fixed = read_fixed("musdb18")
    assert len(fixed) == 14
    assert set(fixed.values()) == {"validation"}


def test_no_table_is_nothing() -> None:
    assert read_fixed(None) == {}
    assert read_aliases(None) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "genre,part\nrock,1\n", "no column 'share'"),
        ("a.csv", "genre,share\nrock,much\n", "'much'"),
        ("a.csv", "genre,share\nrock,\n", "line 2 has no share"),
        ("a.csv", "genre,share\nrock,0.5\nrock,0.4\n", "line 3"),
        ("a.csv", "", "no column"),
        ("a.yaml", "- rock\n", "list"),
        ("a.txt", "rock 1", "neither"),
        ("a.csv", "genre,share\nmetl,1\n", "'metl' is not known.*'metal'"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_reference(written(tmp_path, name, text))


def test_an_absent_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="aliases"):
        read_aliases(str(tmp_path / "none.csv"))
