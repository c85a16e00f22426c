"""The tables of a study: what each variant scores, and how sure the differences are.

Scores come from `training.evaluation`, a row for each variant, seed, test, song and target. The target `mean` is
the mean of the targets that all variants have, in each song.

`summaries` has a row for each test, target, score and variant: the median over songs of the mean over seeds, as the
papers' tables, and how far the seeds' own medians lie apart. `comparisons` has a row for each test, target, score
and pair of variants, `variant` less `other`: tests, effect sizes and intervals of `training.statistics`. Of two
variants the songs and seeds count that both have.

Holm's correction is over families: a test, target and score with all comparisons to the baseline (`t_holm`,
`wilcoxon_holm`, `seeds_holm`), or with all pairs (`t_holm_pairs`), which is what the p-value matrix shows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from training.evaluation import MEAN
from training.statistics import across_seeds, effect, holm, paired_t, wilcoxon

__all__ = ["comparisons", "summaries", "with_means"]

_ITEMS = ["test", "target", "score"]

Grid = pd.DataFrame
"""Scores of a variant: songs by seeds."""


def with_means(songs: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Rows of songs, and for each song one more whose target is `mean`.

    Parameters
    ----------
    songs : pd.DataFrame
        Columns ``variant``, ``seed``, ``test``, ``song_id``, ``target`` and scores.
    scores : sequence of str

    Returns
    -------
    pd.DataFrame
        These columns only. A mean is NaN where a target's score is; there are none where all variants share one
        target only.
    """
    keys = ["variant", "seed", "test", "song_id"]
    table = songs[[*keys, "target", *scores]]
    parts = [table]
    for _, rows in table.groupby("test", sort=False):
        shared = set.intersection(*(set(part["target"]) for _, part in rows.groupby("variant")))
        if len(shared) > 1:
            found = rows[rows["target"].isin(shared)].groupby(keys, sort=False)[list(scores)]
            parts.append(found.mean(skipna=False).reset_index().assign(target=MEAN))
    return pd.concat(parts, ignore_index=True)


def summaries(songs: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """What each variant scores.

    Parameters
    ----------
    songs : pd.DataFrame
        As in `with_means`.
    scores : sequence of str

    Returns
    -------
    pd.DataFrame
        ``test``, ``target``, ``score``, ``variant``; ``seeds``, ``songs``; ``median`` and ``mean`` over songs of
        the mean over seeds; ``seed_low``, ``seed_high``: the lowest and highest median of a seed alone;
        ``left_out``: songs that are silent, or infinite, in some seed.
    """
    rows: list[dict[str, Any]] = []
    for (test, target, score), grids in _grids(songs, scores):
        for variant, grid in grids.items():
            finite = np.isfinite(grid.to_numpy()).all(axis=1)
            values = grid[finite]
            medians = values.median()
            of_songs = values.mean(axis=1)
            rows.append(
                {
                    "test": test,
                    "target": target,
                    "score": score,
                    "variant": variant,
                    "seeds": grid.shape[1],
                    "songs": len(values),
                    "median": of_songs.median(),
                    "mean": of_songs.mean(),
                    "seed_low": medians.min(),
                    "seed_high": medians.max(),
                    "left_out": int((~finite).sum()),
                }
            )
    return pd.DataFrame(rows)


def comparisons(songs: pd.DataFrame, scores: Sequence[str], variants: Sequence[str], baseline: str) -> pd.DataFrame:
    """How sure the differences of variants are.

    Parameters
    ----------
    songs : pd.DataFrame
        As in `with_means`.
    scores : sequence of str
    variants : sequence of str
        In the order of pairs.
    baseline : str
        One of them; in a pair with it, it is the `other`.

    Returns
    -------
    pd.DataFrame
        ``test``, ``target``, ``score``, ``variant``, ``other``; ``songs``, ``seeds``; ``t``, ``t_p``,
        ``wilcoxon_p``, ``t_holm_pairs``. Of those with the baseline also ``t_holm``, ``wilcoxon_holm``; ``mean``,
        ``mean_low``, ``mean_high``, ``median``, ``median_low``, ``median_high`` (95 %), ``cohen_d``,
        ``share_better``; with two seeds or more ``seeds_p``, ``seeds_holm``, ``seeds_low``, ``seeds_high``,
        ``song_sd``, ``seed_sd``, ``rest_sd``.
    """
    rows: list[dict[str, Any]] = []
    for (test, target, score), grids in _grids(songs, scores):
        family = [
            {"test": test, "target": target, "score": score, "variant": one, "other": other}
            | _compared(grids[one], grids[other], with_effects=other == baseline)
            for one, other in _pairs([name for name in variants if name in grids], baseline)
        ]
        of_baseline = [row for row in family if row["other"] == baseline]
        for name, adjusted, members in (
            ("t_p", "t_holm_pairs", family),
            ("t_p", "t_holm", of_baseline),
            ("wilcoxon_p", "wilcoxon_holm", of_baseline),
            ("seeds_p", "seeds_holm", of_baseline),
        ):
            for row, value in zip(members, holm([row.get(name, math.nan) for row in members]), strict=True):
                row[adjusted] = value
        rows += family
    return pd.DataFrame(rows)


def _pairs(variants: Sequence[str], baseline: str) -> Iterator[tuple[str, str]]:
    """All pairs; the baseline is always the second."""
    for one, other in itertools.combinations(variants, 2):
        yield (other, one) if one == baseline else (one, other)


def _compared(grid: Grid, other: Grid, *, with_effects: bool) -> dict[str, Any]:
    songs = grid.index.intersection(other.index)
    seeds = grid.columns.intersection(other.columns)
    values, others = (found.loc[songs, seeds].to_numpy().T for found in (grid, other))
    if not len(seeds):
        return {"songs": 0, "seeds": 0, "t": math.nan, "t_p": math.nan, "wilcoxon_p": math.nan}
    with np.errstate(invalid="ignore"):
        one, two = values.mean(axis=0), others.mean(axis=0)
    student = paired_t(one, two)
    row = {"songs": student.num, "seeds": len(seeds), "t": student.statistic, "t_p": student.p}
    row["wilcoxon_p"] = wilcoxon(one, two).p
    if not with_effects:
        return row
    size = effect(one, two)
    row |= {
        "mean": size.mean,
        "mean_low": size.mean_interval.low,
        "mean_high": size.mean_interval.high,
        "median": size.median,
        "median_low": size.median_interval.low,
        "median_high": size.median_interval.high,
        "cohen_d": size.cohen_d,
        "share_better": size.share_better,
    }
    crossed = across_seeds(values, others)
    if crossed is not None:
        row |= {
            "seeds_p": crossed.p,
            "seeds_low": crossed.interval.low,
            "seeds_high": crossed.interval.high,
            "song_sd": math.sqrt(crossed.song_variance),
            "seed_sd": math.sqrt(crossed.seed_variance),
            "rest_sd": math.sqrt(crossed.rest_variance),
        }
    return row


def _grids(songs: pd.DataFrame, scores: Sequence[str]) -> Iterator[tuple[tuple[str, str, str], Mapping[str, Grid]]]:
    """For each test, target and score the grids of all variants that have it."""
    if not len(songs):
        return
    table = with_means(songs, scores)
    for (test, target), rows in table.groupby(["test", "target"], sort=False):
        by_variant = dict(list(rows.groupby("variant", sort=False)))
        for score in scores:
            yield (
                (str(test), str(target), score),
                {
                    str(variant): part.pivot(index="song_id", columns="seed", values=score)
                    for variant, part in by_variant.items()
                },
            )
