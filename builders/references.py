"""What a person hands to a curation as files: genre shares, fixed splits, artists' other names.

A table is a CSV file with a header and two columns, or a YAML mapping of the first to the second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from curation.balance import distribution
from curation.genres import GENRES, OTHER, normalise_genre, normalise_genres
from curation.songs import songs_of
from curation.splits import MUSDB18_VALIDATION
from manifests.corpus import Corpus
from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import read_mapping, read_rows
from manifests.tables import find_table


def read_reference(name: str) -> dict[str, float] | Literal["uniform"]:
    """A reference distribution of genres.

    Parameters
    ----------
    name : str
        'uniform', the path of a table of genre and share, or the folder of a corpus.

    Returns
    -------
    dict of str to float, or 'uniform'
        Genres are normalised (`curation.genres`); shares of genres that have one name then are added up.

    Raises
    ------
    RecipeError
        If there is no such file or it is no such table.
    TableError
        If the corpus is damaged.
    """
    if name == "uniform":
        return "uniform"
    path = Path(name)
    if path.is_dir() and find_table(path, "stems") is not None:
        songs = songs_of(Corpus.open(path).stems)
        songs["genre"] = normalise_genres(songs["genre"])
        return {str(genre): float(share) for genre, share in distribution(songs).items()}
    shares: dict[str, float] = {}
    for genre, text in read_pairs(path, "reference", "genre", "share").items():
        try:
            share = float(text)
        except ValueError:
            raise RecipeError(f"{path}: the share of '{genre}' is {text!r}; write a number from 0 to 1") from None
        known = normalise_genre(genre)
        if known == OTHER != genre:
            raise RecipeError(
                f"{path}: genre '{genre}' is not known{did_you_mean(genre, GENRES)}; genres are {', '.join(GENRES)}"
            )
        shares[known] = shares.get(known, 0.0) + share
    return shares


def read_fixed(name: str | None) -> dict[str, str]:
    """Songs to the splits that they are given; 'musdb18' is its fourteen validation songs."""
    if name is None:
        return {}
    if name == "musdb18":
        return dict.fromkeys(MUSDB18_VALIDATION, "validation")
    return read_pairs(Path(name), "fixed", "song", "split")


def read_aliases(name: str | None) -> dict[str, str]:
    """Artists' other names to the names they go by."""
    return {} if name is None else read_pairs(Path(name), "aliases", "alias", "name")


def read_pairs(path: Path, field: str, first: str, second: str) -> dict[str, str]:
    """A table of two columns.

    Parameters
    ----------
    path : Path
        CSV with the header ``first,second`` (other columns do not matter), or a YAML mapping.
    field : str
        The recipe's field, for messages.
    first, second : str
        The columns' names.

    Returns
    -------
    dict of str to str

    Raises
    ------
    RecipeError
        If the file cannot be read, has no such columns, or names something twice.
    """
    if not path.is_file():
        raise RecipeError(f"field '{field}' is '{path}': there is no such file; correct the path")
    if path.suffix.lower() in (".yaml", ".yml"):
        return {str(key): str(value) for key, value in read_mapping(path).items()}
    if path.suffix.lower() != ".csv":
        raise RecipeError(f"field '{field}' is '{path}': its suffix is neither .csv nor .yaml; convert the file")
    pairs: dict[str, str] = {}
    for line_num, row in read_rows(path, (first, second)):
        key, value = row[first], row[second]
        if not key or not value:
            raise RecipeError(f"{path}: line {line_num} has no {first if not key else second}")
        if pairs.get(key, value) != value:
            raise RecipeError(f"{path}: line {line_num}: '{key}' is '{value}' here and '{pairs[key]}' before")
        pairs[key] = value
    return pairs
