"""What a page about a cleaned corpus shows besides: what the limits were, what was found, and how stems changed.

Stems are shown before, cleaned, and what was removed of them. The stem before is read from the corpus that was
cleaned, whose folder `recipe.json` names; where it is not any more, only the others are shown. A field of a record
that is not what it should be is taken as missing, as in `sections`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from builders.report.gallery import Picture, look, painted, threaded
from builders.report.players import CLIP_S, loudest_start
from builders.report.records import finite, part, rows_of, source_folder
from builders.report.sections import Chart, chart
from builders.report.songs import Stem, stem_of, title_of
from builders.report.words import clock, number, setting
from curation.cleaning import FAINTEST_DB
from curation.voice import STEP_S
from manifests.corpus import CORPUS_ROOT, Corpus
from manifests.errors import StemloomError
from manifests.tables import empty_table

VERDICTS = ("kept", "cleaned", "dropped")
COLOURS = {"kept": "--refused", "cleaned": "--chosen", "dropped": "--bad"}
"""CSS variables of the verdicts."""

MOST_CLEANED, AT_RANDOM = 12, 4
"""Stems with players: of those that lost most, and of those that were kept, and left out."""

_BEFORE = "source"
_STAGE = "clean"
_UNITS = 1000
_FEWEST_UNITS = 2

Span = tuple[int, int]


@dataclass(frozen=True)
class VerdictRow:
    """A stem's name, how many of it have each verdict, and the median level of the voices found, in dB."""

    stem: str
    counts: tuple[int, ...]
    voice_db: float | None


@dataclass(frozen=True)
class Choice:
    """A stem to be shown: facts about it in words, why it was left out, where it was cleaned and is damaged."""

    song_id: str
    stem: str
    verdict: str
    facts: tuple[str, ...]
    detail: str | None
    cleaned: tuple[Span, ...]
    damaged: tuple[Span, ...]
    removed_path: str | None

    @property
    def num_pictures(self) -> int:
        """As many as there are at most."""
        return 3 if self.verdict == "cleaned" else 1


@dataclass(frozen=True)
class Portrait:
    """A stem with its pictures. Marks are paths in a box of 1000 x 100, by CSS variable of the colour."""

    choice: Choice
    title: str
    pictures: tuple[Picture, ...]
    marks: tuple[tuple[str, str], ...]
    duration_s: float | None
    clip_start: float
    clip_width: float
    clip_words: str


@dataclass(frozen=True)
class Section:
    """What the page says about a cleaning; `missing` is the folder of the source where it is not there any more."""

    summary: str
    verdicts: list[VerdictRow]
    settings: list[tuple[str, str]]
    charts: list[Chart]
    shown: list[tuple[str, str, list[Portrait]]]
    missing: str | None


def is_cleaned(run: Mapping[str, Any], corpus: Corpus) -> bool:
    """Whether a build is a cleaning."""
    return run.get("builder") == "clean" and corpus.cleaned is not None


def settings(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the recipe says, in words and units."""
    recipe = part(run, "recipe")
    rows = [
        ("Stems that should have no voices", setting(recipe.get("stems"))),
        ("Separator", f"{run.get('separator', '–')}, {_voices(recipe.get('voices'))}"),
        ("A voice must be heard in", _WITNESSES.get(str(recipe.get("witness")), setting(recipe.get("witness")))),
    ]
    said = ((title, say, finite(recipe.get(name))) for name, (title, say) in _SAID.items())
    return rows + [(title, say(value)) for title, say, value in said if value is not None]


def verdicts(cleaned: pd.DataFrame) -> list[VerdictRow]:
    """How many stems of each name have which verdict, and how loud the voices in them are; all stems at the end."""
    groups = [(str(stem), rows) for stem, rows in cleaned.groupby("stem")]
    if len(groups) > 1:
        groups.append(("all", cleaned))
    found = []
    for stem, rows in groups:
        heard = _heard_db(rows)
        counted = rows["verdict"].value_counts()
        found.append(
            VerdictRow(
                stem,
                tuple(int(counted.get(verdict, 0)) for verdict in VERDICTS),
                float(heard.median()) if len(heard) else None,
            )
        )
    return found


def summary(cleaned: pd.DataFrame) -> str:
    """How many stems have which verdict, in a sentence; empty where none was heard."""
    if cleaned.empty:
        return ""
    kept, changed, dropped = (int((cleaned["verdict"] == verdict).sum()) for verdict in VERDICTS)
    return (
        f"{changed:,} of {len(cleaned):,} stems {_was(changed)} cleaned, "
        f"{dropped:,} {_was(dropped)} dropped; {kept:,} stayed as {'it was' if kept == 1 else 'they were'}."
    )


def distributions(cleaned: pd.DataFrame) -> list[Chart]:
    """How loud voices were, how much was cleaned and how much is damaged: of the stems in which one was heard."""
    heard = cleaned.loc[_heard_db(cleaned).index]
    found = []
    for title, unit, note, column, factor in (
        ("Voice over stem", "dB", "where a voice is heard", "voice_db", 1.0),
        ("Cleaned", "%", "of the steps that sound", "cleaned_fraction", 100.0),
        ("Damaged", "%", "of the steps that sound", "damaged_fraction", 100.0),
    ):
        series = {
            COLOURS[verdict]: (factor * heard.loc[heard["verdict"] == verdict, column].dropna()).tolist()
            for verdict in VERDICTS
        }
        found.append(chart(title, unit, note, {colour: values for colour, values in series.items() if values}))
    return found


def choices(corpus: Corpus, seed: int = 0) -> list[tuple[str, str, list[Choice]]]:
    """Which stems are shown.

    Parameters
    ----------
    corpus : Corpus
        A cleaned one.
    seed : int
        Of what is chosen at random.

    Returns
    -------
    list of (heading, note, list of Choice)
        Those that lost most, by the share that was cleaned and the power of the voice there, some of those that
        were kept and some of those that were left out; what there is none of is left out.
    """
    here = set(corpus.songs())
    rows = [] if corpus.cleaned is None else rows_of(corpus.cleaned)
    rejects = [] if corpus.rejected is None else rows_of(corpus.rejected)
    left = {str(row["path"]): row for row in rejects if row["stage"] == _STAGE}
    judged = {f"{row['song_id']}/{row['stem']}": row for row in rows}
    cleaned, kept = ([r for r in rows if r["verdict"] == v and r["song_id"] in here] for v in ("cleaned", "kept"))
    most = sorted(cleaned, key=lambda row: (-_lost(row), row["song_id"], row["stem"]))[:MOST_CLEANED]
    rng = np.random.default_rng(seed)
    some_kept, some_left = _some(kept, rng), _some(sorted(left), rng)
    out = [
        _choice(judged.get(path) or _unjudged(left[path]), f"{left[path]['reason']}: {left[path]['detail']}")
        for path in some_left
    ]
    groups = [
        ("Most cleaned", f"{len(most)} of {len(cleaned):,} cleaned stems", [_choice(row) for row in most]),
        ("Kept", f"{len(some_kept)} of {len(kept):,} kept stems, at random", [_choice(row) for row in some_kept]),
        ("Dropped", f"{len(out)} of {len(left):,} stems left out, at random", out),
    ]
    return [group for group in groups if group[2]]


def section(
    corpus: Corpus, run: Mapping[str, Any], chosen: Sequence[tuple[str, str, Sequence[Choice]]], kbps: float
) -> Section | None:
    """All that the page says about a cleaning.

    Parameters
    ----------
    corpus : Corpus
    run : mapping
        Of its `run.json`.
    chosen : sequence of (heading, note, sequence of Choice)
        Of `choices`.
    kbps : float
        Of the excerpts.

    Returns
    -------
    Section or None
        None of a build that is no cleaning.
    """
    if not is_cleaned(run, corpus) or corpus.cleaned is None:
        return None
    source = source_folder(corpus.folder)
    before = _opened(source)
    listening = Corpus(corpus.folder, {} if before is None else {_BEFORE: before.folder})
    wanted = {choice.song_id for _, _, found in chosen for choice in found}
    known = empty_table("tracks") if corpus.tracks is None else corpus.tracks
    tracks = {row["track_id"]: row for row in rows_of(known[known["track_id"].isin(wanted)])}

    def portrait(choice: Choice) -> Portrait:
        title = title_of(tracks.get(choice.song_id, {}), choice.song_id)
        return _portrait(corpus, before, listening, choice, title, kbps)

    return Section(
        summary(corpus.cleaned),
        verdicts(corpus.cleaned),
        settings(run),
        distributions(corpus.cleaned),
        [(heading, note, threaded(portrait, found)) for heading, note, found in chosen],
        source if before is None else None,
    )


def _opened(source: str | None) -> Corpus | None:
    try:
        found = None if source is None else Corpus.open(Path(source))
        if found is not None:
            found.songs()
    except (StemloomError, OSError, ValueError):
        return None
    return found


def _portrait(
    corpus: Corpus, before: Corpus | None, listening: Corpus, choice: Choice, title: str, kbps: float
) -> Portrait:
    stems = list(_stems(corpus, before, choice))
    if not stems:
        return Portrait(choice, title, (), (), None, 0.0, 0.0, "")
    seen, errors = look(listening, stems)
    row = stems[0].row
    duration_s = row["num_frames"] / row["sample_rate"]
    clip_s = min(CLIP_S, duration_s)
    start_s, words = 0.0, "the beginning"
    heard = seen.get("removed") or next(iter(seen.values()), None)
    if heard is not None:
        power, column_s = heard.power, heard.column_frames / row["sample_rate"]
        mask = _mask(choice.cleaned, len(power), heard.column_frames)
        if "removed" in seen:
            words = "where most was removed"
        elif mask.any():
            power, words = np.where(mask, power, 0), "the loudest voice"
        else:
            words = "the loudest part"
        start_s = max(0.0, min(loudest_start(power, column_s), duration_s - clip_s))
    colours = {"before": "--mixture", "cleaned": "--chosen", "removed": "--vocals"}
    return Portrait(
        choice,
        title,
        painted(listening, stems, {**colours, choice.stem: "--mixture"}, seen, errors, start_s, kbps),
        tuple(
            (colour, path)
            for colour, spans in (("--chosen", choice.cleaned), ("--bad", choice.damaged))
            if (path := _marked(spans, row["num_frames"]))
        ),
        duration_s,
        start_s / duration_s,
        clip_s / duration_s,
        f"{clock(start_s)}–{clock(start_s + clip_s)}, {words}",
    )


def _stems(corpus: Corpus, before: Corpus | None, choice: Choice) -> Iterable[Stem]:
    """What there is of a stem to be seen and heard."""
    rows = corpus.song(choice.song_id) if choice.song_id in corpus.songs() else {}
    now = rows.get(choice.stem)
    if choice.verdict == "kept" and now is not None:
        yield stem_of(choice.stem, now)
        return
    then = None
    if before is not None and choice.song_id in before.songs():
        then = before.song(choice.song_id).get(choice.stem)
    if then is not None and then["root"] == CORPUS_ROOT:
        yield stem_of("before", {**then, "root": _BEFORE})
    if choice.verdict == "cleaned" and now is not None:
        yield stem_of("cleaned", now)
        if choice.removed_path is not None:
            yield stem_of("removed", {**now, "root": CORPUS_ROOT, "path": choice.removed_path})


def _choice(row: Mapping[str, Any], detail: str | None = None) -> Choice:
    facts = []
    voice_db = finite(row.get("voice_db"))
    if voice_db is not None and voice_db > FAINTEST_DB:
        facts.append(f"voice at {number(voice_db)} dB")
    for name in ("cleaned", "damaged"):
        share = finite(row.get(f"{name}_fraction"))
        if share:
            facts.append(f"{number(100 * share, 0 if share >= 0.01 else 1)} % {name}")
    return Choice(
        str(row["song_id"]),
        str(row["stem"]),
        str(row["verdict"]),
        tuple(facts),
        detail,
        _spans(row.get("cleaned")),
        _spans(row.get("damaged")),
        row.get("removed_path"),
    )


def _unjudged(reject: Mapping[str, Any]) -> dict[str, Any]:
    """The row that a stem would have had that could not be cleaned: its song and name are in the reject's path."""
    song_id = str(reject["id"])
    return {"song_id": song_id, "stem": str(reject["path"]).removeprefix(f"{song_id}/"), "verdict": "not cleaned"}


def _lost(row: Mapping[str, Any]) -> float:
    """The share of a stem's power that was voice."""
    share, voice_db = finite(row["cleaned_fraction"]), finite(row["voice_db"])
    return 0.0 if share is None or voice_db is None else share * 10 ** (voice_db / 10)


def _some(rows: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    """A few of them at random, in their order."""
    places = rng.permutation(len(rows))[:AT_RANDOM]
    return [rows[place] for place in sorted(places.tolist())]


def _heard_db(rows: pd.DataFrame) -> pd.Series[float]:
    """Levels of the voices, of stems in which one was heard."""
    return rows.loc[rows["voice_db"] > FAINTEST_DB, "voice_db"]


def _spans(text: object) -> tuple[Span, ...]:
    """Places in frames out of their JSON; none where there is no text."""
    return tuple((first, end) for first, end in json.loads(text)) if isinstance(text, str) else ()


def _mask(spans: Sequence[Span], columns: int, column_frames: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The columns of a picture that spans touch."""
    mask = np.zeros(columns, np.bool_)
    for first, end in spans:
        mask[max(0, first // column_frames) : max(0, -(-end // column_frames))] = True
    return mask


def _marked(spans: Sequence[Span], num_frames: int) -> str:
    """Spans as a path of boxes, no thinner than can be seen; those that touch then are one."""
    mask = np.zeros(_UNITS, np.bool_)
    for first, end in spans:
        start = min(max(0, int(_UNITS * first / num_frames)), _UNITS - _FEWEST_UNITS)
        mask[start : max(start + _FEWEST_UNITS, -int(-_UNITS * end // num_frames))] = True
    borders = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return "".join(f"M{start} 0H{end}V100H{start}Z" for start, end in borders.reshape(-1, 2).tolist())


def _voices(names: object) -> str:
    return f"its {setting(names)}" if names else "its sources that are voices by their names"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _share(value: float) -> str:
    return f"{100 * value:g} %"


def _steps(value: float) -> str:
    return f"{value:g} step{'s' if value != 1 else ''} of {STEP_S:g} s"


_WITNESSES = {
    "stem": "the stem",
    "voice": "what the separator found",
    "either": "the stem, or what the separator found",
    "none": "neither: the separator's level alone decides",
}
_SAID: dict[str, tuple[str, Callable[[float], str]]] = {
    "voiced": ("A voice is heard", lambda value: f"from a probability of {value:g} on"),
    "certain": ("A part with a voice", lambda value: f"reaches a probability of {value:g} at least once"),
    "faint_db": ("Voices are left in", lambda value: f"below {number(value)} dB, relative to the stem"),
    "damaged_db": (
        "What is left is damaged",
        lambda value: f"where the voice is above {number(value)} dB, relative to the stem, or still heard after it",
    ),
    "max_dropped": ("A stem is dropped", lambda value: f"with more than {_share(value)} of it damaged"),
    "pause_steps": ("Pauses are cleaned too", lambda value: f"up to {_steps(value)}"),
    "margin_steps": ("Around a voice are cleaned", _steps),
    "fade_s": ("Fades", lambda value: f"{1000 * value:g} ms"),
    "min_clip_s": ("Clips between damaged parts", lambda value: f"are at least {value:g} s long"),
}
