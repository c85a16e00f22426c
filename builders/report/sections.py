"""What the page's tables and charts hold, from the tables of a build and its `run.json`.

Whatever a build does not have (gates, genres, pairs ...) is empty here, and its section is left out of the page.
A field of `run.json` that is not what it should be is taken as missing: `stemloom check` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from builders.report import charts
from builders.report.records import counts, finite, part, rows_of
from builders.report.songs import Song, stem_colours
from builders.report.words import kind_of, number
from manifests.corpus import MIXTURE, Corpus

SHOWN_ROWS = 300
"""Rows of a long table that the page shows; the tables themselves have all."""

STATUSES = ("chosen", "alternative", "refused")
_KEPT, _DROPPED = ("kept", "chosen"), ("rejected", "refused", "alternative")
_MAX_GENRES = 30
_MAX_REASONS = 4
_MAX_STEMS = 6


@dataclass(frozen=True)
class Chart:
    """A distribution: its title, its drawing, and its median and spread in words."""

    title: str
    note: str
    svg: str
    summary: str


@dataclass(frozen=True)
class StageRow:
    """What a stage did: counts, what came in and what was left, the shares kept and dropped of that, time."""

    name: str
    counts: tuple[tuple[str, int], ...]
    came_in: int
    left: int
    kept: float
    dropped: float
    wall_s: float | None


@dataclass(frozen=True)
class GradeRow:
    """A grade: its songs here and their hours, songs that had it before some were dropped, frequent reasons."""

    grade: str
    songs: int
    hours: float
    graded: int | None
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class GenreRow:
    """A genre: hours before and after balancing, the shares that they are, the share of the reference."""

    genre: str
    before: float
    after: float
    before_share: float
    after_share: float
    reference: float | None


@dataclass(frozen=True)
class SplitRow:
    """A split: songs, hours, artists, and its share of the hours."""

    split: str
    songs: int
    hours: float
    artists: int | None
    share: float


def stages(run: Mapping[str, Any]) -> list[StageRow]:
    """Stages in the order of the run."""
    by_stage, wall_s = part(run, "counts"), part(run, "wall_s")
    times = {name: finite(value) for name, value in wall_s.items()}
    rows = []
    for name in dict.fromkeys((*by_stage, *wall_s)):
        found = {str(key): value for key, value in part(by_stage, name).items() if isinstance(value, int)}
        kept, dropped = (sum(found.get(key, 0) for key in keys) for keys in (_KEPT, _DROPPED))
        total = max(kept + dropped, found.get("in", 0))
        rows.append(
            StageRow(
                str(name),
                tuple(found.items()),
                total,
                kept,
                kept / max(1, total),
                dropped / max(1, total),
                times.get(name),
            )
        )
    return rows


def grades(run: Mapping[str, Any], songs: Sequence[Song]) -> list[GradeRow]:
    """Grades from the best on, with the reasons that their songs have most."""
    graded = {key: value for key, value in part(run, "grades").items() if isinstance(value, int)}
    rows = []
    for grade in sorted({*graded, *(song.grade for song in songs if song.grade is not None)}):
        found = [song for song in songs if song.grade == grade]
        reasons = counts(pd.Series([kind_of(reason) for song in found for reason in song.reasons], dtype=object))
        rows.append(
            GradeRow(
                str(grade),
                len(found),
                sum(song.duration_s for song in found) / 3600,
                graded.get(grade),
                tuple(reasons.items())[:_MAX_REASONS],
            )
        )
    return rows


def gates(run: Mapping[str, Any]) -> list[Chart]:
    """The distribution that each gate cuts."""
    listed = run.get("gates")
    found = [gate for gate in listed if isinstance(gate, dict)] if isinstance(listed, list) else []
    drawn = []
    for gate in found:
        minimum, maximum = (finite(gate.get(side)) for side in ("minimum", "maximum"))
        limits = [f"{sign} {limit:g}" for sign, limit in (("≥", minimum), ("≤", maximum)) if limit is not None]
        title = ".".join(str(gate[key]) for key in ("stem", "measure") if gate.get(key))
        edges, heights = _numbers(gate.get("edges")), _numbers(gate.get("counts"))
        is_whole = len(edges) == len(heights) + 1 and (np.diff(edges) > 0).all() and (heights >= 0).all()
        svg = charts.gate(edges, heights, minimum, maximum, f"Histogram: {title}") if is_whole else ""
        kept, dropped = (number(finite(gate.get(key)), 0) for key in ("kept", "dropped"))
        name = str(gate.get("name") or "")
        notes = [] if name.startswith(title) else [name]
        notes += [f"of {gate['of']}"] if gate.get("of") else []
        heading = f"{title} {' and '.join(limits)}".strip()
        drawn.append(Chart(heading, ", ".join(notes), svg, f"{kept} pass, {dropped} do not"))
    return drawn


def genres(run: Mapping[str, Any]) -> tuple[list[GenreRow], int]:
    """Genres by their hours before, at most 30 of them; and how many there are more."""
    found = part(run, "genres")
    before, after = (_floats(part(found, key)) for key in ("before", "after"))
    reference = _floats(part(found, "reference")) if isinstance(found.get("reference"), dict) else None
    names = sorted({*before, *after, *(reference or {})}, key=lambda name: (-before.get(name, 0.0), name))
    totals = [sum(side.values()) or 1.0 for side in (before, after)]
    rows = [
        GenreRow(
            name,
            before.get(name, 0.0),
            after.get(name, 0.0),
            before.get(name, 0.0) / totals[0],
            after.get(name, 0.0) / totals[1],
            None if reference is None else reference.get(name, 0.0),
        )
        for name in names
    ]
    return rows[:_MAX_GENRES], max(0, len(rows) - _MAX_GENRES)


def splits(run: Mapping[str, Any], songs: Sequence[Song]) -> list[SplitRow]:
    """Splits by their hours: those that the run counted, else those of the songs; none where no song has one."""
    found: dict[str, tuple[int, float, int | None]] = {}
    for split, entry in part(run, "splits").items():
        if isinstance(entry, dict):
            numbers = [finite(entry.get(key)) or 0.0 for key in ("songs", "hours", "artists")]
            found[str(split)] = (int(numbers[0]), numbers[1], int(numbers[2]))
    if not found:
        for split in sorted({song.split for song in songs if song.split is not None}):
            members = [song for song in songs if song.split == split]
            artists = {song.artist for song in members if song.artist is not None}
            found[split] = (len(members), sum(song.duration_s for song in members) / 3600, len(artists))
    total = sum(hours for _, hours, _ in found.values()) or 1.0
    ordered = sorted(found.items(), key=lambda item: (-item[1][1], item[0]))
    return [SplitRow(split, *entry, entry[1] / total) for split, entry in ordered]


def leaks(run: Mapping[str, Any]) -> dict[str, int]:
    """Leaks that the audit found, by kind; empty when there was none."""
    return {str(key): value for key, value in part(run, "leaks").items() if isinstance(value, int)}


def distributions(
    corpus: Corpus,
    tracks: pd.DataFrame,
    pairs: pd.DataFrame,
    clips: pd.DataFrame,
    songs: Sequence[Song],
    noun: str = "songs",
) -> list[Chart]:
    """Lag, drift ... of the pairs, residual and length of the songs, levels of the stems, voice of the clips."""
    drawn = []
    if len(pairs):
        stems = corpus.stems
        rates = {
            **dict(zip(stems["song_id"], stems["sample_rate"], strict=True)),
            **dict(zip(tracks["track_id"], tracks["sample_rate"], strict=True)),
        }
        lag_s = pairs["lag_frames"] / pairs["mixture_id"].map(rates).astype("float64")
        aligned = STATUSES[:2]
        drawn = [
            chart("Lag", "s", "instrumental behind mixture", _by_status(pairs, lag_s, aligned)),
            chart("Drift", "ppm", "of the instrumental's clock", _by_status(pairs, pairs["drift_ppm"], aligned)),
            chart("Confidence", "", "of all compared pairs", _by_status(pairs, pairs["confidence"])),
            chart("Bit error rate", "", "of fingerprints", _by_status(pairs, pairs["bit_error_rate"])),
        ]
    residuals = [song.residual_db for song in songs if song.residual_db is not None]
    if residuals:
        drawn.append(chart("Residual", "dB", "left in vocal-free frames, songs", {"--chosen": residuals}))
    drawn += [
        chart("Duration", "s", f"of the {noun}", {"--chosen": [song.duration_s for song in songs]}),
        *_stem_levels(corpus.stems),
    ]
    if clips["voiced_fraction"].notna().any():
        voiced = {"--chosen": clips["voiced_fraction"].dropna().tolist()}
        drawn.append(chart("Voiced fraction", "", "of the clips", voiced))
    return drawn


def stem_key(stems: pd.DataFrame) -> list[tuple[str, str]]:
    """CSS variable and name of the stems that charts show: the mixture, and those that most songs have."""
    names = sorted(counts(stems["stem"]).items(), key=lambda item: (item[0] != MIXTURE, -item[1], item[0]))
    return [(colour, name) for name, colour in stem_colours([name for name, _ in names[:_MAX_STEMS]]).items()]


def _stem_levels(stems: pd.DataFrame) -> list[Chart]:
    """Loudness and RMS by stem."""
    level_db = 20 * np.log10(stems["rms"].where(stems["rms"] > 0))
    drawn = []
    for title, unit, values in (("Loudness", "LUFS", stems["loudness_lufs"]), ("RMS", "dB", level_db)):
        series = {colour: values[stems["stem"] == name].dropna().tolist() for colour, name in stem_key(stems)}
        if any(series.values()):
            drawn.append(chart(title, unit, "of the stems", series, charts.outlines))
    return drawn


def refused(pairs: pd.DataFrame) -> dict[str, Any]:
    """The refused candidates, and how many there are for each kind of reason."""
    found = pairs[pairs["status"] == "refused"]
    kinds = found["reason"].fillna("no reason given").map(kind_of)
    ordered = found.assign(kind=kinds).sort_values(["kind", "mixture_path", "pair_id"], kind="stable")
    return {"count": len(found), "kinds": counts(kinds), "rows": rows_of(ordered.head(SHOWN_ROWS))}


def rejected(table: pd.DataFrame, tracks: pd.DataFrame, run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rejects by stage and reason: how many, their hours where tracks or run know them, the first rows."""
    lengths = dict(zip(tracks["track_id"], tracks["num_frames"] / tracks["sample_rate"], strict=True))
    hours = table["id"].map(lengths).astype("float64") / 3600
    counted = part(part(run, "hours"), "rejected")
    groups = []
    for (stage, reason), rows in table.groupby(["stage", "reason"]):
        known = hours[rows.index].dropna()
        groups.append(
            {
                "stage": stage,
                "reason": reason,
                "count": len(rows),
                "hours": finite(part(counted, str(stage)).get(str(reason)))
                or (float(known.sum()) if len(known) else None),
                "rows": rows_of(rows.head(SHOWN_ROWS)),
            }
        )
    return groups


def _by_status(
    pairs: pd.DataFrame, values: pd.Series[float], statuses: Iterable[str] = STATUSES
) -> dict[str, list[float]]:
    return {f"--{status}": values[pairs["status"] == status].dropna().tolist() for status in statuses}


def chart(
    title: str, unit: str, note: str, series: Mapping[str, Sequence[float]], draw: Any = charts.histogram
) -> Chart:
    """A distribution of values by the CSS variable of their colour; without a unit where it is empty."""
    values = [value for found in series.values() for value in found]
    heading = f"{title}, {unit}" if unit else title
    if not values:
        return Chart(heading, note, "", "no values")
    svg = draw(series, f"Histogram: {heading}")
    low, middle, high = np.percentile(values, [5, 50, 95])
    places = 0 if abs(middle) >= 100 else 1 if abs(middle) >= 10 else 2
    spread = f"{number(low, places)} to {number(high, places)}"
    summary = f"median {number(middle, places)}, 5–95\u00a0% {spread}, n\u00a0=\u00a0{len(values):,}"
    return Chart(heading, note, svg, summary)


def _numbers(value: object) -> charts.Floats:
    """A list of numbers of a record; empty when it is none."""
    listed = value if isinstance(value, list) else []
    found = [finite(item) for item in listed]
    return np.array([item for item in found if item is not None] if None not in found else [], np.float64)


def _floats(record: Mapping[str, Any]) -> dict[str, float]:
    found = {str(key): finite(value) for key, value in record.items()}
    return {key: value for key, value in found.items() if value is not None}
