"""All figures of a separation in one table: the metrics, what is gained over the mixture, BSSEval, the 2f-model.

Pure: arrays in, values out, a value for each target. Arrays may lie in files (`np.memmap`): the metrics of
`training.metrics` read them block by block.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio
from training.bsseval import BssEvalMethod, bss_eval
from training.metrics import measure
from training.perceptual import PeaqBackend, two_f_scores

__all__ = ["GAINS", "SCORES", "mixture_scores", "scores"]

GAINS = {
    "sdr_db": "sdr_improvement_db",
    "snr_db": "snr_improvement_db",
    "si_sdr_db": "si_sdr_improvement_db",
    "si_sir_db": "si_sir_improvement_db",
}
"""Metrics that are also given as what they gain over the mixture; see `training.metrics.improvements`."""

SCORES = (
    "sdr_db",
    "sdr_improvement_db",
    "snr_db",
    "snr_improvement_db",
    "si_sdr_db",
    "si_sdr_improvement_db",
    "si_sir_db",
    "si_sir_improvement_db",
    "si_sar_db",
    "bsseval_sdr_db",
    "bsseval_isr_db",
    "bsseval_sir_db",
    "bsseval_sar_db",
    "two_f_score",
)
"""All that there may be, in the order of tables."""

Floats = npt.NDArray[np.float64]


def mixture_scores(references: Audio, mixture: Audio) -> dict[str, Floats]:
    """What the mixture itself scores in place of each target.

    Parameters
    ----------
    references : np.ndarray [shape=(targets, channels, frames)]
    mixture : np.ndarray [shape=(channels, frames)]

    Returns
    -------
    dict of str to np.ndarray of float64 [shape=(targets,)]
        As `training.metrics.measure`.
    """
    return measure(references, np.broadcast_to(mixture, references.shape))


def scores(
    references: Audio,
    estimates: Audio,
    sample_rate: int,
    before: Mapping[str, Floats],
    *,
    bsseval: BssEvalMethod | None = None,
    peaq: PeaqBackend | None = None,
) -> dict[str, Floats]:
    """Measure a separation.

    Parameters
    ----------
    references, estimates : np.ndarray [shape=(targets, channels, frames)]
    sample_rate : int
        In Hz.
    before : mapping of str to np.ndarray
        Of `mixture_scores`.
    bsseval : {'museval', 'blocks'}, optional
        Also BSSEval v4: the median over frames.
    peaq : PeaqBackend, optional
        Also the 2f-model.

    Returns
    -------
    dict of str to np.ndarray of float64 [shape=(targets,)]
        Some of `SCORES`; NaN where a reference is silent, and where nothing could be gained or lost.

    Raises
    ------
    ValueError, AudioError, RecipeError
        As the metrics.
    """
    found = measure(references, estimates)
    with np.errstate(invalid="ignore"):
        found |= {gained: found[name] - before[name] for name, gained in GAINS.items()}
    if bsseval is not None:
        found |= bss_eval(references, estimates, sample_rate, method=bsseval).medians()
    if peaq is not None:
        found["two_f_score"] = two_f_scores(references, estimates, sample_rate, peaq)
    return {name: found[name] for name in SCORES if name in found}
