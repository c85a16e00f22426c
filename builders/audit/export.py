"""What was judged as a table: a row for each song and stem with a verdict that was not taken back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from builders.audit.songs import SongBook
from builders.audit.standing import newest, why_not
from builders.audit.verdicts import Verdict, read_verdicts
from manifests.corpus import Corpus
from manifests.errors import RecipeError
from manifests.files import replacing

Form: TypeAlias = Literal["csv", "jsonl"]

_FORMS: tuple[Form, ...] = ("csv", "jsonl")
_FACTS = ("title", "artist", "genre", "split", "grade")
_SAID = ("verdict", "reason", "note", "reviewer", "time", "order", "nudge_frames")
COLUMNS = ("song_id", "stem", *_FACTS, *_SAID, "counts")
"""Of the table. `counts` is 'yes', or why the verdict does not: 'gone' or 'changed'."""


def write_export(build: Path, path: Path, verdicts: Sequence[Verdict] | None = None) -> int:
    """Write what was judged of a build to a file.

    Parameters
    ----------
    build : Path
        A finished build.
    path : Path
        Ends in .csv or .jsonl. Replaced where it is there.
    verdicts : sequence of Verdict, optional
        Every line of the build's file, where that has been read before.

    Returns
    -------
    int
        How many rows it has.

    Raises
    ------
    RecipeError
        When the file would be neither.
    TableError, BuildError
        When a table is damaged, or the disk refuses.
    """
    form = next((form for form in _FORMS if path.suffix.lower() == f".{form}"), None)
    if form is None:
        raise RecipeError(f"{path}: verdicts are exported to a file that ends in .csv or .jsonl; call it so")
    rows = _rows(SongBook(Corpus.open(build)), read_verdicts(build) if verdicts is None else verdicts)
    with replacing(path) as file:
        file.write(_written(rows, form))
    return len(rows)


def exported(book: SongBook, verdicts: Sequence[Verdict], form: Form) -> bytes:
    """The table as a file.

    Parameters
    ----------
    book : SongBook
    verdicts : sequence of Verdict
        Every line of the file, the oldest first.
    form : {'csv', 'jsonl'}
        In CSV what a spreadsheet would take for a formula starts with an apostrophe.

    Returns
    -------
    bytes
        UTF-8, sorted by song and stem.
    """
    return _written(_rows(book, verdicts), form)


def _rows(book: SongBook, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    rows = [_row(book, verdict) for verdict in newest(verdicts, book.counts).values()]
    return sorted(rows, key=lambda row: (row["song_id"], row["stem"] or ""))


def _written(rows: Sequence[dict[str, Any]], form: Form) -> bytes:
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "replace")
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[column]) for column in COLUMNS] for row in rows)
    return file.getvalue().encode("utf-8", "replace")


def _row(book: SongBook, verdict: Verdict) -> dict[str, Any]:
    song = book.songs.get(verdict.song_id)
    rows = {} if song is None else {song.song_id: book.rows(song.song_id)}
    return {
        "song_id": verdict.song_id,
        "stem": verdict.stem,
        **{fact: getattr(song, fact, None) for fact in _FACTS},
        **{name: getattr(verdict, name) for name in _SAID},
        "counts": why_not(verdict, rows) or "yes",
    }


def _cell(value: Any) -> Any:
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value
