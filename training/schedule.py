"""How the learning rate changes, and when training has stopped to improve.

The learning rate is a function of where training is, so that a resumed run needs no scheduler's state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.recipe import ScheduleRule

__all__ = ["Progress", "learning_rate_factor"]


@dataclass
class Progress:
    """How validations went.

    Attributes
    ----------
    best : float
        The least so far of what is to become small.
    since_best : int
        Validations since the best one.
    since_drop : int
        Validations since the best one, or since the learning rate was last lowered.
    drops : int
        How often the learning rate was lowered.
    """

    best: float = math.inf
    since_best: int = 0
    since_drop: int = 0
    drops: int = 0

    def update(self, value: float, patience: int | None = None) -> bool:
        """Take note of a validation.

        Parameters
        ----------
        value : float
            To become small; NaN is no improvement.
        patience : int, optional
            Validations without improvement after which the learning rate is lowered.

        Returns
        -------
        bool
            Whether this is the best so far.
        """
        if value < self.best:
            self.best, self.since_best, self.since_drop = value, 0, 0
            return True
        self.since_best += 1
        self.since_drop += 1
        if patience is not None and self.since_drop >= patience:
            self.since_drop = 0
            self.drops += 1
        return False


def learning_rate_factor(rule: ScheduleRule, step: int, epoch_steps: int, epochs: int, drops: int = 0) -> float:
    """What the learning rate is multiplied by at a step.

    Parameters
    ----------
    rule : ScheduleRule
    step : int
        From 0.
    epoch_steps, epochs : int
        Steps of an epoch, and epochs in all.
    drops : int
        Of `Progress`, for the plateau schedule.

    Returns
    -------
    float

    Examples
    --------
    >>> rule = ScheduleRule(name="exponential", factor=0.98, every_epochs=2)
    >>> [round(learning_rate_factor(rule, step, 10, 100), 4) for step in (0, 19, 20, 40)]
    [1.0, 1.0, 0.98, 0.9604]
    """
    warmup = min(1.0, (step + 1) / rule.warmup_steps) if rule.warmup_steps else 1.0
    if rule.name == "exponential":
        return float(warmup * rule.factor ** (step // epoch_steps // rule.every_epochs))
    if rule.name == "plateau":
        return float(warmup * rule.factor**drops)
    if rule.name == "cosine":
        return warmup * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / (epoch_steps * epochs))))
    return warmup
