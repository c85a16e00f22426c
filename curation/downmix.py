"""Surround sound to stereo.

A downmix is a matrix: what of each loudspeaker's channel comes out left, and right. The low-frequency channel is
left out, as both standards have it.

References
----------
ITU-R BS.775-4, annex 4, table 2: 3/2 to 2/0, centre and surrounds by 3 dB down on their sides.
ATSC A/52:2018, section 7.8.2: Lo/Ro, the same with any levels of centre and surrounds, scaled so that no sum passes
full scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio
from manifests.errors import RecipeError, did_you_mean

__all__ = ["LAYOUTS", "Downmix", "downmixed", "stereo_matrix"]

Downmix = Literal["itu", "loro"]

_THREE_DB = math.sqrt(0.5)

LAYOUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mono": ("C",),
        "stereo": ("L", "R"),
        "3.0": ("L", "R", "C"),
        "quad": ("L", "R", "Ls", "Rs"),
        "5.0": ("L", "R", "C", "Ls", "Rs"),
        "5.1": ("L", "R", "C", "LFE", "Ls", "Rs"),
        "5.1 film": ("L", "C", "R", "Ls", "Rs", "LFE"),
        "7.1": ("L", "R", "C", "LFE", "Lb", "Rb", "Ls", "Rs"),
    }
)
"""Channels in their order, that of WAV and FLAC; `5.1 film` has the centre between left and right."""


def stereo_matrix(
    channels: Sequence[str], downmix: Downmix = "itu", *, centre_db: float = -3.0, surround_db: float = -3.0
) -> npt.NDArray[np.float32]:
    """What of each channel comes out left and right.

    Parameters
    ----------
    channels : sequence of str
        Names as in `LAYOUTS`: L, R, C, LFE, Ls, Rs, Lb, Rb.
    downmix : {'itu', 'loro'}
        As they are, or scaled so that channels at full scale do not pass it.
    centre_db, surround_db : float
        Levels of the centre and of the surrounds; -3, -4.5 and -6 are in use.

    Returns
    -------
    np.ndarray of float32 [shape=(2, channels)]

    Raises
    ------
    RecipeError
        There is no such downmix or channel, or a channel is there twice.

    Examples
    --------
    >>> stereo_matrix(("L", "R", "C"), "itu").round(3).tolist()
    [[1.0, 0.0, 0.7070000171661377], [0.0, 1.0, 0.7070000171661377]]
    """
    if downmix not in ("itu", "loro"):
        raise RecipeError(f"downmix is '{downmix}'{did_you_mean(downmix, ('itu', 'loro'))}: choose itu or loro")
    # Exactly 3 dB are half the power.
    centre, surround = (
        _THREE_DB if level_db == -3.0 else 10.0 ** (level_db / 20.0) for level_db in (centre_db, surround_db)
    )
    shares = {
        **{"L": (1.0, 0.0), "R": (0.0, 1.0), "C": (centre, centre), "LFE": (0.0, 0.0)},
        **dict.fromkeys(("Ls", "Lb"), (surround, 0.0)),
        **dict.fromkeys(("Rs", "Rb"), (0.0, surround)),
    }
    for number, name in enumerate(channels):
        if name not in shares:
            raise RecipeError(f"there is no channel '{name}'{did_you_mean(name, shares)}: take {', '.join(shares)}")
        if name in channels[:number]:
            raise RecipeError(f"channel '{name}' is there twice in {', '.join(channels)}: name each once")
    matrix = np.array([shares[name] for name in channels], np.float64).T.reshape(2, -1)
    if downmix == "loro":
        matrix /= max(1.0, float(matrix.sum(axis=1).max()))
    return matrix.astype(np.float32)


def downmixed(audio: Audio, matrix: npt.NDArray[np.float32]) -> Audio:
    """Stereo of a block of audio.

    Parameters
    ----------
    audio : np.ndarray of float32 [shape=(channels, frames)]
    matrix : np.ndarray of float32 [shape=(2, channels)]
        Of `stereo_matrix`.

    Returns
    -------
    np.ndarray of float32 [shape=(2, frames)]
        It may pass full scale, but for a matrix of 'loro'.

    Raises
    ------
    ValueError
        The matrix is for other channels.
    """
    if audio.shape[0] != matrix.shape[1]:
        raise ValueError(f"audio has {audio.shape[0]} channels, and the matrix is for {matrix.shape[1]}")
    return matrix @ audio
