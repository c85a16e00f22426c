"""Typing and checking a table against its schema, with messages that a person can act on.

A row number in a message counts from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from manifests.errors import TableError, did_you_mean
from manifests.schemas import FLOAT, INTEGER, LABELS, STRING, columns_of, dtype_of, schema_of

_KINDS = {STRING: "text", INTEGER: "a whole number", FLOAT: "a number"}
_MAX_SHOWN = 120


def validated(name: str, frame: pd.DataFrame, origin: str, fix: str) -> pd.DataFrame:
    """The table with its columns in order and typed, or a TableError that lists all that is wrong with it."""
    columns = columns_of(name, frame.columns)
    later = [key for key, column in columns.items() if not column.required and key not in frame.columns]
    frame = frame.assign(**dict.fromkeys(later)) if later else frame
    repeated = frame.columns[frame.columns.duplicated()]
    problems = [f"column '{key}' is there twice" for key in repeated]
    problems += [f"column '{key}' is missing" for key in columns if key not in frame.columns]
    problems += [
        f"column '{key}' is not known{did_you_mean(str(key), columns)}"
        for key in frame.columns
        if key not in columns
    ]
    if problems:
        raise TableError(f"{origin}: {'; '.join(problems)}; {fix}")

    typed: dict[str, pd.Series[Any]] = {}
    label = frame[LABELS[name]].reset_index(drop=True)
    for key, column in columns.items():
        values = frame[key].reset_index(drop=True)
        wrong = _wrong_type(values, dtype_of(column))
        if wrong is not None:
            count, first = wrong
            problems.append(_not(key, count, _KINDS[dtype_of(column)], values[first], _row(name, label, first)))
        else:
            typed[key] = _cast(values, dtype_of(column))
    if problems:
        raise TableError(f"{origin}: {'; '.join(problems)}; {fix}")

    result = pd.DataFrame(typed)
    try:
        schema_of(name).validate(result, lazy=True)
    except pa.errors.SchemaErrors as error:
        problems = _described(name, result, error.failure_cases)
        raise TableError(f"{origin}: {'; '.join(problems)}; {fix}") from error
    return result


def _fits_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    # A lone surrogate is what Python makes of a file name that is not UTF-8; no table can hold it.
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def _fits_integer(value: object) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (float, np.floating)):
        return float(value).is_integer() and abs(float(value)) < 2**53
    return isinstance(value, (int, np.integer)) and -(2**63) <= int(value) < 2**63


def _fits_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_))


_FITS: dict[Any, Callable[[object], bool]] = {
    STRING: _fits_text,
    INTEGER: _fits_integer,
    FLOAT: _fits_number,
}


def _wrong_type(values: pd.Series[Any], dtype: Any) -> tuple[int, int] | None:
    """How many values are neither null nor of the type, and the first one's row; None when all are."""
    if values.dtype == dtype or (dtype == FLOAT and pd.api.types.is_float_dtype(values.dtype)):
        return None
    fits, known = _FITS[dtype], values.notna().to_numpy()
    wrong = [row for row, value in enumerate(values) if known[row] and not fits(value)]
    return (len(wrong), wrong[0]) if wrong else None


def _cast(values: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    """The same values, known to fit, in the column's own type."""
    if values.dtype == dtype:
        return values
    known = values.notna().to_numpy()
    plain = [value if known[row] else None for row, value in enumerate(values)]
    if dtype == FLOAT:
        numbers = [math.nan if value is None else float(value) for value in plain]
        return pd.Series(np.array(numbers, dtype=np.float64))
    if dtype == INTEGER:
        return pd.Series(pd.array([None if value is None else int(value) for value in plain], dtype=dtype))
    return pd.Series(pd.array(plain, dtype=dtype))


def _described(name: str, frame: pd.DataFrame, failures: pd.DataFrame) -> list[str]:
    """One sentence for each column and check that failed."""
    label, problems = frame[LABELS[name]], []
    for (key, check), cases in failures.groupby(["column", "check"], sort=False, dropna=False):
        rows = sorted({int(row) for row in cases["index"]})
        where = _row(name, label, rows[0])
        if check == "not_nullable":
            problems.append(f"column '{key}' has {_plural(len(rows), 'null')} (first: {where})")
        elif check != "multiple_fields_uniqueness":
            problems.append(_not(str(key), len(rows), str(check), frame[key][rows[0]], where))
    unique = schema_of(name).unique
    if unique:
        # pandera reports every row of a repeated group, once for each column: count the repetitions instead.
        repeated = np.flatnonzero(frame.duplicated(unique))
        if len(repeated):
            where = _row(name, label, int(repeated[0]))
            repeat = "repeats" if len(repeated) == 1 else "repeat"
            problems.append(
                f"{_plural(len(repeated), 'row')} {repeat} the {' and '.join(unique)} of an earlier one "
                f"(first: {where})"
            )
    return problems


def _not(key: str, count: int, wanted: str, value: object, where: str) -> str:
    are = "is" if count == 1 else "are"
    values = f"{_plural(count, 'value')} that {are} not {wanted}"
    said = f"{key} {_shown(value)}"  # the place names a row by such a column
    first = where if where.endswith(f", {said}") else f"{_shown(value)} at {where}"
    return f"column '{key}' has {values} (first: {first})"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _shown(value: object) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _row(name: str, label: pd.Series[Any], row: int) -> str:
    return f"row {row}, {LABELS[name]} {_shown(label[row])}"
