"""What a page about anchors shows besides: how many each label has, how sure they are, and a few to hear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from builders.report.gallery import threaded
from builders.report.players import CLIP_S, data_uri, encoded
from builders.report.records import finite, rows_of
from builders.report.sections import Chart, chart
from manifests.corpus import MIXTURE, Corpus, Row
from manifests.errors import StemloomError

MOST_LABELS = 200
"""Rows of the table."""

HEARD_LABELS = 12
"""Of the most frequent labels: those whose surest and least sure anchor can be heard."""


@dataclass(frozen=True)
class Excerpt:
    """An anchor to be heard: its probability in words, and a data URI, or why there is none."""

    title: str
    clip: str | None
    error: str | None


@dataclass(frozen=True)
class LabelRow:
    """A label: its anchors, what share of all they are, their mean probability, the surest and the least sure."""

    label: str
    count: int
    share: float
    probability: float | None
    excerpts: tuple[Excerpt, ...]


def is_anchored(run: Mapping[str, Any]) -> bool:
    """Whether a build is of anchors."""
    return run.get("builder") == "anchor"


def labels(corpus: Corpus, clips: pd.DataFrame, kbps: float) -> tuple[list[LabelRow], int]:
    """Labels, the most frequent first.

    Parameters
    ----------
    corpus : Corpus
    clips : pd.DataFrame
        Its clips; those without a label do not count.
    kbps : float
        Of the excerpts.

    Returns
    -------
    rows : list of LabelRow
        At most `MOST_LABELS`.
    more : int
        How many labels there are besides.
    """
    named = clips[clips["label"].notna()]
    groups = sorted(
        ((str(label), rows) for label, rows in named.groupby("label")), key=lambda g: (-len(g[1]), g[0])
    )
    shown = [_ends(rows) for _, rows in groups[:HEARD_LABELS]]
    heard = iter(threaded(lambda row: _heard(corpus, row, kbps), [row for rows in shown for row in rows]))
    excerpts = [tuple(next(heard) for _ in rows) for rows in shown]
    found = []
    for place, (label, rows) in enumerate(groups[:MOST_LABELS]):
        mean = finite(float(rows["label_probability"].astype("float64").mean()))
        heard_here = excerpts[place] if place < len(excerpts) else ()
        found.append(LabelRow(label, len(rows), len(rows) / len(named), mean, heard_here))
    return found, max(0, len(groups) - MOST_LABELS)


def probabilities(clips: pd.DataFrame) -> Chart:
    """How sure the anchors are."""
    found = clips.loc[clips["label"].notna(), "label_probability"].dropna().tolist()
    return chart("Probability", "", "mean of an anchor's label over it", {"--chosen": found})


def _ends(rows: pd.DataFrame) -> list[Row]:
    """The surest of some anchors, and the least sure."""
    ordered: list[Row] = [*rows_of(rows.sort_values(["label_probability", "clip_id"], ascending=[False, True]))]
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered


def _heard(corpus: Corpus, clip: Row, kbps: float) -> Excerpt:
    probability = finite(clip["label_probability"])
    title = "" if probability is None else f"{probability:.2f}"
    try:
        stems = corpus.song(str(clip["song_id"]))
        row = next((row for stem, row in stems.items() if stem != MIXTURE), next(iter(stems.values())))
        num_frames = min(int(clip["num_frames"]), round(CLIP_S * row["sample_rate"]))
        audio = corpus.load(row, int(clip["start_frame"]), num_frames)
        return Excerpt(title, data_uri(*encoded(audio, row["sample_rate"], kbps)), None)
    except StemloomError as error:
        return Excerpt(title, None, str(error))
