"""`evaluation.html`: the page of an evaluation, made of the files that measuring a separator leaves in a folder.

What is read of them:

- ``evaluation.json``: ``separator`` (``name``, ``sample_rate``), ``methods`` (``name``, ``is_oracle``), ``corpus``,
  ``targets``, ``summary`` (``per``: 'song' or 'clip', ``method``, ``target``, ``score``, ``count``, ``silent``,
  ``infinite``, ``median``, ``mean``, ``std``), ``excerpts`` (``song_id``, ``rank``, ``sdr_db``, ``folder``,
  ``start_s``, ``length_s``, ``gain_db``, and ``files`` with ``role``, ``target``, ``method``, ``path`` and
  ``gain_db``, the file's own). NaN is null there, infinities are 'inf' and '-inf'.
- ``songs``, and ``sweep`` if it is there, as ``.parquet`` or ``.csv``: ``method``, ``song_id``, ``target``, and a
  column for each score.

The page is one file without scripts, and holds the excerpts that it plays. Names come from strangers' files and
checkpoints: the template escapes everything, and so do the pictures.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from builders.check import read_record
from builders.report import plots
from builders.report.page import environment
from builders.report.pictures import Spectrogram, spectrogram, spectrogram_png
from builders.report.players import bit_rate, data_uri, encoded
from builders.report.plots import Series
from builders.report.records import finite, part
from builders.report.sections import SHOWN_ROWS, Chart
from builders.report.songs import stem_colours
from builders.report.words import clock, number
from manifests.audio import probe, read
from manifests.errors import StemloomError, TableError
from manifests.files import replacing
from manifests.paths import resolve

PAGE = "evaluation.html"

MEAN = "mean"
SCORES = {
    "sdr_db": "SDR",
    "sdr_improvement_db": "SDR improvement",
    "si_sdr_db": "SI-SDR",
    "si_sdr_improvement_db": "SI-SDR improvement",
    "si_sir_db": "SI-SIR",
    "si_sir_improvement_db": "SI-SIR improvement",
    "si_sar_db": "SI-SAR",
    "bsseval_sdr_db": "BSSEval SDR",
    "bsseval_isr_db": "BSSEval ISR",
    "bsseval_sir_db": "BSSEval SIR",
    "bsseval_sar_db": "BSSEval SAR",
    "two_f_score": "2f-model, 0 to 100",
}
"""Scores in the order of the tables, and what the page calls them; SNR is SDR but for an epsilon, and left out."""

_TEXT = {"method": str, "song_id": str, "target": str}
_MOST_DB = 60.0
_HASH = re.compile(r"[0-9a-f]{24,}")
_OTHERS = ("--alternative", "--mixture", "--two")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A separator or an oracle, and its colour."""

    name: str
    is_oracle: bool
    colour: str


@dataclass(frozen=True)
class Cell:
    """What a method scores: numbers in words, and how many songs had none."""

    median: str
    spread: str
    note: str


@dataclass(frozen=True)
class TargetTable:
    """A target's scores: for each its name, and a cell for each method."""

    target: str
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


@dataclass(frozen=True)
class SongRow:
    """A song in the table of songs: mean SDR, and SDR and its improvement by target."""

    song_id: str
    title: str
    about: str
    duration_s: float | None
    mean: str
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sound:
    """A file of an excerpt: its picture and player, or why there is none."""

    name: str
    target: str
    colour: str
    png: str | None
    clip: str | None
    href: str
    error: str | None


@dataclass(frozen=True)
class Excerpt:
    """Seconds of a song: what is heard, in rows of a name and its sounds."""

    song_id: str
    title: str
    rank: str
    sdr: str
    where: str
    rows: tuple[tuple[str, tuple[Sound, ...]], ...]


def write_evaluation_page(folder: Path) -> Path:
    """Write `evaluation.html` into the folder of an evaluation.

    Parameters
    ----------
    folder : Path
        Of a finished evaluation: it holds `evaluation.json`.

    Returns
    -------
    Path
        The page. The same evaluation gives the same bytes.

    Raises
    ------
    BuildError
        When there is no finished evaluation, or the disk refuses.
    TableError
        When a table is missing or damaged.
    """
    record = read_record(folder / "evaluation.json")
    songs = _table(folder, "songs")
    if songs is None:
        raise TableError(f"{folder}: holds no songs.parquet or songs.csv; run 'stemloom evaluate' again")
    methods = _methods(record)
    targets = [str(target) for target in record.get("targets") or []]
    own = songs[songs["method"] == methods[0].name]
    titles = _titles(own)
    listed = _songs(own, targets, titles)
    text = (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            name=methods[0].name,
            corpus=str(record.get("corpus") or ""),
            split=part(record, "settings").get("split"),
            sample_rate=finite(part(record, "separator").get("sample_rate")),
            methods=methods,
            targets=[(stem_colours(targets)[target], target) for target in targets],
            num_songs=own["song_id"].nunique(),
            hours=float(own.drop_duplicates("song_id")["duration_s"].sum()) / 3600,
            tiles=_tiles(record, methods[0], targets),
            tables=_tables(record, methods, targets),
            strips=_strips(songs, methods, targets),
            gains=_gains(own, methods[0], targets),
            sweep=_sweep(_table(folder, "sweep"), methods, targets),
            excerpts=_excerpts(folder, record, methods[0], targets, titles),
            first_songs=listed if len(listed) <= SHOWN_ROWS else listed[: SHOWN_ROWS // 2],
            last_songs=[] if len(listed) <= SHOWN_ROWS else listed[-(SHOWN_ROWS // 2) :],
        )
    )
    path = folder / PAGE
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    for path in (folder / f"{name}.parquet", folder / f"{name}.csv"):
        if not path.exists():
            continue
        try:
            # a CSV knows no types: a song may be called 12
            table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=_TEXT)
        except (OSError, ValueError) as error:
            raise TableError(f"{path}: cannot be read ({error}); run 'stemloom evaluate' again") from error
        if missing := {*_TEXT, "duration_s", "sdr_db"} - {*table.columns}:
            raise TableError(f"{path}: lacks {', '.join(sorted(missing))}; run 'stemloom evaluate' again")
        return table
    return None


def _methods(record: Mapping[str, Any]) -> list[Method]:
    listed = [method for method in record.get("methods") or [] if isinstance(method, dict)]
    colours = ["--chosen", *(_OTHERS[place % len(_OTHERS)] for place in range(len(listed)))]
    found = [
        Method(str(method.get("name")), bool(method.get("is_oracle")), colour)
        for method, colour in zip(listed, colours, strict=False)
    ]
    return found or [Method(str(part(record, "separator").get("name")), False, "--chosen")]


def _summaries(record: Mapping[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Rows of the summary over songs by method, target and score."""
    rows = [row for row in record.get("summary") or [] if isinstance(row, dict) and row.get("per") == "song"]
    return {(str(row.get("method")), str(row.get("target")), str(row.get("score"))): row for row in rows}


def _shown(record: Mapping[str, Any], targets: Sequence[str]) -> list[str]:
    """Targets that have a table: their mean first, where it says more than the only one."""
    return [*([MEAN] if len(targets) > 1 and MEAN not in targets else []), *targets]


def _tiles(record: Mapping[str, Any], method: Method, targets: Sequence[str]) -> list[tuple[str, str, str]]:
    summaries = _summaries(record)
    target = _shown(record, targets)[0]
    tiles = []
    for score in ("sdr_db", "sdr_improvement_db", "si_sdr_db"):
        row = summaries.get((method.name, target, score))
        if row is not None:
            what = "of the mean of the targets" if target == MEAN else f"of the {target}"
            tiles.append((SCORES[score], f"{_decibels(row.get('median'))} dB", f"median {what}"))
    return tiles


def _tables(record: Mapping[str, Any], methods: Sequence[Method], targets: Sequence[str]) -> list[TargetTable]:
    summaries = _summaries(record)
    tables = []
    for target in _shown(record, targets):
        rows = []
        for score, name in SCORES.items():
            cells = tuple(_cell(summaries.get((method.name, target, score))) for method in methods)
            if any(cell is not None for cell in cells):
                rows.append((name, cells))
        tables.append(TargetTable(target, tuple(rows)))
    return tables


def _cell(row: Mapping[str, Any] | None) -> Cell | None:
    if row is None:
        return None
    notes = [
        f"{int(count)} {words}"
        for key, words in (("silent", "without a value"), ("infinite", "infinite"))
        if (count := finite(row.get(key)))
    ]
    mean, std = finite(row.get("mean")), finite(row.get("std"))
    spread = "" if mean is None else f"{number(mean, 2)}" + ("" if std is None else f" ± {number(std, 2)}")
    return Cell(_decibels(row.get("median")), spread, ", ".join(notes))


def _decibels(value: object, places: int = 2) -> str:
    """A number of a record or a table in words: with infinities, which JSON has as text."""
    found = float(value) if isinstance(value, (int, float)) or value in ("inf", "-inf") else math.nan
    if math.isinf(found):
        return "∞" if found > 0 else "−∞"
    return number(found, places)


def _strips(songs: pd.DataFrame, methods: Sequence[Method], targets: Sequence[str]) -> list[Chart]:
    """Of each target the SDR of each song by each method, all over one axis."""
    charts = []
    every = songs.loc[songs["target"].isin(targets), "sdr_db"].to_numpy(np.float64)
    span = every[_drawable(every)]
    for target in targets:
        of_target = songs[songs["target"] == target]
        rows, left_out = [], 0
        for method in methods:
            values = of_target.loc[of_target["method"] == method.name, "sdr_db"].to_numpy(np.float64)
            kept = _drawable(values)
            left_out += int((~kept & ~np.isnan(values)).sum())
            rows.append(Series(method.name, method.colour, values[kept].tolist()))
        svg = plots.strips(rows, f"SDR of the {target} by method", "SDR, dB", span.tolist())
        words = "points are songs, lines their median"
        if "<rect" in svg:
            words += ", boxes the quartiles"
        charts.append(Chart(target, "SDR of each song", svg, words + _beyond(left_out)))
    return charts


def _gains(own: pd.DataFrame, method: Method, targets: Sequence[str]) -> Chart | None:
    """How the improvement depends on how much of a target the mixture is."""
    if "sdr_improvement_db" not in own:
        return None
    colours = stem_colours(targets)
    series, left_out = [], 0
    for target in targets:
        rows = own[own["target"] == target]
        gained = rows["sdr_improvement_db"].to_numpy(np.float64)
        with np.errstate(invalid="ignore"):
            before = rows["sdr_db"].to_numpy(np.float64) - gained
        kept = _drawable(before) & _drawable(gained)
        left_out += int((~kept & ~np.isnan(rows["sdr_db"].to_numpy(np.float64))).sum())
        series.append(Series(target, colours[target], gained[kept].tolist(), before[kept].tolist()))
    svg = plots.points(
        series, "SDR improvement against the SDR of the mixture", "SDR of the mixture, dB", "improvement, dB"
    )
    summary = _falling(series) + _beyond(left_out)
    note = f"of {method.name}: what is gained over the mixture, each song"
    return Chart("Improvement by input", note, svg, summary.strip("; "))


def _drawable(values: Floats) -> npt.NDArray[np.bool_]:
    """A mixture that holds one target alone has an SDR of a hundred dB: nothing else could be seen beside it."""
    return np.abs(values) <= _MOST_DB


def _beyond(count: int) -> str:
    return f"; {count} beyond ±{_MOST_DB:.0f} dB not drawn" if count else ""


def _falling(series: Sequence[Series]) -> str:
    """How the improvement of each target goes with the input's SDR, in words."""
    slopes = [
        f"{row.name} {number(float(np.polyfit(row.x, row.values, 1)[0]), 2)} dB"
        for row in series
        if len(row.x) >= 3 and np.ptp(row.x) > 1e-6
    ]
    return f"for each dB that the input is better: {', '.join(slopes)}" if slopes else ""


def _sweep(sweep: pd.DataFrame | None, methods: Sequence[Method], targets: Sequence[str]) -> list[Chart]:
    """SDR by the mixture's loudness, the median of songs: of the separator each target, then of all each method."""
    if sweep is None or "input_lufs" not in sweep:
        return []
    medians = (
        sweep.groupby(["method", "target", "input_lufs"])["sdr_db"].median().replace([np.inf, -np.inf], np.nan)
    )
    medians = medians.dropna()
    charts = []
    colours = stem_colours(targets)
    for method in methods:
        series = []
        for target in targets:
            if (method.name, target) in medians.index:
                line = medians.loc[(method.name, target)].sort_index()
                series.append(Series(target, colours[target], line.tolist(), line.index.tolist()))
        svg = plots.lines(series, f"SDR by loudness: {method.name}", "mixture, LUFS", "SDR, dB")
        if svg:
            spread = max(max(row.values) - min(row.values) for row in series)
            charts.append(
                Chart(method.name, "median SDR by the mixture's loudness", svg, f"spread {number(spread)} dB")
            )
    return charts


def _titles(own: pd.DataFrame) -> dict[str, str]:
    """What songs are called: their titles, or their ids, of which hashes are shortened."""
    ids = own["song_id"].astype(str)
    titles = own["title"] if "title" in own else [None] * len(own)
    return {
        song_id: title if isinstance(title, str) else f"{song_id[:12]}…" if _HASH.fullmatch(song_id) else song_id
        for song_id, title in zip(ids, titles, strict=True)
    }


def _songs(own: pd.DataFrame, targets: Sequence[str], titles: Mapping[str, str]) -> list[SongRow]:
    """Songs with the worst first; those without a value last."""
    rows = []
    for song_id, group in own.groupby("song_id", sort=False):
        scores = {str(row["target"]): row for row in group.to_dict("records")}
        first = next(iter(scores.values()))
        known = [str(first[key]) for key in ("artist", "genre", "split") if isinstance(first.get(key), str)]
        values = [float(row["sdr_db"]) for row in scores.values() if not math.isnan(float(row["sdr_db"]))]
        mean = sum(values) / len(values) if values else math.nan
        cells = tuple(
            (_decibels(row.get("sdr_db")), _decibels(row.get("sdr_improvement_db")))
            for row in (scores.get(target, {}) for target in targets)
        )
        title, about = titles[str(song_id)], " · ".join(known)
        row = SongRow(str(song_id), title, about, finite(first.get("duration_s")), _decibels(mean), cells)
        rows.append((math.isnan(mean), mean if values else 0.0, str(song_id), row))
    return [row for *_, row in sorted(rows, key=lambda found: found[:3])]


def _excerpts(
    folder: Path, record: Mapping[str, Any], method: Method, targets: Sequence[str], titles: Mapping[str, str]
) -> list[Excerpt]:
    listed = [item for item in record.get("excerpts") or [] if isinstance(item, dict)]
    lengths = [finite(item.get("length_s")) or 0.0 for item in listed]
    num_files = sum(len(_files(item)) for item in listed)
    kbps = bit_rate(num_files, max([*lengths, 1.0]))
    found = []
    for item in listed:
        start, length, gain = (finite(item.get(key)) or 0.0 for key in ("start_s", "length_s", "gain_db"))
        where = f"{clock(start)}–{clock(start + length)}"
        if gain < -0.05:
            where += f", all {number(gain)} dB, to stay within full scale"
        rows: dict[tuple[str, str], list[Sound]] = {}
        sounds = _sounds(str(item.get("folder")), folder, _files(item), gain, method, targets, kbps)
        for file, sound in zip(_files(item), sounds, strict=True):
            # a separator may be called what a role is
            rows.setdefault((str(file.get("role")), sound.name), []).append(sound)
        song_id, rank = str(item.get("song_id")), str(item.get("rank"))
        found.append(
            Excerpt(
                song_id,
                titles.get(song_id, song_id),
                rank,
                _decibels(item.get("sdr_db")),
                where,
                tuple((name, tuple(heard)) for (_, name), heard in rows.items()),
            )
        )
    return found


def _files(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [file for file in item.get("files") or [] if isinstance(file, dict)]


def _sounds(
    place: str,
    folder: Path,
    files: Sequence[Mapping[str, Any]],
    gain_db: float,
    method: Method,
    targets: Sequence[str],
    kbps: float,
) -> list[Sound]:
    """The files of an excerpt at one level, their spectrograms to one scale; the first method's if unsaid."""
    colours = stem_colours(targets)
    sounds: list[Sound] = []
    seen: list[Spectrogram | None] = []
    for file in files:
        target = str(file.get("target") or "")
        role = str(file.get("role"))
        name = str(file.get("method") or method.name) if role == "estimate" else role
        href = f"{place}/{file.get('path')}"
        sound = Sound(name, target, colours.get(target, "--mixture"), None, None, href, None)
        picture = None
        # each method's files were made quieter as far as they need be
        further_db = 0.0 if (own_db := finite(file.get("gain_db"))) is None else min(0.0, gain_db - own_db)
        try:
            path = resolve(folder, href)
            info = probe(path)
            picture = spectrogram(path, info.num_frames, info.sample_rate)
            picture = dataclasses.replace(picture, levels_db=picture.levels_db + further_db)
            audio = read(path)[0] * np.float32(10 ** (further_db / 20))
            clip = data_uri(*encoded(audio, info.sample_rate, kbps))
            sound = dataclasses.replace(sound, clip=clip)
        except StemloomError as error:
            sound = dataclasses.replace(sound, error=str(error))
        sounds.append(sound)
        seen.append(picture)
    top_db = max((float(picture.levels_db.max()) for picture in seen if picture is not None), default=0.0)
    return [
        sound
        if picture is None
        else dataclasses.replace(sound, png=data_uri("image/png", spectrogram_png(picture.levels_db, top_db)))
        for sound, picture in zip(sounds, seen, strict=True)
    ]
