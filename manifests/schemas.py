"""What each table of a corpus holds: its columns, their types, where nulls may be, what values must satisfy.

The order of the columns here is their order in every file. Types are pandas' nullable ones: `string`, `Int64`
and `float64`, where NaN is the null. A measure that does not exist (the loudness of silence) is null, never
infinite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from manifests.errors import TableError, did_you_mean
from manifests.paths import is_portable

STRING, INTEGER, FLOAT = pd.StringDtype(), pd.Int64Dtype(), np.dtype("float64")


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


# Each check's `error` completes the sentence "has 3 values that are not ...".
_FINITE = pa.Check(lambda values: ~np.isinf(values), error="finite")
_FRACTION = pa.Check.in_range(0, 1, error="between 0 and 1")
_NOT_EMPTY = pa.Check.str_length(min_value=1, error="at least one character long")
_PORTABLE = pa.Check(is_portable, element_wise=True, error="a relative POSIX path that stays under its root")
_JSON = pa.Check(_is_json, element_wise=True, error="JSON")


def _text(*checks: pa.Check, null: bool = False) -> pa.Column:
    return pa.Column(STRING, checks=list(checks), nullable=null)


def _choice(*values: str, null: bool = False) -> pa.Column:
    return pa.Column(STRING, checks=[pa.Check.isin(values, error=f"one of {', '.join(values)}")], nullable=null)


def _count(*, at_least: int, null: bool = False) -> pa.Column:
    return pa.Column(INTEGER, checks=[pa.Check.ge(at_least, error=f"at least {at_least}")], nullable=null)


def _number(*checks: pa.Check) -> pa.Column:
    """A measure: always nullable, since each of them can be undefined for some row."""
    return pa.Column(FLOAT, checks=[_FINITE, *checks], nullable=True)


def _rms() -> pa.Column:
    return _number(pa.Check.ge(0, error="at least 0"))


def _later(column: pa.Column) -> pa.Column:
    """A column that tables of earlier versions do not have: it is null in them."""
    column.required = False
    return column


def _schema(columns: dict[str, pa.Column], unique: list[str] | None = None) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, strict=True, unique=unique)


GRADES = ("A", "B", "C", "D")
"""From clean to defective; see `curation.defects`."""

# Public and read-only by convention: what each table holds. `rms_<stem>` in `clips` stands for one column per
# stem.
SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "tracks": _schema(
        {
            "track_id": _text(_NOT_EMPTY),
            "root": _text(_NOT_EMPTY),
            "path": _text(_PORTABLE),
            "codec": _text(),
            "num_frames": _count(at_least=1),
            "sample_rate": _count(at_least=1),
            "channels": _count(at_least=1),
            "title": _text(null=True),
            "song_title": _text(null=True),
            "version": _text(),
            "artist": _text(null=True),
            "album_artist": _text(null=True),
            "album": _text(null=True),
            "genre": _text(null=True),
            "year": pa.Column(INTEGER, nullable=True),
            "isrc": _text(null=True),
            "recording_mbid": _text(null=True),
            "work_mbid": _text(null=True),
            "license": _text(null=True),
            "loudness_lufs": _number(),
            "peak_db": _number(),
            "music_start_frame": _count(at_least=0, null=True),
            "music_end_frame": _count(at_least=0, null=True),
        },
        unique=["root", "path"],
    ),
    "pairs": _schema(
        {
            "pair_id": _text(_NOT_EMPTY),
            "mixture_id": _text(_NOT_EMPTY),
            "instrumental_id": _text(_NOT_EMPTY),
            "mixture_path": _text(_PORTABLE),
            "instrumental_path": _text(_PORTABLE),
            "evidence": _text(),
            "votes": _count(at_least=0, null=True),
            "bit_error_rate": _number(_FRACTION),
            "lag_frames": _number(),
            "drift_ppm": _number(),
            "polarity": pa.Column(INTEGER, checks=pa.Check.isin([-1, 1], error="-1 or 1"), nullable=True),
            "gain_db": _number(),
            "coherence": _number(_FRACTION),
            "residual_db": _number(),
            "confidence": _number(_FRACTION),
            "status": _choice("chosen", "alternative", "refused"),
            "segments": _text(_JSON, null=True),
            "containment": _number(_FRACTION),
            "same_fraction": _number(_FRACTION),
            "reason": _text(null=True),
            "song_id": _text(null=True),
        },
        unique=["pair_id"],
    ),
    "stems": _schema(
        {
            "song_id": _text(_NOT_EMPTY),
            "stem": _text(_NOT_EMPTY),
            "root": _text(_NOT_EMPTY),
            "path": _text(_PORTABLE),
            "num_frames": _count(at_least=1),
            "sample_rate": _count(at_least=1),
            "channels": _count(at_least=1),
            "artist": _text(null=True),
            "genre": _text(null=True),
            "split": _text(null=True),
            "provenance": _choice("recorded", "derived", "cleaned", "separated", "mixed"),
            "method": _text(null=True),
            "parents": _text(null=True),
            "rms": _rms(),
            "loudness_lufs": _number(),
            "active_fraction": _number(_FRACTION),
            "residual_db": _number(),
            "license": _text(null=True),
            "audit": _choice("unheard", "accepted", "rejected"),
            "gain_db": _number(),
            "pair_id": _text(null=True),
            "content_id": _text(null=True),
            "grade": _later(_choice(*GRADES, null=True)),
            "reasons": _later(_text(_JSON, null=True)),
            "weight": _later(_number(pa.Check.ge(0, error="at least 0"))),
            "language": _later(_text(null=True)),
            "tags": _later(_text(null=True)),
            "transcript": _later(_text(null=True)),
        },
        unique=["song_id", "stem"],
    ),
    "clips": _schema(
        {
            "clip_id": _text(_NOT_EMPTY),
            "song_id": _text(_NOT_EMPTY),
            "start_frame": _count(at_least=0),
            "num_frames": _count(at_least=1),
            "split": _text(null=True),
            "genre": _text(null=True),
            "artist": _text(null=True),
            "voiced_fraction": _later(_number(_FRACTION)),
            "label": _later(_text(null=True)),
            "label_probability": _later(_number(_FRACTION)),
            r"^rms_\w+$": pa.Column(FLOAT, checks=_rms().checks, nullable=True, regex=True, required=False),
        },
        unique=["clip_id"],
    ),
    "mixtures": _schema(
        {
            "mixture_id": _text(_NOT_EMPTY),
            "seed": _count(at_least=0),
            "epoch": _count(at_least=0),
            "index": _count(at_least=0),
            "attempt": _count(at_least=0),
            "mixture_rate": _count(at_least=1),
            "mixture_channels": _count(at_least=1),
            "mixture_frames": _count(at_least=1),
            "mixture_transforms": _text(_JSON),
            "target": _text(_NOT_EMPTY),
            # from here on null in the row of a target that is silent
            "source": _text(null=True),
            "song_id": _text(null=True),
            "stem": _text(null=True),
            "root": _text(_NOT_EMPTY, null=True),
            "path": _text(_PORTABLE, null=True),
            "source_start_frame": _count(at_least=0, null=True),
            "num_frames": _count(at_least=1, null=True),
            "source_rate": _count(at_least=1, null=True),
            "offset_frame": _count(at_least=0, null=True),
            "length_frames": _count(at_least=1, null=True),
            "gain_db": _number(),
            "transforms": _text(_JSON, null=True),
            # what a static set knows besides the plan
            "split": _later(_text(null=True)),
            "loudness_lufs": _later(_number()),
            "genre": _later(_text(null=True)),
            "language": _later(_text(null=True)),
            "tags": _later(_text(null=True)),
            "transcript": _later(_text(null=True)),
        }
    ),
    # what a cleaning found in each stem, and did to it
    "cleaned": _schema(
        {
            "song_id": _text(_NOT_EMPTY),
            "stem": _text(_NOT_EMPTY),
            "verdict": _choice("kept", "cleaned", "dropped"),
            "voice_db": _number(),
            "cleaned_fraction": _number(_FRACTION),
            "damaged_fraction": _number(_FRACTION),
            "cleaned": _text(_JSON),
            "damaged": _text(_JSON),
            "removed_path": _text(_PORTABLE, null=True),
        },
        unique=["song_id", "stem"],
    ),
    "rejected": _schema(
        {
            "id": _text(null=True),
            "path": _text(),
            "stage": _text(_NOT_EMPTY),
            "reason": _text(_NOT_EMPTY),
            "detail": _text(),
        }
    ),
}

# What a message calls a row by, besides its number.
LABELS = {
    "tracks": "path",
    "pairs": "pair_id",
    "stems": "path",
    "clips": "clip_id",
    "mixtures": "mixture_id",
    "cleaned": "song_id",
    "rejected": "path",
}


def schema_of(name: str) -> pa.DataFrameSchema:
    """The schema of a table.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.

    Returns
    -------
    pa.DataFrameSchema
        Columns, types and checks.

    Raises
    ------
    TableError
        When there is no such table.
    """
    if name not in SCHEMAS:
        raise TableError(
            f"there is no table '{name}'{did_you_mean(name, SCHEMAS)}; tables are {', '.join(SCHEMAS)}"
        )
    return SCHEMAS[name]


def columns_of(name: str, present: Iterable[str]) -> dict[str, pa.Column]:
    """The columns of a table, in order.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.
    present : iterable of str
        The columns that a frame has. A column of the schema that stands for many (`rms_<stem>`) gives way to
        those of them that are present, sorted.

    Returns
    -------
    dict of str to pa.Column
        By name.
    """
    columns: dict[str, pa.Column] = {}
    for key, column in schema_of(name).columns.items():
        if not column.regex:
            columns[key] = column
            continue
        for match in sorted(c for c in present if re.fullmatch(key.strip("^$"), str(c))):
            columns[match] = column
    return columns


def dtype_of(column: pa.Column) -> Any:
    """The type of a column in memory: `STRING`, `INTEGER` or `FLOAT`."""
    # pandera writes one string type for pandas' two, the one whose null is NaN.
    dtype = column.dtype.type
    return STRING if isinstance(dtype, pd.StringDtype) else dtype
