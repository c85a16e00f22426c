"""Surround sound to stereo.

A downmix is a matrix: what of each loudspeaker's channel comes out left, and right. The low-frequency channel is
left out, as both standards have it. A stem may be one file of several channels, or a file for each loudspeaker,
named after it: ``DX.L.wav``, ``DX.C.wav``.

References
----------
ITU-R BS.775-4, annex 4, table 2: 3/2 to 2/0, centre and surrounds by 3 dB down on their sides.
ATSC A/52:2018, section 7.8.2: Lo/Ro, the same with any levels of centre and surrounds, scaled so that no sum passes
full scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from manifests.audio import Audio
from manifests.errors import RecipeError, did_you_mean

__all__ = ["LAYOUTS", "Downmix", "Surround", "downmixed", "split_speaker", "stereo_matrix"]

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


_ORDERS: Mapping[int, str] = MappingProxyType(
    {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
)
_SPEAKERS: Mapping[str, str] = MappingProxyType(
    {
        **{name.lower(): name for name in ("L", "R", "C", "LFE", "Ls", "Rs", "Lb", "Rb")},
        **{"lss": "Ls", "rss": "Rs", "lsr": "Lb", "rsr": "Rb"},
    }
)
_NAMED = re.compile(rf"(.+)[ ._-]({'|'.join(_SPEAKERS)})", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Surround:
    """How surround sound becomes stereo.

    Attributes
    ----------
    downmix : {'itu', 'loro'}
        As for `stereo_matrix`.
    order : {'wav', 'film'}
        Of the channels of a file with six: `LAYOUTS` `5.1` or `5.1 film`.
    centre_db, surround_db : float
        As for `stereo_matrix`.
    """

    downmix: Downmix = "itu"
    order: Literal["wav", "film"] = "wav"
    centre_db: float = -3.0
    surround_db: float = -3.0

    def speakers(self, channels: int) -> tuple[str, ...] | None:
        """Whose channels a file has, by how many there are; None if no layout has so many."""
        if channels == 6 and self.order == "film":
            return LAYOUTS["5.1 film"]
        return LAYOUTS[_ORDERS[channels]] if channels in _ORDERS else None

    def matrices(self, speakers: Sequence[tuple[str, ...]]) -> list[tuple[tuple[float, ...], ...]]:
        """The matrices of files that belong together, whose levels to each other stay as they are.

        Parameters
        ----------
        speakers : sequence of tuple of str
            Whose channels each file has. What is mono is the centre.

        Returns
        -------
        list of ((left of each channel), (right of each channel))
        """
        every = tuple(dict.fromkeys(name for names in speakers for name in names))
        # of all together: 'loro' scales what has fewer channels as it does what has all
        whole = stereo_matrix(every, self.downmix, centre_db=self.centre_db, surround_db=self.surround_db)
        places = [[every.index(name) for name in names] for names in speakers]
        return [tuple(tuple(map(float, row)) for row in whole[:, columns]) for columns in places]


def split_speaker(name: str) -> tuple[str, str | None]:
    """A file's name (without its suffix) as the stem's, and the loudspeaker's if it ends with one.

    Examples
    --------
    >>> split_speaker("DX.Ls"), split_speaker("music")
    (('DX', 'Ls'), ('music', None))
    """
    found = _NAMED.fullmatch(name)
    return (name, None) if found is None else (found[1], _SPEAKERS[found[2].lower()])


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
