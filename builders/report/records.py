"""Rows of tables and fields of `run.json` and `recipe.json`, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.check import read_record
from manifests.errors import BuildError


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None for nulls."""
    # column by column: pandas' own way by rows takes three times as long
    columns = [frame[key].astype(object).where(frame[key].notna(), None).to_list() for key in frame.columns]
    names = [str(key) for key in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def part(record: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A field of a record that should be an object; empty when it is not (`stemloom check` says so)."""
    value = record.get(field)
    return value if isinstance(value, dict) else {}


def source_folder(build: Path) -> str | None:
    """The folder of the corpus that a build was made of, as its `recipe.json` says; None when it does not."""
    try:
        found = read_record(build / "recipe.json").get("source")
    except BuildError:
        return None
    return found if isinstance(found, str) and found else None


def finite(value: object) -> float | None:
    """A number of a record, or None for what is none."""
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def counts(values: pd.Series[Any]) -> dict[str, int]:
    """How often each value is there, the most frequent first, equals by name."""
    found = {str(key): int(count) for key, count in values.value_counts().items()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
