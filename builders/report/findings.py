"""What a study found, out of the tables that `training.ablation` leaves in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from builders.report.evaluation import MEAN, SCORES
from builders.report.records import part, rows_of
from manifests.errors import TableError

_TABLES = ("songs", "summary", "comparisons", "sweep", "curves")
_COLOURS = (
    "--soft",
    "--one",
    "--vocals",
    "--two",
    "--three",
    "--four",
    "--six",
    "--bad",
    "--mixture",
    "--alternative",
)


@dataclass(frozen=True)
class Findings:
    """What a study found, and how it is shown."""

    variants: Sequence[str]
    baseline: str
    scores: Sequence[str]
    alpha: float
    tables: Mapping[str, pd.DataFrame]

    def colour(self, variant: str) -> str:
        """CSS variable of a variant's colour."""
        others = [name for name in self.variants if name != self.baseline]
        if variant == self.baseline:
            return "--chosen"
        return _COLOURS[others.index(variant) % len(_COLOURS)] if variant in others else "--soft"

    def items(self) -> list[tuple[str, str]]:
        """Tests and targets; the mean of targets last."""
        summary = self.tables["summary"]
        if not len(summary):
            return []
        pairs = list(dict.fromkeys(zip(summary["test"], summary["target"], strict=True)))
        tests = list(dict.fromkeys(test for test, _ in pairs))
        return sorted(pairs, key=lambda pair: (tests.index(pair[0]), pair[1] == MEAN))

    def pairs(self, test: str, target: str, score: str) -> list[dict[str, Any]]:
        """Comparisons of all pairs of variants."""
        table = self.tables["comparisons"]
        if not len(table):
            return []
        is_asked = (table["test"] == test) & (table["target"] == target) & (table["score"] == score)
        return rows_of(table[is_asked])

    def compared(self, test: str, target: str, score: str) -> dict[str, dict[str, Any]]:
        """Comparisons with the baseline, by variant."""
        pairs = self.pairs(test, target, score)
        return {str(row["variant"]): row for row in pairs if row["other"] == self.baseline}

    def stands(self, row: Mapping[str, Any] | None) -> str:
        """How a variant stands to the baseline."""
        if row is None or row["t_holm"] is None or not row["t_holm"] < self.alpha:
            return ""
        return "better" if row["mean"] > 0 else "worse"

    @property
    def score(self) -> str:
        """What the first score is called, that of charts and comparisons."""
        return SCORES.get(self.scores[0], self.scores[0])


def read_findings(folder: Path, record: Mapping[str, Any]) -> Findings:
    """The tables of a study.

    Parameters
    ----------
    folder : Path
    record : mapping
        Its `study.json`.

    Returns
    -------
    Findings

    Raises
    ------
    TableError
        A table is damaged.
    """
    study = part(record, "study")
    names = [str(variant["name"]) for variant in study["variants"]]
    return Findings(
        names,
        str(study.get("baseline") or names[0]),
        [str(score) for score in study["scores"]],
        float(study["alpha"]),
        {name: _table(folder, name) for name in _TABLES},
    )


def p_value(value: object) -> str:
    """A p-value in words."""
    if not isinstance(value, float) or math.isnan(value):
        return "–"
    if value < 0.001:
        return "<1e−9" if value < 1e-9 else f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
    return f"{value:.3f}"[1:] if value < 0.9995 else "1"


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.parquet"
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read ({error}); run 'stemloom ablate' again") from error
