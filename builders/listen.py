"""Examples of a mixing recipe, to hear and to see: a few mixtures rendered, and a page of them.

The mixtures are a static set (`builders.mixtures`); the page lies beside them, plays their files by relative paths,
and shows each target's spectrogram with what it is made of: which stem of which song (its title and artist, or its
file's name), the label of the clip that it was drawn from, where, how loud, and what happened to it on the way.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from augment.plan import Event, MixturePlan, Step, plans_of
from augment.recipe import MixRecipe
from builders.mixtures import MixtureBuilder
from builders.recipe import MixtureRecipe
from builders.report.page import environment
from builders.report.pictures import Spectrogram, spectrogram, spectrogram_png
from builders.report.players import data_uri
from builders.report.songs import stem_colours
from builders.report.words import number
from builders.stage import Progress, silent
from manifests.corpus import MIXTURE, Corpus
from manifests.files import replacing
from manifests.tables import read_table

PAGE = "listen.html"


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A labelled clip: its place in frames of its song's files, its label with the probability in words."""

    start_frame: int
    num_frames: int
    label: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """An event on its target's timeline: shares of the mixture's length, and words."""

    left: float
    width: float
    what: str
    where: str
    level: str
    steps: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Track:
    """The mixture or a target: its picture, its file and its events."""

    name: str
    colour: str
    png: str
    href: str
    loudness_lufs: float | None
    bars: tuple[Bar, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """A mixture with its tracks, and what was done to all targets alike."""

    name: str
    duration_s: float
    steps: tuple[str, ...]
    tracks: tuple[Track, ...]


def write_examples(
    mix: MixRecipe,
    folders: Sequence[Path],
    out: Path,
    *,
    name: str = "",
    num: int = 8,
    seed: int = 0,
    split: str | None = None,
    jobs: int = 2,
    progress: Progress = silent,
) -> Path:
    """Render examples of a recipe and write the page.

    Parameters
    ----------
    mix : MixRecipe
    folders : sequence of Path
        Finished corpora.
    out : Path
        A new or empty folder, or one with the same examples.
    name : str
        Of the recipe, for the page's title.
    num : int
        How many.
    seed : int
        Of the draws.
    split : str, optional
        Take sources from this split only.
    jobs : int
        Worker processes; 0 works in this process.
    progress : callable, optional

    Returns
    -------
    Path
        The page, `listen.html`.

    Raises
    ------
    RecipeError
        If the recipe cannot be drawn from the corpora.
    TableError, AudioError, BuildError
        As `MixtureBuilder.build`.
    """
    size: dict[str, Any] = {"num": num} if split is None else {"splits": {split: num}}
    recipe = MixtureRecipe(**size, seed=seed, jams=False)
    corpus = MixtureBuilder(out, "universal", mix, recipe, jobs=jobs, progress=progress).build(folders)
    mixtures = read_table(out, "mixtures")
    levels = {
        str(mixture_id): list(rows["loudness_lufs"])
        for mixture_id, rows in mixtures[mixtures["path"].notna()].groupby("mixture_id")
    }
    plans = plans_of(mixtures)
    titles = _titles(folders)
    anchors = _anchors(folders, {event.song_id for plan in plans for event in plan.events})
    examples = []
    for done, plan in enumerate(plans):
        progress("draw", done, len(plans), 0)
        examples.append(_example(corpus, plan, levels.get(plan.mixture_id, []), mix.targets, titles, anchors))
    progress("draw", len(plans), len(plans), 0)
    text = (
        environment()
        .get_template("listen.html.j2")
        .render(name=name or "recipe", about=mix.about, mix=mix, examples=examples, seed=seed, songs=_songs(corpus))
    )
    path = out / PAGE
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
    return path


def _songs(corpus: Corpus) -> int:
    return len({parent for parents in corpus.stems["parents"].dropna() for parent in parents.split(";") if parent})


def _titles(folders: Sequence[Path]) -> dict[str, str]:
    """By song id: its title and artist, or the name that its file had, where the tracks tables know one."""
    known: dict[str, str] = {}
    for folder in folders:
        tracks = Corpus.open(folder).tracks
        if tracks is None:
            continue
        columns = ["track_id", "song_title", "title", "artist", "path"]
        for track_id, *titles, artist, path in tracks[columns].itertuples(index=False, name=None):
            title = next((text for text in titles if not pd.isna(text)), None)
            words = [PurePosixPath(path).name] if title is None else [title, artist]
            known.setdefault(str(track_id), " by ".join(text for text in words if not pd.isna(text)))
    return known


def _anchors(folders: Sequence[Path], songs: Collection[str]) -> dict[str, list[Anchor]]:
    """The labelled clips of these songs, by song id."""
    known: dict[str, list[Anchor]] = {}
    columns = ["song_id", "start_frame", "num_frames", "label", "label_probability"]
    for folder in folders:
        clips = Corpus.open(folder).clips
        if clips is None:
            continue
        labelled = clips.loc[clips["label"].notna() & clips["song_id"].isin(list(songs)), columns]
        for song_id, start, num_frames, label, probability in labelled.itertuples(index=False, name=None):
            chance = "" if pd.isna(probability) else f" ({probability:.2f})"
            known.setdefault(str(song_id), []).append(Anchor(int(start), int(num_frames), f"{label}{chance}"))
    return known


def _label_of(event: Event, anchors: Sequence[Anchor]) -> str | None:
    """The label of the clip that an event was drawn from: of those that hold its crop, one that starts as it does.

    Where several do as well, all their labels, as the plan does not say which it was.
    """
    end = event.source_start_frame + event.num_frames
    holding = [
        anchor
        for anchor in anchors
        if anchor.start_frame <= event.source_start_frame and end <= anchor.start_frame + anchor.num_frames
    ]
    latest = max((anchor.start_frame for anchor in holding), default=0)
    return " / ".join(sorted({anchor.label for anchor in holding if anchor.start_frame == latest})) or None


def _example(
    corpus: Corpus,
    plan: MixturePlan,
    levels: Sequence[float],
    targets: Sequence[str],
    titles: Mapping[str, str],
    anchors: Mapping[str, Sequence[Anchor]],
) -> Example:
    stems = corpus.song(plan.mixture_id)
    colours = stem_colours(list(stems))
    seen: dict[str, Spectrogram] = {
        stem: spectrogram(corpus.path_of(row), row["num_frames"], row["sample_rate"]) for stem, row in stems.items()
    }
    top_db = max(float(found.levels_db.max()) for found in seen.values())
    inner = max([plan.num_frames, *(event.offset_frame + event.length_frames for event in plan.events)])
    tracks = []
    order = {stem: place for place, stem in enumerate((MIXTURE, *targets))}
    for stem, row in sorted(stems.items(), key=lambda item: order.get(item[0], len(order))):
        bars = [
            _bar(event, level, inner, titles, _label_of(event, anchors.get(event.song_id, ())))
            for event, level in zip(plan.events, levels, strict=True)
            if event.target == stem
        ]
        png = data_uri("image/png", spectrogram_png(seen[stem].levels_db, top_db))
        tracks.append(Track(stem, colours[stem], png, str(row["path"]), row["loudness_lufs"], tuple(bars)))
    return Example(
        plan.mixture_id,
        plan.num_frames / plan.sample_rate,
        (*(_words(step) for step in plan.transforms), *_scaled(stems[MIXTURE]["gain_db"])),
        tuple(tracks),
    )


def _scaled(gain_db: float | None) -> list[str]:
    """What was done to the files of an example besides its plan."""
    is_changed = gain_db is not None and abs(gain_db) >= 0.05
    return [f"{number(gain_db)} dB, to stay within full scale"] if is_changed else []


def _bar(event: Event, level: float, inner_frames: int, titles: Mapping[str, str], label: str | None) -> Bar:
    start_s = event.source_start_frame / event.source_rate
    what = f"{event.stem} of {titles.get(event.song_id) or PurePosixPath(event.path).name}"
    return Bar(
        event.offset_frame / inner_frames,
        event.length_frames / inner_frames,
        what if label is None else f"{label}, {what}",
        f"{event.path} from {number(start_s, 2)} s, {number(event.num_frames / event.source_rate, 2)} s",
        f"{number(event.gain_db)} dB" + ("" if level != level else f", {number(level)} LUFS"),
        tuple(_words(step) for step in event.transforms),
    )


def _words(step: Step) -> str:
    """A step as a person reads it: its name, and its parameters with numbers cut short."""
    settings = [f"{name} {_short(value)}" for name, value in step.items() if name != "name"]
    return f"{step['name']}" + (f" ({', '.join(settings)})" if settings else "")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]")
    return value if isinstance(value, str) else json.dumps(value)
