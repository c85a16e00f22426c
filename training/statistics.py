"""Whether one method is better than another: paired tests over songs, corrections, effect sizes, seeds.

Pure: arrays in, values out. Values are scores in dB, higher is better; all methods are measured on the same songs,
and each was trained with the same seeds, so that differences are taken song by song and seed by seed.

- `paired_t`: Student's t-test on the songs' differences, the test of the singing-voice study. It asks whether these
  networks differ on songs like these, and takes the trainings for given.
- `wilcoxon`: the same question without normality, by signed ranks.
- `holm`: p-values of a family of comparisons, adjusted so that the chance of one false finding among all stays
below
  the level.
- `effect`: how large the difference is: its mean and median with bootstrap intervals, and Cohen's d.
- `across_seeds`: whether another training would say the same: songs and seeds are both drawn at random (a linear
model
  with two crossed random effects). With few seeds it says yes less often than the t-test, and rightly.

References
----------
- L. Prétet et al., "Singing voice separation: a study on training data", ICASSP 2019, section 3.4: the paired
tests.
- S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
- J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988; L. Hedges, "Distribution theory for
Glass's
  estimator of effect size", Journal of Educational Statistics 6, 1981: the correction for few songs.
- B. Efron, "Better bootstrap confidence intervals", JASA 82, 1987: BCa.
- F. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946;
  S. Searle, G. Casella, C. McCulloch, "Variance Components", 1992, chapter 4: balanced two-way crossed models.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

__all__ = ["AcrossSeeds", "Effect", "Interval", "Paired", "across_seeds", "effect", "holm", "paired_t", "wilcoxon"]

Floats = npt.NDArray[np.float64]

_RESAMPLES = 9999


@dataclasses.dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Paired:
    """What a paired test found.

    Attributes
    ----------
    num : int
        Pairs that both have a finite value.
    statistic : float
        t, or the smaller sum of signed ranks.
    p : float
        Two-sided; NaN with fewer than two pairs, 1 where all pairs are equal.
    """

    num: int
    statistic: float
    p: float


@dataclasses.dataclass(frozen=True)
class Effect:
    """How large a difference is.

    Attributes
    ----------
    num : int
        Pairs.
    mean, median : float
        Of the differences, in the unit of the values.
    mean_interval, median_interval : Interval
        Bootstrap over songs, BCa; NaN where there are too few songs or all differences are equal.
    cohen_d : float
        The mean difference over the standard deviation of differences (d_z), times Hedges' correction.
    share_better : float
        Share of pairs where the first is better, ties counting half.
    """

    num: int
    mean: float
    median: float
    mean_interval: Interval
    median_interval: Interval
    cohen_d: float
    share_better: float


@dataclasses.dataclass(frozen=True)
class AcrossSeeds:
    """A difference, and whether it holds for seeds and songs that were not drawn.

    Attributes
    ----------
    mean : float
        Of the differences.
    interval : Interval
        Of the mean, at the confidence asked for.
    p : float
        Two-sided, that the mean is 0.
    df : float
        Satterthwaite's degrees of freedom.
    song_variance, seed_variance, rest_variance : float
        Components of a single difference's variance; negative estimates are 0.
    """

    mean: float
    interval: Interval
    p: float
    df: float
    song_variance: float
    seed_variance: float
    rest_variance: float


def paired_t(values: npt.ArrayLike, others: npt.ArrayLike) -> Paired:
    """Student's paired t-test, two-sided.

    Parameters
    ----------
    values, others : array-like [shape=(songs,)]
        Pairs of which one is NaN or infinite are left out.

    Returns
    -------
    Paired

    Raises
    ------
    ValueError
        The shapes differ.
    """
    differences = _differences(values, others)
    if len(differences) < 2:
        return Paired(len(differences), math.nan, math.nan)
    if not np.ptp(differences):
        return _all_equal(differences)
    found = stats.ttest_1samp(differences, 0.0)
    return Paired(len(differences), float(found.statistic), float(found.pvalue))


def wilcoxon(values: npt.ArrayLike, others: npt.ArrayLike) -> Paired:
    """Wilcoxon's signed-rank test, two-sided: exact for few pairs without ties, else the normal approximation.

    Parameters
    ----------
    values, others : array-like [shape=(songs,)]
        As in `paired_t`. Pairs that are equal are left out, as Wilcoxon did.

    Returns
    -------
    Paired

    Raises
    ------
    ValueError
        The shapes differ.
    """
    differences = _differences(values, others)
    if len(differences) < 2:
        return Paired(len(differences), math.nan, math.nan)
    if not np.any(differences):
        return _all_equal(differences)
    found = stats.wilcoxon(differences)
    return Paired(len(differences), float(found.statistic), float(found.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests.

    Parameters
    ----------
    p_values : sequence of float
        NaN is no test, and stays.

    Returns
    -------
    list of float
        In the same order, at most 1.
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted to the end
    factors = len(order) - np.arange(len(order))
    values[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return [float(value) for value in values]


def effect(values: npt.ArrayLike, others: npt.ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Effect:
    """How much larger values are than others, and how sure that is.

    Parameters
    ----------
    values, others : array-like [shape=(songs,)]
        As in `paired_t`.
    confidence : float
        Of the intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Effect

    Raises
    ------
    ValueError
        The shapes differ.
    """
    differences = _differences(values, others)
    num = len(differences)
    if num == 0:
        none = Interval(math.nan, math.nan)
        return Effect(0, math.nan, math.nan, none, none, math.nan, math.nan)
    spread = float(differences.std(ddof=1)) if num > 1 else math.nan
    mean = float(differences.mean())
    is_better = (np.sign(differences) + 1.0) / 2.0
    return Effect(
        num,
        mean,
        float(np.median(differences)),
        _bootstrap(differences, np.mean, confidence, seed),
        _bootstrap(differences, np.median, confidence, seed),
        _hedges(num - 1) * mean / spread if spread else math.nan,
        float(is_better.mean()),
    )


def across_seeds(values: npt.ArrayLike, others: npt.ArrayLike, *, confidence: float = 0.95) -> AcrossSeeds | None:
    """Test a mean difference with songs and seeds as crossed random effects.

    The model is ``difference[seed, song] = mean + seed + song + rest``. Its components are those of the analysis of
    variance, which for a full table are those of restricted maximum likelihood as far as they are positive, and the
    mean is tested against a t-distribution with Satterthwaite's degrees of freedom.

    Parameters
    ----------
    values, others : array-like [shape=(seeds, songs)]
        Songs that lack a finite value in any seed are left out.
    confidence : float

    Returns
    -------
    AcrossSeeds or None
        None with fewer than two seeds or songs.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    values, others = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if values.shape != others.shape or values.ndim != 2:
        raise ValueError(f"shapes are {values.shape} and {others.shape}: both must be (seeds, songs)")
    with np.errstate(invalid="ignore"):
        table = values - others
    table = table[:, np.isfinite(table).all(axis=0)]
    seeds, songs = table.shape
    if seeds < 2 or songs < 2:
        return None
    mean = float(table.mean())
    by_seed, by_song = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_song[None, :] + mean
    # sums of squares and degrees of freedom of seeds, songs, rest
    sums = np.array(
        [
            songs * np.square(by_seed - mean).sum(),
            seeds * np.square(by_song - mean).sum(),
            np.square(rest).sum(),
        ]
    )
    dfs = np.array([seeds - 1, songs - 1, (seeds - 1) * (songs - 1)], dtype=np.float64)
    kept = np.array([True, True])
    while True:
        # an effect whose variance is estimated as negative has none, and is one more estimate of the rest's
        pooled = np.append(~kept, True)
        rest_square = float(sums[pooled].sum() / dfs[pooled].sum())
        variances = (sums[:2] / dfs[:2] - rest_square) / np.array([songs, seeds])
        if not (kept & (variances < 0.0)).any():
            break
        kept &= variances != np.where(kept, variances, math.inf).min()
    variances = np.where(kept, variances, 0.0)
    # the mean's variance, in mean squares: those of the effects, less the rest's where both count it
    terms = np.append((sums[:2] / dfs[:2])[kept], (1 - kept.sum()) * rest_square)
    freedoms = np.append(dfs[:2][kept], dfs[pooled].sum())
    variance = float(terms.sum()) / (seeds * songs)
    if variance <= 0.0:
        same = Interval(mean, mean)
        return AcrossSeeds(mean, same, 1.0 if mean == 0.0 else 0.0, math.inf, 0.0, 0.0, 0.0)
    df = float(terms.sum() ** 2 / np.sum(np.square(terms) / freedoms))
    error = math.sqrt(variance)
    half = float(stats.t.ppf(0.5 + confidence / 2.0, df)) * error
    p = float(2.0 * stats.t.sf(abs(mean) / error, df))
    interval = Interval(mean - half, mean + half)
    return AcrossSeeds(mean, interval, p, df, float(variances[1]), float(variances[0]), rest_square)


def _differences(values: npt.ArrayLike, others: npt.ArrayLike) -> Floats:
    values, others = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if values.shape != others.shape or values.ndim != 1:
        raise ValueError(f"shapes are {values.shape} and {others.shape}: both must be (songs,), and the same songs")
    with np.errstate(invalid="ignore"):
        found: Floats = values - others
    return found[np.isfinite(found)]


def _all_equal(differences: Floats) -> Paired:
    """A test of differences that are all the same: certain, or nothing at all."""
    first = float(differences[0])
    return Paired(len(differences), math.copysign(math.inf, first) if first else 0.0, 0.0 if first else 1.0)


def _hedges(df: int) -> float:
    """Hedges' correction of Cohen's d, exact."""
    return math.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0


def _bootstrap(differences: Floats, statistic: Callable[..., Any], confidence: float, seed: int) -> Interval:
    if len(differences) < 3 or not np.ptp(differences):
        return Interval(math.nan, math.nan)
    with warnings.catch_warnings():  # where BCa cannot be told, its limits are NaN, and that is said by them
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (differences,),
            statistic,
            n_resamples=_RESAMPLES,
            confidence_level=confidence,
            rng=np.random.default_rng(np.random.SeedSequence(seed)),
        )
    interval = found.confidence_interval
    return Interval(float(interval.low), float(interval.high))
