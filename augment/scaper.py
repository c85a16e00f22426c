"""Mixtures that scaper specifies: its objects as a source of plans.

    scape = scaper.Scaper(10.0, "foreground", "background")
    scape.add_background(("const", "park"), ("choose", []), ("const", 0))
    scape.add_event(("choose", []), ("choose", []), ("uniform", 0, 9), ("uniform", 0, 9), ("uniform", 1, 3),
                    ("normal", 10, 3), None, None)
    for plan in plans_of_scaper(scape, 1000, seed=0): ...

scaper itself draws (`Scaper._instantiate`), with all that its specifications mean, by a generator that belongs to
the mixture's number; so a mixture does not depend on those drawn before it. In scaper it does: a `("choose",
[...])` of source times loses, for good, those that do not fit the file that was drawn. The object that is given
stays as it is, its `random_state` too.
"""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from augment.jams import Targets, plan_of_jams
from augment.plan import MixturePlan

if TYPE_CHECKING:
    from scaper import Scaper

__all__ = ["plans_of_scaper", "scaper_roots"]


def plans_of_scaper(
    scape: Scaper,
    num: int,
    seed: int = 0,
    *,
    epoch: int = 0,
    start: int = 0,
    targets: Targets = "label",
    roots: Mapping[str, Path] | None = None,
    allow_repeated_label: bool = True,
    allow_repeated_source: bool = True,
    fix_clipping: bool = False,
    peak_normalization: bool = False,
) -> Iterator[MixturePlan]:
    """Draw mixtures from the specification of a scaper object.

    Source files are read, since scaper's levels follow from the loudness of each; the plans hold the gains.

    Parameters
    ----------
    scape : scaper.Scaper
        With its events added. It is not changed.
    num : int
        How many mixtures.
    seed, epoch, start : int
        Mixture `index` (`start`, `start + 1` ...) is drawn by ``RandomState(MT19937(SeedSequence((seed, epoch,
        index))))``.
    targets : {'label', 'role', 'event'} or mapping of str to str
        As for `augment.jams.plan_of_jams`.
    roots : mapping of str to Path, optional
        As for `augment.jams.plan_of_jams`; by default `scaper_roots(scape)`.
    allow_repeated_label, allow_repeated_source, fix_clipping, peak_normalization : bool
        As for `scaper.Scaper.generate`.

    Yields
    ------
    MixturePlan

    Raises
    ------
    AudioError
        When a source file cannot be read.
    RecipeError
        When `targets` has no target for a label.
    TableError
        When a source file lies outside of the roots.
    """
    folders = scaper_roots(scape) if roots is None else roots
    for index in range(start, start + num):
        jam = _instantiated(scape, (seed, epoch, index), allow_repeated_label, allow_repeated_source)
        for annotation in jam["annotations"]:
            annotation["sandbox"]["scaper"].update(fix_clipping=fix_clipping, peak_normalization=peak_normalization)
        yield plan_of_jams(jam, folders, targets=targets, seed=seed, epoch=epoch, index=index)


def scaper_roots(scape: Scaper) -> dict[str, Path]:
    """The folders of a scaper object, by the names that events have in `root`.

    Parameters
    ----------
    scape : scaper.Scaper

    Returns
    -------
    dict of str to Path
        `background` and `foreground`.
    """
    return {"background": Path(scape.bg_path), "foreground": Path(scape.fg_path)}


class _Numpy:
    """numpy with the name that scaper 1.6.5 uses and numpy 2 took away."""

    Inf = np.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _instantiated(
    scape: Scaper, key: tuple[int, int, int], allow_repeated_label: bool, allow_repeated_source: bool
) -> dict[str, Any]:
    """A JAMS, as JSON, of one draw."""
    twin = copy.copy(scape)
    # Drawing writes into the lists of the specification.
    twin.fg_spec, twin.bg_spec = copy.deepcopy(scape.fg_spec), copy.deepcopy(scape.bg_spec)
    bits = np.random.MT19937(np.random.SeedSequence(key))
    twin.random_state = np.random.RandomState(bits)
    if not hasattr(np, "Inf"):
        made = type(scape)._instantiate_event
        repaired = types.FunctionType(
            made.__code__, {**made.__globals__, "np": _Numpy()}, made.__name__, made.__defaults__, made.__closure__
        )
        repaired.__kwdefaults__ = made.__kwdefaults__
        twin._instantiate_event = types.MethodType(repaired, twin)
    jam = twin._instantiate(allow_repeated_label=allow_repeated_label, allow_repeated_source=allow_repeated_source)
    content: dict[str, Any] = json.loads(jam.dumps())
    return content
