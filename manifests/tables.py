"""The tables of a corpus: reading, writing and making them.

One table is one file, `<name>.parquet` or `<name>.jsonl`, validated each time it is written or read. Every
column of its schema (`manifests.schemas`) is there in every file, in the same order. Both formats hold the
same rows and read back equal, and the same rows give the same bytes. A file appears in one rename, so that
its existence means that its work is complete.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from manifests.errors import TableError
from manifests.files import replacing
from manifests.plain import json_of
from manifests.schemas import FLOAT, INTEGER, SCHEMAS, STRING, columns_of, dtype_of, schema_of
from manifests.validation import validated

__all__ = [
    "SCHEMAS",
    "TableFormat",
    "empty_table",
    "find_table",
    "frame_of",
    "read_table",
    "table_path",
    "write_table",
]

TableFormat: TypeAlias = Literal["parquet", "jsonl"]
"""Of the files of tables."""

_ARROW_TYPES = {STRING: pyarrow.string(), INTEGER: pyarrow.int64(), FLOAT: pyarrow.float64()}
_PANDAS_TYPES = {pyarrow.string(): STRING, pyarrow.large_string(): STRING, pyarrow.int64(): INTEGER}
# A row of ours takes some hundred bytes; a line is parsed whole.
_MAX_LINE_BYTES = 1 << 24
# What a Parquet file may come to: rows by its size (each has an id of its own), and bytes, all and of one column.
_ROWS_PER_BYTE, _SPARE_ROWS = 8, 100_000
_MAX_GROWTH, _SPARE_BYTES = 200, 1 << 28
_MAX_TEXT_BYTES = 1 << 32
_FIXES = {"tracks": "run 'stemloom scan' again", "pairs": "run 'stemloom build catalog' again"}
_FIX = "run the command that built the corpus again, or mend the table"


def table_path(folder: Path, name: str, format: TableFormat = "parquet") -> Path:
    """The file that a table lives in.

    Parameters
    ----------
    folder : Path
        The corpus or build folder.
    name : str
        A key of `SCHEMAS`.
    format : {'parquet', 'jsonl'}
        The file's format.

    Returns
    -------
    Path
        `<folder>/<name>.<format>`, whether it exists or not.

    Raises
    ------
    TableError
        When there is no such table or format.
    """
    schema_of(name)
    if format not in ("parquet", "jsonl"):
        raise TableError(f"table format '{format}' is not known; use 'parquet' or 'jsonl'")
    return folder / f"{name}.{format}"


def find_table(folder: Path, name: str) -> Path | None:
    """The file that a table was written to, if it was.

    Parameters
    ----------
    folder : Path
        The corpus or build folder.
    name : str
        A key of `SCHEMAS`.

    Returns
    -------
    Path or None
        The existing file.

    Raises
    ------
    TableError
        When the table is there in both formats, since they may differ, or there is no table of that name.
    """
    parquet, jsonl = table_path(folder, name, "parquet"), table_path(folder, name, "jsonl")
    if parquet.exists() and jsonl.exists():
        raise TableError(
            f"{folder}: holds both {parquet.name} and {jsonl.name}; remove the one that is out of date"
        )
    return parquet if parquet.exists() else jsonl if jsonl.exists() else None


def empty_table(name: str) -> pd.DataFrame:
    """A table without rows, with all of its columns typed (but for those named after stems).

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.

    Returns
    -------
    pd.DataFrame
        Zero rows.
    """
    return frame_of(name, [])


def frame_of(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a typed, validated table of rows.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.
    rows : iterable of mappings
        Column to value; None, NaN and `pd.NA` are null, and so is a column that a row leaves out.

    Returns
    -------
    pd.DataFrame
        In the order given, columns in the schema's order, rows numbered from 0.

    Raises
    ------
    TableError
        When a row has a column that the table does not, a value of the wrong type, a null where none may be,
        or breaks a check.
    """
    return _frame_of(name, list(rows), f"table '{name}'", "correct the rows before writing them")


def write_table(folder: Path, name: str, frame: pd.DataFrame, format: TableFormat = "parquet") -> Path:
    """Validate a table and write it, whole or not at all.

    Parameters
    ----------
    folder : Path
        The corpus or build folder; created if missing.
    name : str
        A key of `SCHEMAS`.
    frame : pd.DataFrame
        All of the table's columns, in any order; the index is ignored.
    format : {'parquet', 'jsonl'}
        A table already there in the other format is removed.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    TableError
        When the table breaks its schema; nothing is written.
    BuildError
        When the file system refuses.
    """
    path = table_path(folder, name, format)
    valid = validated(name, frame, str(path), "correct the rows before writing them")
    with replacing(path) as file:
        if format == "parquet":
            pyarrow.parquet.write_table(
                _arrow_table(name, valid), file, compression="zstd", write_page_checksum=True
            )
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="\n", write_through=True)
            text.writelines(_json_lines(valid))
            text.detach()
    table_path(folder, name, "jsonl" if format == "parquet" else "parquet").unlink(missing_ok=True)
    return path


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read a table and validate it.

    Parameters
    ----------
    folder : Path
        The corpus or build folder, holding `<name>.parquet` or `<name>.jsonl`.
    name : str
        A key of `SCHEMAS`.

    Returns
    -------
    pd.DataFrame
        Columns in the schema's order, rows numbered from 0.

    Raises
    ------
    TableError
        When the table is missing, unreadable, or breaks its schema.
    """
    path = find_table(folder, name)
    fix = _FIXES.get(name, _FIX)
    if path is None:
        raise TableError(f"{table_path(folder, name)}: no such table (nor {name}.jsonl); {fix}")
    if path.suffix == ".jsonl":
        return _frame_of(name, _json_rows(path, fix), str(path), fix)
    try:
        # Not `parquet.read_table`: it would make columns of folders that are named like 'key=value'.
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            refuse_bomb(path, file, fix)
            arrow = file.read()
        arrow.validate(full=True)  # text that is not UTF-8, in a file without checksums
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise TableError(f"{path}: cannot be read as Parquet ({error}); {fix}") from error
    # What pandas adds for an index that has no name (a person may have cut rows out and saved the rest).
    arrow = arrow.select([key for key in arrow.column_names if not key.startswith("__index_level_")])
    frame = arrow.to_pandas(types_mapper=_PANDAS_TYPES.get, ignore_metadata=True)
    return validated(name, frame, str(path), fix)


def refuse_bomb(path: Path, file: pyarrow.parquet.ParquetFile, fix: str) -> None:
    """Raise where a small file holds very much: of a column with one value, Parquet stores that and how often.

    Parameters
    ----------
    path : Path
    file : pyarrow.parquet.ParquetFile
        The same, open.
    fix : str
        What a person is to do about it.

    Raises
    ------
    TableError
    """
    size, about = path.stat().st_size, file.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    num_bytes = sum(group.total_byte_size for group in groups)
    if about.num_rows > _SPARE_ROWS + _ROWS_PER_BYTE * size or num_bytes > _SPARE_BYTES + _MAX_GROWTH * size:
        raise TableError(
            f"{path}: claims {about.num_rows} rows of {num_bytes} bytes in a file of {size} bytes; {fix}"
        )
    for number in range(about.num_columns):
        column, chunks = about.schema.column(number), [group.column(number) for group in groups]
        most = sum(chunk.num_values * chunk.total_uncompressed_size for chunk in chunks)
        if column.physical_type != "BYTE_ARRAY" or most <= _MAX_TEXT_BYTES:
            continue
        # only now is it worth a look: each text once, and how often it is said
        with pyarrow.parquet.ParquetFile(path, read_dictionary=[column.name]) as again:
            said = sum(map(_num_text_bytes, again.read([column.name]).column(0).chunks))
        if said > _MAX_TEXT_BYTES:
            raise TableError(f"{path}: column '{column.name}' comes to {said} bytes of text; {fix}")


def _num_text_bytes(texts: pyarrow.Array) -> int:
    if not isinstance(texts, pyarrow.DictionaryArray):
        return int(texts.nbytes)
    lengths = pyarrow.compute.binary_length(texts.dictionary).cast(pyarrow.int64())
    return int(pyarrow.compute.sum(lengths.take(texts.indices)).as_py() or 0)


def _frame_of(name: str, rows: Sequence[Mapping[str, Any]], origin: str, fix: str) -> pd.DataFrame:
    present = dict.fromkeys(key for row in rows for key in row)
    columns = columns_of(name, present)
    data = {key: pd.Series([row.get(key) for row in rows], dtype=object) for key in columns}
    unknown = {key: pd.Series([row.get(key) for row in rows], dtype=object) for key in present if key not in data}
    return validated(name, pd.DataFrame({**data, **unknown}), origin, fix)


def _arrow_table(name: str, frame: pd.DataFrame) -> pyarrow.Table:
    # The schema is spelt out and pandas' own metadata left out, so that the bytes depend on the rows alone.
    columns = columns_of(name, frame.columns)
    fields = [
        pyarrow.field(key, _ARROW_TYPES[dtype_of(column)], nullable=column.nullable)
        for key, column in columns.items()
    ]
    arrays = [pyarrow.array(frame[field.name], type=field.type, from_pandas=True) for field in fields]
    # One chunk each: the layout must not depend on how the frame came to be.
    arrays = [array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array for array in arrays]
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


def _json_lines(frame: pd.DataFrame) -> Iterable[str]:
    columns = [
        [None if null else value for value, null in zip(frame[key].to_list(), frame[key].isna(), strict=True)]
        for key in frame.columns
    ]
    for row in zip(*columns, strict=True):
        record = dict(zip(frame.columns, row, strict=True))
        yield json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _json_rows(path: Path, fix: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    number = 0
    try:
        # By bytes: text lines also end at characters that JSON allows inside a string.
        with path.open("rb") as file:
            lines = iter(functools.partial(file.readline, _MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):  # noqa: B007  # the message below needs it
                if len(line) == _MAX_LINE_BYTES:
                    raise ValueError(f"longer than {_MAX_LINE_BYTES} bytes")
                if not line.strip():
                    continue
                row = json_of(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                rows.append(row)
    except ValueError as error:
        raise TableError(f"{path}: line {number} is not a JSON object ({error}); {fix}") from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}); {fix}") from error
    return rows
