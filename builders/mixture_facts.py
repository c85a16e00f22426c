"""What a set of mixtures came out as, beside what its recipe says: counts, overlaps, levels.

Placement leaves sources out and cuts them short, short sounds do not fill their time, and loudness is what it is
after all transforms: a recipe's numbers are wishes, these are the facts.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from augment.distributions import Count, Distribution
from augment.draw import generator
from augment.recipe import MixRecipe, SourceRule

_DRAWS = 20_000
_STEP_S = 0.01


def realised(mix: MixRecipe, mixtures: pd.DataFrame) -> dict[str, Any]:
    """Counts, durations and levels by source, and overlaps by target.

    Parameters
    ----------
    mix : MixRecipe
    mixtures : pd.DataFrame
        The mixtures table of a set that was drawn from it.

    Returns
    -------
    dict
        JSON values. ``sources``: by source, the nominal mean and the realised mean and histogram of its number of
        events in a mixture, the nominal and realised mean and standard deviation of their loudness in LUFS (nominal
        where the recipe says any), and their median length in seconds. ``targets``: by target, the share of the
        time that it sounds. ``overlaps``: by pair of targets, the share of the time that both sound; by target, the
        share that more than one of its sources sounds.
    """
    events = mixtures[mixtures["path"].notna()]
    num = mixtures["mixture_id"].nunique()
    sources = {}
    for name, source in mix.sources.items():
        mine = events[events["source"] == name]
        counts = _counts(source, mine).reindex(mixtures["mixture_id"].unique(), fill_value=0)
        seconds = mine["length_frames"] / mine["mixture_rate"]
        loudness = mine["loudness_lufs"].dropna().to_numpy(float)
        nominal_count = (1 - source.silence) * _moments(source.count)[0]
        sources[name] = {
            "count": {"nominal_mean": nominal_count, "mean": float(counts.mean())},
            "histogram": {str(value): int(times) for value, times in counts.value_counts().sort_index().items()},
            "loudness_lufs": {**_nominal_level(mix, name), **_spread(loudness)},
            "median_length_s": float(seconds.median()) if len(seconds) else None,
        }
    return {"mixtures": num, "sources": sources, **_overlaps(mix, mixtures)}


def _counts(source: SourceRule, events: pd.DataFrame) -> pd.Series[int]:
    """How many sources of a rule each mixture has, as the recipe counts them."""
    if source.loop:  # what is repeated starts with the mixture
        events = events[events["offset_frame"] == 0]
    if any(len(parts) > 1 for parts in source.parts):  # several stems of one song are one source
        place = ["mixture_id", "root", "song_id", "source_start_frame", "offset_frame"]
        return events.groupby([*place, "stem"]).size().groupby(place).max().groupby("mixture_id").sum()
    return events.groupby("mixture_id").size()


def _moments(distribution: Distribution) -> tuple[float, float]:
    """Mean and standard deviation."""
    found = None if distribution.clip is not None else _known_moments(distribution)
    if found is not None:
        return found
    rng = generator(0, 0, 0)
    drawn = np.array([distribution.draw(rng) for _ in range(_DRAWS)])
    return float(drawn.mean()), float(drawn.std())


def _known_moments(distribution: Distribution) -> tuple[float, float] | None:
    """In closed form, where what is drawn is not clipped."""
    if distribution.fixed is not None:
        return distribution.fixed, 0.0
    if distribution.choice is not None:
        mean = float(np.average(distribution.choice, weights=distribution.weights))
        variance = float(np.average(np.square(np.array(distribution.choice) - mean), weights=distribution.weights))
        return mean, math.sqrt(variance)
    if distribution.uniform is not None:
        low, high = distribution.uniform
        whole = isinstance(distribution, Count)
        return (low + high) / 2, math.sqrt(((high - low + whole) ** 2 - whole) / 12)
    if distribution.normal is not None:
        return distribution.normal
    if distribution.poisson is not None:
        return distribution.poisson, math.sqrt(distribution.poisson)
    if distribution.zero_truncated_poisson is not None:
        rate = distribution.zero_truncated_poisson
        mean = rate / -math.expm1(-rate)
        return mean, math.sqrt(mean * (1 + rate - mean))
    return None


def _nominal_level(mix: MixRecipe, name: str) -> dict[str, float]:
    source = mix.sources[name]
    if source.lufs is None or source.gain is not None:
        return {}
    (level, level_std), (gain, gain_std) = _moments(source.lufs), _moments(source.gain_db)
    return {"nominal_mean": level + gain, "nominal_std": float(np.hypot(level_std, gain_std))}


def _spread(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "std": None}
    return {"mean": float(values.mean()), "std": float(values.std())}


def _overlaps(mix: MixRecipe, mixtures: pd.DataFrame) -> dict[str, Any]:
    """Shares of the time, counted in steps of 10 ms."""
    pairs = list(itertools.combinations(range(len(mix.targets)), 2))
    sounding, several = np.zeros(len(mix.targets)), np.zeros(len(mix.targets))
    both = np.zeros(len(pairs))
    total = 0
    target = mixtures["target"].map({name: place for place, name in enumerate(mix.targets)}).to_numpy(int)
    per_frame = 1 / (mixtures["mixture_rate"].to_numpy(float) * _STEP_S)
    lasts = np.maximum(1, np.rint(mixtures["mixture_frames"].to_numpy(float) * per_frame)).astype(int)
    offset, length = (mixtures[name].fillna(0).to_numpy(float) for name in ("offset_frame", "length_frames"))
    start, stop = (np.rint(ends * per_frame).astype(int) for ends in (offset, offset + length))
    for rows in mixtures.groupby("mixture_id", sort=False).indices.values():
        steps = lasts[rows[0]]
        total += steps
        heard = np.zeros((len(mix.targets), steps), np.int32)
        for row in rows:
            heard[target[row], start[row] : stop[row]] += 1
        sounding += (heard > 0).sum(axis=1)
        several += (heard > 1).sum(axis=1)
        both += [((heard[first] > 0) & (heard[second] > 0)).sum() for first, second in pairs]
    total = max(total, 1)
    return {
        "targets": dict(zip(mix.targets, (sounding / total).tolist(), strict=True)),
        "overlaps": {
            **{
                f"{mix.targets[first]} and {mix.targets[second]}": share / total
                for (first, second), share in zip(pairs, both.tolist(), strict=True)
            },
            **{
                f"{target}, several": share / total
                for target, share in zip(mix.targets, several.tolist(), strict=True)
            },
        },
    }
