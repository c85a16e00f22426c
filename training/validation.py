"""How good a network is during training: the loss and the SDR on mixtures that are always the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.metrics import sdr, summarise
from training.objective import Objective

__all__ = ["Validation", "finite", "validate"]


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes
    ----------
    losses : list of float
        Of each mixture.
    sdr_db : dict of str to list of float
        For each target, the global SDR of each mixture; NaN where it is silent.
    example : torch.Tensor [shape=(1 + 2 * targets, channels, frames)]
        The first mixture, its targets, and what the network takes for them.
    """

    losses: list[float]
    sdr_db: dict[str, list[float]]
    example: torch.Tensor | None = None

    @property
    def loss(self) -> float:
        """Mean loss; NaN without any mixture."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan

    @property
    def mean_sdr_db(self) -> float:
        """The mean over targets of their median SDR; NaN where no target is ever heard."""
        medians = [summarise(values).median for values in self.sdr_db.values()]
        heard = [value for value in medians if not math.isnan(value)]
        return math.fsum(heard) / len(heard) if heard else math.nan

    def joined(self, parts: Sequence[tuple[list[float], dict[str, list[float]]]]) -> Validation:
        """The same with the losses and levels of all processes that validated together.

        Parameters
        ----------
        parts : sequence of (losses, sdr_db)

        Returns
        -------
        Validation
        """
        losses = [value for found, _ in parts for value in found]
        levels = {name: [value for _, found in parts for value in found[name]] for name in self.sdr_db}
        return Validation(losses, levels, self.example)

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values: `loss`, `sdr_db`, and for each target the median SDR.

        Returns
        -------
        dict
        """
        medians = {name: summarise(values).median for name, values in self.sdr_db.items()}
        values = {"loss": self.loss, "sdr_db": self.mean_sdr_db, "targets": medians, "num": len(self.losses)}
        return {name: finite(value) for name, value in values.items()}


def validate(objective: Objective, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Validation:
    """Measure a network; it is in evaluation mode meanwhile, and afterwards as it was.

    Parameters
    ----------
    objective : Objective
    batches : iterable of (torch.Tensor, torch.Tensor)
        Mixtures (batch, channels, frames) and targets (batch, targets, channels, frames).

    Returns
    -------
    Validation
    """
    device = next(objective.parameters()).device
    modes = {module: module.training for module in objective.modules()}
    objective.eval()
    losses: list[float] = []
    # in one-and-rest and MixIT targets have names too, though estimates find theirs
    levels: dict[str, list[float]] = {name: [] for name in objective.targets}
    example = None
    try:
        with torch.inference_mode():
            for mixtures, targets in batches:
                mixtures, targets = mixtures.to(device), targets.to(device)
                each, estimated = objective.measure(mixtures, targets)
                losses += each.tolist()
                wanted = targets[:, objective.compared].cpu()
                found = estimated.float().cpu()
                for references, estimates in zip(wanted.numpy(), found.numpy(), strict=True):
                    for name, value in zip(objective.targets, sdr(references, estimates), strict=True):
                        levels[name].append(float(value))
                if example is None:
                    example = torch.cat([mixtures[:1].cpu(), wanted[0], found[0]])
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Validation(losses, levels, example)


def finite(value: Any) -> Any:
    """JSON values with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
