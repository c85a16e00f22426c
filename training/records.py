"""What trainings and evaluations keep on disk: JSON that holds NaN and infinities, and tables of rows."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from manifests.errors import RecipeError
from manifests.files import replacing
from manifests.plain import json_of

__all__ = ["TableFormat", "frame_of_rows", "read_json", "save_table", "write_json"]

TableFormat: TypeAlias = Literal["parquet", "csv"]


def frame_of_rows(rows: Sequence[Mapping[str, Any]], numbers: Collection[str]) -> pd.DataFrame:
    """A table of rows, which may have come from JSON.

    Parameters
    ----------
    rows : sequence of mapping
        Column to value.
    numbers : collection of str
        Columns that are float64, as far as there are such.

    Returns
    -------
    pd.DataFrame
    """
    frame = pd.DataFrame(rows)
    # also of null, and of the words that `write_json` has for infinities
    return frame.astype({name: np.float64 for name in frame.columns if name in numbers})


def save_table(folder: Path, name: str, table: pd.DataFrame, table_format: TableFormat) -> None:
    """Write a table, and remove what an earlier one left: of another format, or where there are no rows now.

    Parameters
    ----------
    folder : Path
    name : str
        Of the file, without its suffix.
    table : pd.DataFrame
        Without rows, it is no file.
    table_format : {'parquet', 'csv'}

    Raises
    ------
    RecipeError
        There is no such format.
    BuildError
        The disk refuses.
    """
    formats = get_args(TableFormat)
    if table_format not in formats:
        raise RecipeError(f"table format '{table_format}' is not known; use {' or '.join(formats)}")
    if len(table):
        with replacing(folder / f"{name}.{table_format}") as file:
            if table_format == "parquet":
                table.to_parquet(file, index=False)
            else:
                file.write(table.to_csv(index=False).encode())
    for other in formats:
        if other != table_format or not len(table):
            (folder / f"{name}.{other}").unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict or None
        None where there is no such file, or it does not hold an object.
    """
    try:
        found = json_of(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write an object.

    Parameters
    ----------
    path : Path
    record : mapping
        JSON values, or numbers that JSON does not have: NaN becomes null, infinities the strings 'inf' and '-inf'.

    Raises
    ------
    BuildError
        The disk refuses.
    """
    with replacing(path) as file:
        file.write(json.dumps(_plain(record), ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(float(value))
    return value
