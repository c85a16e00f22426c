"""The pictures of a study: p-values, differences to the baseline, learning curves, loudness."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.report import plots
from builders.report.findings import Findings, p_value
from builders.report.plots import Difference, Series
from builders.report.sections import Chart
from manifests.files import replacing

_STYLE = Path(__file__).parent / "templates" / "style.css"


def matrices(found: Findings) -> list[Chart]:
    """Of each test and target p-values of the first score."""
    charts = []
    for test, target in found.items():
        by_pair: dict[tuple[str, str], tuple[float, float]] = {}
        for row in found.pairs(test, target, found.scores[0]):
            p, t = (math.nan if row[name] is None else float(row[name]) for name in ("t_holm_pairs", "t"))
            by_pair[row["variant"], row["other"]] = (p, t)
            by_pair[row["other"], row["variant"]] = (p, -t)
        names = [name for name in found.variants if any(name in pair for pair in by_pair)]
        cells = [[_p_cell(by_pair.get((one, other)), found.alpha) for other in names] for one in names]
        svg = plots.matrix(
            names,
            cells,
            f"p-values of paired t-tests of the {found.score} of the {target}, test {test}",
            f"blue: the row is better, red: worse, with p < {found.alpha:g}",
        )
        words = "two-sided paired t-tests over songs, Holm's correction over all pairs"
        charts.append(Chart(f"{test}: {target}", found.score, svg, words))
    return charts


def _p_cell(pair: tuple[float, float] | None, alpha: float) -> tuple[str, str, float] | None:
    if pair is None or math.isnan(pair[0]):
        return None
    p, t = pair
    strength = min(0.9, 0.2 + 0.1 * -math.log10(max(p, 1e-9))) if p < alpha else 0.06
    colour = ("--chosen" if t > 0 else "--bad") if p < alpha else "--soft"
    return p_value(p), colour, strength


def forests(found: Findings) -> list[Chart]:
    """Differences to the baseline, with their intervals."""
    charts = []
    for test, target in found.items():
        compared = found.compared(test, target, found.scores[0])
        rows = []
        for name in found.variants:
            if name not in compared:
                continue
            row = {key: math.nan if value is None else value for key, value in compared[name].items()}
            low, high = row.get("seeds_low", math.nan), row.get("seeds_high", math.nan)
            colour = {"better": "--chosen", "worse": "--bad", "": "--soft"}[found.stands(compared[name])]
            rows.append(Difference(name, colour, row["mean"], row["mean_low"], row["mean_high"], (low, high)))
        svg = plots.intervals(
            rows, f"{found.score} of the {target} less {found.baseline}'s, test {test}", f"{found.score}, dB"
        )
        words = "mean difference of songs; thick: bootstrap over songs, thin: over songs and seeds, 95 %"
        charts.append(Chart(f"{test}: {target}", f"less {found.baseline}", svg, words))
    return charts


def curves(found: Findings) -> list[Chart]:
    """What validations found, the mean of the seeds by step."""
    table = found.tables["curves"]
    charts = []
    for what in dict.fromkeys(table["what"]) if len(table) else ():
        means = table[table["what"] == what].dropna().groupby(["variant", "step"])["value"].mean()
        series = _series(found, means)
        is_loss = what == "loss"
        title = "Loss" if is_loss else f"SDR of the {what.partition(' ')[2]}"
        svg = plots.lines(series, f"{title} of validations by step", "steps", "loss" if is_loss else "dB")
        charts.append(Chart(title, "of validations", svg, "mean of the seeds; dashed: the baseline"))
    return charts


def _series(found: Findings, values: pd.Series[Any]) -> list[Series]:
    """A line for each variant, of values by variant and place."""
    there = values.index.get_level_values(0)
    return [
        Series(
            name,
            found.colour(name),
            values[name].tolist(),
            [float(place) for place in values[name].index],
            name == found.baseline,
        )
        for name in found.variants
        if name in there
    ]


def sweeps(found: Findings) -> list[Chart]:
    """SDR by loudness: the median over songs of the mean over seeds."""
    table = found.tables["sweep"]
    if not len(table):
        return []
    charts = []
    for (test, target), rows in table.groupby(["test", "target"], sort=False):
        of_songs = rows.groupby(["variant", "input_lufs", "song_id"])["sdr_db"].mean()
        medians = of_songs.replace([np.inf, -np.inf], np.nan).groupby(level=[0, 1]).median().dropna()
        series = _series(found, medians)
        svg = plots.lines(series, f"SDR of the {target} by loudness, test {test}", "LUFS", "SDR, dB")
        charts.append(Chart(f"{test}: {target}", "by the mixture's loudness", svg, "median of songs"))
    return charts


def write_pictures(folder: Path, charts: Mapping[str, Sequence[Chart]]) -> None:
    """Each picture as a file of its own; what an earlier call left is removed."""
    style = _STYLE.read_text(encoding="utf-8")
    roots = re.findall(r":root \{[^}]*\}", style)
    colours = f"{roots[0]} @media (prefers-color-scheme: dark) {{ {roots[1]} }}"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for kind, listed in charts.items():
        for chart in listed:
            name = re.sub(r"[^\w.-]+", "-", f"{kind}-{chart.title}").strip("-").lower()
            if chart.svg:
                with replacing(folder / f"{name}.svg") as file:
                    file.write(plots.standalone(chart.svg, colours).encode())
