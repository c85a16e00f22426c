"""Mixtures by their number: drawn, rendered, and drawn again where a file cannot be read any more."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from augment.draw import draw
from augment.plan import Event, MixturePlan
from augment.pool import Pool
from augment.recipe import MixRecipe
from augment.render import Mixture, Reader, Separate, render
from manifests.audio import Audio
from manifests.errors import AudioError

__all__ = ["Mixer"]

_MAX_ATTEMPTS = 10

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Mixer:
    """Draws and renders the mixtures of a recipe.

    Attributes
    ----------
    recipe : MixRecipe
    pool : Pool
        Of the same recipe.
    seed : int
        At least 0.
    reader : Reader
    separate : callable, optional
        For a cascade by a separator.
    on_replaced : callable, optional
        Makes a file that cannot be read a warning: it is called with the plan and the error, and the mixture is
        drawn again (`attempt` 1, 2 ...), which is reproducible too. Without it the error is raised.
    """

    recipe: MixRecipe
    pool: Pool
    seed: int
    reader: Reader
    separate: Separate | None = None
    on_replaced: Callable[[MixturePlan, AudioError], Any] | None = None

    def mix(
        self,
        epoch: int,
        index: int,
        *,
        heard: Callable[[Event, Audio], None] | None = None,
        out: tuple[Audio, Audio] | None = None,
    ) -> Mixture:
        """The mixture of a number.

        Parameters
        ----------
        epoch, index : int
            At least 0.
        heard : callable, optional
            As for `augment.render.render`; events of a draw that is replaced may have been heard before.
        out : (np.ndarray, np.ndarray), optional
            As for `augment.render.render`.

        Returns
        -------
        Mixture

        Raises
        ------
        AudioError
            When a file cannot be read and nothing replaces it, or ten draws in a row meet such files.
        """
        problem = None
        for attempt in range(_MAX_ATTEMPTS):
            plan = draw(self.recipe, self.pool, self.seed, epoch, index, attempt)
            try:
                return render(plan, self.reader, separate=self.separate, heard=heard, out=out)
            except AudioError as error:
                if self.on_replaced is None:
                    raise
                self.on_replaced(plan, error)
                log.warning("mixture %s is drawn again (attempt %d): %s", plan.mixture_id, attempt + 1, error)
                problem = error
        raise AudioError(
            f"mixture {plan.mixture_id}: {_MAX_ATTEMPTS} draws in a row met files that cannot be read (the last "
            f"one: {problem}); check that the corpus is still there"
        )
