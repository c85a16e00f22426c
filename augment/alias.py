"""Weighted draws in constant time: Walker's alias method, its table made without a loop.

References
----------
A. J. Walker, "An efficient method for generating discrete random variables with general distributions", ACM
TOMS 3, 1977. The table is made by the sweep of L. Hübschle-Schneider and P. Sanders, "Parallel weighted random
sampling", ESA 2019, sec. 4, here with prefix sums.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from manifests.errors import RecipeError

__all__ = ["AliasTable", "alias_table"]


@dataclasses.dataclass(frozen=True)
class AliasTable:
    """Draws item `i` with probability `weights[i] / sum(weights)`.

    Attributes
    ----------
    stay : np.ndarray [shape=(n,)]
        Probability that a draw which lands on an item stays there.
    other : np.ndarray [shape=(n,)]
        Where it goes otherwise.
    """

    stay: npt.NDArray[np.float32]
    other: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.stay)

    def shares(self) -> npt.NDArray[np.float64]:
        """The probability of each item.

        Returns
        -------
        np.ndarray [shape=(n,)]
            They sum to 1.
        """
        spare = 1.0 - self.stay.astype(np.float64)
        return (self.stay + np.bincount(self.other, spare, len(self.stay))) / len(self.stay)

    def draw(self, rng: np.random.Generator) -> int:
        """An item's number: two look-ups, however many items there are.

        Parameters
        ----------
        rng : np.random.Generator

        Returns
        -------
        int
        """
        place = rng.random() * len(self.stay)
        item = int(place)
        return item if place - item < self.stay[item] else int(self.other[item])


def alias_table(weights: npt.ArrayLike) -> AliasTable:
    """Make the table of some weights.

    Parameters
    ----------
    weights : array-like [shape=(n,)]
        At least 0, finite, not all 0; at least one and fewer than 2**31.

    Returns
    -------
    AliasTable

    Raises
    ------
    RecipeError
        When there are no weights, they are negative or not finite, or all are 0.
    """
    share = np.asarray(weights, np.float64)
    total = share.sum()
    if not len(share) or not np.isfinite(share).all() or (share < 0).any() or total <= 0:
        raise RecipeError(
            f"weights: {len(share)} values with sum {total:g}; weights must be finite, at least 0, and not all 0"
        )
    share = share * (len(share) / total)
    stay = np.minimum(share, 1.0)
    other = np.arange(len(share))
    light, heavy = np.flatnonzero(share < 1.0), np.flatnonzero(share >= 1.0)
    if not len(heavy):  # all alike but for rounding
        stay[:] = 1.0
    elif len(light):
        # Each light item is topped up by the first heavy one that is not used up yet; a heavy one that is used up
        # keeps what it has left and is topped up by the next heavy one.
        lacking = np.cumsum(1.0 - share[light])
        spare = np.cumsum(share[heavy] - 1.0)
        before = np.concatenate(([0.0], lacking[:-1]))
        last = len(heavy) - 1
        other[light] = heavy[np.minimum(np.searchsorted(spare, before, side="right"), last)]
        used_up = np.searchsorted(lacking, spare[:-1], side="left")
        is_met = used_up < len(light)
        left = 1.0 + spare[:-1] - lacking[np.minimum(used_up, len(light) - 1)]
        stay[heavy[:-1]] = np.where(is_met, np.clip(left, 0.0, 1.0), 1.0)
        other[heavy[:-1]] = np.where(is_met, heavy[1:], heavy[:-1])
    return AliasTable(stay.astype(np.float32), other.astype(np.int32))
