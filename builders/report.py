"""A page about a build: what came in, what came out, what was left out and why, and how the songs look.

The page is one file without scripts, beside the tables, and refers to the stems by relative paths. Titles and
tags come from strangers' files: the template escapes everything, and what is drawn is made of numbers only.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from builders.charts import histogram, spectrogram, spectrogram_png
from builders.check import MIXTURE, read_record, require_finished
from manifests.corpus import CORPUS_ROOT, Corpus, Row
from manifests.errors import StemloomError
from manifests.files import replacing
from manifests.tables import empty_table

SHOWN_ROWS = 300
"""Rows of a long table that the page shows; the tables themselves have all."""

PICTURED = 3
"""Songs with pictures at either end of the table of songs."""

_STATUSES = ("chosen", "alternative", "refused")
_NUMBERS = re.compile(r"\b[0-9a-f]{32}\b|[-−]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Stem:
    """A stem as the page shows it: its name, its file for the browser, its row."""

    name: str
    href: str | None
    row: Row


@dataclass(frozen=True)
class Song:
    """A row of the table of songs. What is not known is None."""

    song_id: str
    title: str
    artist: str | None
    versions: tuple[str, ...]
    releases: tuple[str, ...]
    duration_s: float
    residual_db: float | None
    confidence: float | None
    segments: int | None
    stems: tuple[Stem, ...]


@dataclass(frozen=True)
class Picture:
    """A stem's spectrogram, or why there is none."""

    stem: Stem
    png: str | None
    error: str | None


@dataclass(frozen=True)
class Chart:
    """A distribution: its title, its drawing, and its median and spread in words."""

    title: str
    note: str
    svg: str
    summary: str


@dataclass(frozen=True)
class StageRow:
    """What a stage did, as counts and time."""

    name: str
    counts: tuple[tuple[str, int], ...]
    wall_s: float | None
    share: float


def write_report(build: Path) -> Path:
    """Write `report.html` into a finished build.

    Parameters
    ----------
    build : Path
        A build folder.

    Returns
    -------
    Path
        The page. The same build gives the same bytes.

    Raises
    ------
    BuildError
        When there is no such folder, its build has not finished, or its `run.json` cannot be read.
    TableError
        When a table is damaged.
    """
    require_finished(build)
    run = read_record(build / "run.json")
    corpus = Corpus.open(build)
    tracks = empty_table("tracks") if corpus.tracks is None else corpus.tracks
    pairs = empty_table("pairs") if corpus.pairs is None else corpus.pairs
    rejected = empty_table("rejected") if corpus.rejected is None else corpus.rejected
    songs = _songs(corpus, tracks, pairs)
    best = songs[:PICTURED]
    worst = songs[max(PICTURED, len(songs) - PICTURED) :][::-1]
    page = _environment().from_string(
        importlib.resources.files("builders").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    text = page.render(
        name=build.resolve().name,
        builder=str(run.get("builder", "")),
        source=str(run.get("catalog", "")),
        hours={"in": _number(_part(run, "hours").get("in")), "kept": sum(s.duration_s for s in songs) / 3600},
        status={status: int((pairs["status"] == status).sum()) for status in _STATUSES},
        num_tracks=len(tracks),
        stages=_stages(run),
        charts=_charts(corpus, tracks, pairs, songs),
        songs=songs,
        first_songs=songs if len(songs) <= SHOWN_ROWS else songs[: SHOWN_ROWS // 2],
        last_songs=[] if len(songs) <= SHOWN_ROWS else songs[-(SHOWN_ROWS // 2) :],
        pictured=[
            (heading, [(song, _pictures(corpus, song)) for song in found])
            for heading, found in (("Lowest residual", best), ("Highest residual", worst))
            if found
        ],
        refused=_refused(pairs),
        rejected=_rejected(rejected),
        recipe=sorted(_part(run, "recipe").items()),
        versions=sorted(_part(run, "versions").items()),
    )
    path = build / "report.html"
    with replacing(path) as file:
        # file names that are not UTF-8 reach us as lone surrogates
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _shown
    environment.filters["time"] = _time
    return environment


def _songs(corpus: Corpus, tracks: pd.DataFrame, pairs: pd.DataFrame) -> list[Song]:
    """Every song, the one with the lowest residual first and those without one last."""
    by_track = {row["track_id"]: row for row in _rows(tracks)}
    by_song = {row["song_id"]: row for row in _rows(pairs[pairs["status"] == "chosen"])}
    songs = []
    for song_id in corpus.songs():
        rows = corpus.song(song_id)
        row = rows.get(MIXTURE) or next(iter(rows.values()))
        track, pair = by_track.get(song_id, {}), by_song.get(song_id, {})
        sides = [by_track.get(pair.get(f"{role}_id"), {}) for role in ("mixture", "instrumental")]
        residuals = [stem["residual_db"] for stem in rows.values() if stem["residual_db"] is not None]
        songs.append(
            Song(
                song_id=song_id,
                title=track.get("song_title") or track.get("title") or song_id,
                artist=row["artist"] or track.get("artist"),
                versions=tuple(side["version"] for side in sides if side),
                releases=tuple(pair[f"{role}_path"] for role in ("mixture", "instrumental") if pair),
                duration_s=row["num_frames"] / row["sample_rate"],
                residual_db=max(residuals, default=None),
                confidence=pair.get("confidence"),
                segments=_count_segments(pair.get("segments")),
                stems=tuple(Stem(name, _href(stem), stem) for name, stem in rows.items()),
            )
        )
    return sorted(songs, key=lambda song: (song.residual_db is None, song.residual_db or 0.0, song.song_id))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None for nulls."""
    plain = frame.astype(object)
    records = plain.where(plain.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in records]


def _count_segments(text: str | None) -> int | None:
    segments = None if text is None else json.loads(text)
    return len(segments) if isinstance(segments, list) else None


def _href(row: Row) -> str | None:
    """The file as a link relative to the page; None when it lies outside of the build."""
    return quote(str(row["path"])) if row["root"] == CORPUS_ROOT else None


def _pictures(corpus: Corpus, song: Song) -> list[Picture]:
    """Spectrograms of a song's stems, all to one scale."""
    found: list[tuple[Stem, Any]] = []
    for stem in song.stems:
        try:
            path = corpus.path_of(stem.row)
            found.append((stem, spectrogram(path, stem.row["num_frames"], stem.row["sample_rate"])))
        except StemloomError as error:
            found.append((stem, error))
    top_db = max((float(levels.max()) for _, levels in found if isinstance(levels, np.ndarray)), default=0.0)
    return [
        Picture(stem, None, str(levels))
        if isinstance(levels, StemloomError)
        else Picture(stem, base64.b64encode(spectrogram_png(levels, top_db)).decode("ascii"), None)
        for stem, levels in found
    ]


def _charts(corpus: Corpus, tracks: pd.DataFrame, pairs: pd.DataFrame, songs: Sequence[Song]) -> list[Chart]:
    stems = corpus.stems
    rates = {
        **dict(zip(stems["song_id"], stems["sample_rate"], strict=True)),
        **dict(zip(tracks["track_id"], tracks["sample_rate"], strict=True)),
    }
    lag_s = pairs["lag_frames"] / pairs["mixture_id"].map(rates).astype("float64")
    aligned = _STATUSES[:2]
    residual_db = {"chosen": [song.residual_db for song in songs if song.residual_db is not None]}
    duration_s = {"chosen": [song.duration_s for song in songs]}
    return [
        _chart("Lag", "s", "instrumental behind mixture", _by_status(pairs, lag_s, aligned)),
        _chart("Drift", "ppm", "of the instrumental's clock", _by_status(pairs, pairs["drift_ppm"], aligned)),
        _chart("Residual", "dB", "left in vocal-free frames, songs", residual_db),
        _chart("Confidence", "", "of all compared pairs", _by_status(pairs, pairs["confidence"])),
        _chart("Bit error rate", "", "of fingerprints", _by_status(pairs, pairs["bit_error_rate"])),
        _chart("Duration", "s", "of the songs", duration_s),
    ]


def _by_status(
    pairs: pd.DataFrame, values: pd.Series[float], statuses: Iterable[str] = _STATUSES
) -> dict[str, list[float]]:
    return {status: values[pairs["status"] == status].dropna().tolist() for status in statuses}


def _chart(title: str, unit: str, note: str, series: Mapping[str, Sequence[float]]) -> Chart:
    values = [value for found in series.values() for value in found]
    heading = f"{title}, {unit}" if unit else title
    svg = histogram({f"--{status}": found for status, found in series.items()}, f"Histogram: {heading}")
    if not values:
        return Chart(heading, note, "", "no values")
    low, middle, high = np.percentile(values, [5, 50, 95])
    places = 0 if abs(middle) >= 100 else 1 if abs(middle) >= 10 else 2
    spread = f"{_shown(low, places)} to {_shown(high, places)}"
    summary = f"median {_shown(middle, places)}, 5–95\u00a0% {spread}, n\u00a0=\u00a0{len(values):,}"
    return Chart(heading, note, svg, summary)


def _stages(run: Mapping[str, Any]) -> list[StageRow]:
    """Stages in the order of the run, with each one's share of the longest time."""
    counts, wall_s = _part(run, "counts"), _part(run, "wall_s")
    times = {name: _number(value) for name, value in wall_s.items()}
    longest = max((time for time in times.values() if time is not None), default=0.0) or 1.0
    return [
        StageRow(
            str(name),
            tuple((str(key), value) for key, value in _part(counts, name).items() if isinstance(value, int)),
            times.get(name),
            (times.get(name) or 0.0) / longest,
        )
        for name in dict.fromkeys((*counts, *wall_s))
    ]


def _refused(pairs: pd.DataFrame) -> dict[str, Any]:
    """The refused candidates, and how many there are for each kind of reason."""
    refused = pairs[pairs["status"] == "refused"]
    kinds = refused["reason"].fillna("no reason given").map(lambda reason: _NUMBERS.sub("…", reason))
    ordered = refused.assign(kind=kinds).sort_values(["kind", "mixture_path", "pair_id"], kind="stable")
    return {"count": len(refused), "kinds": _counts(kinds), "rows": _rows(ordered.head(SHOWN_ROWS))}


def _rejected(rejected: pd.DataFrame) -> list[dict[str, Any]]:
    """Rejects by stage and reason, the first rows of each."""
    return [
        {"stage": stage, "reason": reason, "count": len(rows), "rows": _rows(rows.head(SHOWN_ROWS))}
        for (stage, reason), rows in rejected.groupby(["stage", "reason"])
    ]


def _counts(values: pd.Series[Any]) -> dict[str, int]:
    return {str(key): int(count) for key, count in values.value_counts().items()}


def _part(record: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A field of `run.json` that should be an object; empty when it is not, `stemloom check` says so."""
    value = record.get(field)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None


def _shown(value: float | None, places: int = 1) -> str:
    """A number with a true minus sign, or a dash."""
    if value is None:
        return "–"
    text = f"{value:,.{places}f}"
    return (text if float(text.replace(",", "")) != 0 else text.lstrip("-")).replace("-", "−")


def _time(seconds: float | None) -> str:
    """Seconds as '1 h 02 min', '3:05 min' or '0.4 s'."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
