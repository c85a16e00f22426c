"""Which songs of a corpus are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.tables import write_table
from tests.manifests.exports.small_corpus import small_corpus
from training.songs import songs_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four songs, the last first."""
    stems = small_corpus(tmp_path_factory.mktemp("sorted")).stems
    folder = tmp_path_factory.mktemp("corpus")
    splits = {"s0": "train", "s1": "test", "s3": "test"}
    write_table(folder, "stems", stems[::-1].assign(split=stems["song_id"].map(splits)))
    return Corpus.open(folder)


def test_songs_come_in_the_tables_order(corpus: Corpus) -> None:
    assert songs_of(corpus) == corpus.songs() == ["s3", "s2", "s1", "s0"]
    assert songs_of(corpus, "test") == ["s3", "s1"]


def test_a_corpus_without_such_songs_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"split 'tset' \(did you mean 'test'\?\); it has test, train"):
        songs_of(corpus, "tset")
    write_table(tmp_path, "stems", corpus.stems[:0])
    with pytest.raises(RecipeError, match="has no songs to measure"):
        songs_of(Corpus.open(tmp_path))
    write_table(tmp_path, "stems", corpus.stems.assign(split=None))
    with pytest.raises(RecipeError, match="it has no splits"):
        songs_of(Corpus.open(tmp_path), "test")
