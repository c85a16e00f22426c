"""A network and what its training minimises, as one module: mixtures and targets in, a loss out.

It is a module so that data-parallel training can wrap it: whatever a loss asks of the network, its sources, its
magnitudes or what it says besides, is asked inside `forward`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from manifests.errors import RecipeError, did_you_mean
from separators.network import Network, Outputs
from training.assignments import mixit, one_and_rest, permutation_invariant
from training.losses import (
    Loss,
    activity_cross_entropy,
    guided_cross_entropy,
    l1_loss,
    magnitude_l1,
    magnitude_mse,
    mixture_consistency,
    mse_loss,
    multi_resolution_stft,
    negative_si_sdr,
    negative_snr,
)
from training.recipe import MAGNITUDE_TERMS, LossRule, LossTerm

__all__ = ["Objective", "source_groups"]

_OF_AUDIO = ("l1", "mse", "snr", "si_sdr", "stft")

Tensor = torch.Tensor

_ASSIGNMENTS: Mapping[str, Callable[[Loss, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "permutation": permutation_invariant,
    "one_and_rest": one_and_rest,
    "mixit": mixit,
}


class Objective(torch.nn.Module):
    """The loss of a network.

    Parameters
    ----------
    network : Network
    rule : LossRule
    targets : sequence of str
        Of the mixtures, in their order; the attribute has those that are compared.
    groups : mapping of str to (str or sequence of str), optional
        For targets, the network's source or sources; see `source_groups`.

    Raises
    ------
    RecipeError
        When the network does not say what a term compares, or its sources do not fit the targets.
    """

    def __init__(
        self,
        network: Network,
        rule: LossRule,
        targets: Sequence[str],
        groups: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.rule = rule
        self.targets = tuple(targets)
        self.groups: tuple[tuple[int, ...], ...] | None = None
        self.compared = list(range(len(self.targets)))
        if rule.assignment == "fixed":
            found = source_groups(network.sources, self.targets, groups or {})
            self.compared = [number for number, group in enumerate(found) if group]
            self.groups = tuple(group for group in found if group)
            self.targets = tuple(self.targets[number] for number in self.compared)
        weights = [rule.weights.get(name, 1.0) for name in self.targets]
        self.weights = [weight * len(weights) / sum(weights) for weight in weights] if rule.weights else None
        _require(network, rule, self.targets, self.groups)

    def forward(self, mixtures: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of a batch.

        Parameters
        ----------
        mixtures : torch.Tensor [shape=(batch, channels, frames)]
        targets : torch.Tensor [shape=(batch, all targets, channels, frames)]

        Returns
        -------
        losses : torch.Tensor [shape=(batch,)]
        parts : dict of str to torch.Tensor [shape=(batch,)]
            Each term without its weight, detached, where there is more than one.
        """
        return self._losses(mixtures, targets)

    def measure(self, mixtures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Losses, and estimates as of `best`, of one pass through the network: what a validation needs.

        Parameters
        ----------
        mixtures : torch.Tensor [shape=(batch, channels, frames)]
        targets : torch.Tensor [shape=(batch, all targets, channels, frames)]

        Returns
        -------
        losses : torch.Tensor [shape=(batch,)]
        estimates : torch.Tensor [shape=(batch, compared targets, channels, frames)]
        """
        outputs = self.network.outputs(mixtures)
        return self._losses(mixtures, targets, outputs)[0], self._best(outputs.sources, mixtures, targets)

    def _losses(
        self, mixtures: Tensor, targets: Tensor, outputs: Outputs | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        targets = targets[:, self.compared]
        parts = {}
        for term in self.rule.terms:
            if term.name in MAGNITUDE_TERMS:
                parts[term.name] = self._of_magnitudes(term, mixtures, targets)
                continue
            outputs = self.network.outputs(mixtures) if outputs is None else outputs
            if term.name == "activity":
                assert outputs.activities is not None
                parts[term.name] = activity_cross_entropy(outputs.activities, self._of_sources(targets))
            elif term.name == "guided":
                assert outputs.embeddings is not None
                network: Any = self.network
                guides = network.guides(self._of_sources(targets))
                embeddings = self._in_order(outputs.embeddings, outputs.sources, mixtures, targets)
                parts[term.name] = guided_cross_entropy(embeddings, guides)
            else:
                parts[term.name] = self._of_audio(term, outputs, mixtures, targets)
        losses = torch.stack([term.weight * parts[term.name] for term in self.rule.terms]).sum(dim=0)
        return losses, {name: part.detach() for name, part in parts.items()} if len(parts) > 1 else {}

    def estimates(self, sources: Tensor) -> Tensor:
        """What stands for each target: its source, or the sum of its sources; all sources where there are no names.

        Parameters
        ----------
        sources : torch.Tensor [shape=(batch, sources, channels, frames)]

        Returns
        -------
        torch.Tensor [shape=(batch, targets, channels, frames)]
        """
        if self.groups is None:
            return sources
        return torch.stack([sources[:, list(group)].sum(dim=1) for group in self.groups], dim=1)

    def best(self, mixtures: Tensor, targets: Tensor) -> Tensor:
        """Estimates in the targets' order, however that is found: what a validation measures.

        Parameters
        ----------
        mixtures : torch.Tensor [shape=(batch, channels, frames)]
        targets : torch.Tensor [shape=(batch, all targets, channels, frames)]

        Returns
        -------
        torch.Tensor [shape=(batch, compared targets, channels, frames)]
            Without an order that covers all targets (one-and-rest, MixIT), the best of the first term on audio.
        """
        return self._best(self.network(mixtures), mixtures, targets)

    def _best(self, sources: Tensor, mixtures: Tensor, targets: Tensor) -> Tensor:
        sources = self._consistent(sources, mixtures)
        if self.groups is not None:
            return self.estimates(sources)
        batch = torch.arange(len(sources), device=sources.device)
        if self.rule.assignment == "permutation":
            order = permutation_invariant(_loss(self._first_of_audio(), mixtures), sources, targets)[1]
            return sources[batch[:, None], order]
        if self.rule.assignment == "one_and_rest":
            chosen = one_and_rest(_loss(self._first_of_audio(), mixtures), sources, targets)[1]
            # every other target has the same estimate: the rest
            stack = sources[:, 1:].expand(-1, targets.shape[1], -1, -1).clone()
            stack[batch, chosen] = sources[:, 0]
            return stack
        assignment = mixit(_loss(self._first_of_audio(), mixtures), sources, targets)[1].to(sources.dtype)
        return torch.einsum("bms,bscf->bmcf", torch.stack([1 - assignment, assignment], dim=1), sources)

    def _of_magnitudes(self, term: LossTerm, mixtures: Tensor, targets: Tensor) -> Tensor:
        network: Any = self.network  # `_require` has seen that it has magnitudes
        found = network.magnitudes(mixtures)
        sources = self._of_sources(targets)
        wanted = network.reference_magnitudes(sources)
        loss = magnitude_l1 if term.name == "magnitude_l1" else magnitude_mse
        if self.weights is None:
            return loss(found, wanted)
        # those of targets, in the order of the sources that have magnitudes
        order = self._target_numbers()
        each = [
            self.weights[order[source]] * loss(found[:, source : source + 1], wanted[:, source : source + 1])
            for source in range(found.shape[1])
        ]
        return torch.stack(each).mean(dim=0)

    def _of_sources(self, targets: Tensor) -> Tensor:
        """Targets in the order of the network's sources, each of which stands for one."""
        return targets if self.groups is None else targets[:, self._target_numbers()]

    def _target_numbers(self) -> list[int]:
        """For each of the network's sources the number of the target that it stands for."""
        assert self.groups is not None
        return sorted(range(len(self.groups)), key=self.groups.__getitem__)

    def _in_order(self, embeddings: Tensor, sources: Tensor, mixtures: Tensor, targets: Tensor) -> Tensor:
        """Embeddings of the mixture and of the estimates, these in the order of the targets."""
        if self.rule.assignment != "permutation":
            return embeddings
        order = permutation_invariant(_loss(self._first_of_audio(), mixtures), sources, targets)[1]
        batch = torch.arange(len(order), device=order.device)[:, None]
        return torch.cat([embeddings[:, :1], embeddings[:, 1:][batch, order]], dim=1)

    def _first_of_audio(self) -> LossTerm:
        return next((term for term in self.rule.terms if term.name in _OF_AUDIO), LossTerm(name="snr"))

    def _of_audio(self, term: LossTerm, outputs: Outputs, mixtures: Tensor, targets: Tensor) -> Tensor:
        loss = _loss(term, mixtures)
        total = self._of_estimates(loss, outputs.sources, mixtures, targets)
        for earlier in outputs.earlier if self.rule.earlier else ():
            total = total + self.rule.earlier * self._of_estimates(loss, earlier, mixtures, targets)
        return total

    def _of_estimates(self, loss: Loss, sources: Tensor, mixtures: Tensor, targets: Tensor) -> Tensor:
        sources = self._consistent(sources, mixtures)
        if self.rule.assignment != "fixed":
            return _ASSIGNMENTS[self.rule.assignment](loss, sources, targets)[0]
        estimates = self.estimates(sources)
        if self.weights is None:
            return loss(estimates, targets)
        each = [
            weight * loss(estimates[:, t : t + 1], targets[:, t : t + 1]) for t, weight in enumerate(self.weights)
        ]
        return torch.stack(each).mean(dim=0)

    def _consistent(self, sources: Tensor, mixtures: Tensor) -> Tensor:
        if self.rule.consistency == "none":
            return sources
        return mixture_consistency(sources, mixtures, weights=self.rule.consistency)


def source_groups(
    sources: Sequence[str], targets: Sequence[str], given: Mapping[str, str | Sequence[str]]
) -> tuple[tuple[int, ...], ...]:
    """For each target, the numbers of the sources whose sum stands for it.

    Parameters
    ----------
    sources : sequence of str
        Of a network.
    targets : sequence of str
        Of mixtures.
    given : mapping of str to (str or sequence of str)
        A target's source or sources; by default the source of its own name. None: it is not compared.

    Returns
    -------
    tuple of tuple of int

    Raises
    ------
    RecipeError
        A target has a source that is not there, or a source is no target's, or two targets'.

    Examples
    --------
    >>> source_groups(["drums", "bass", "voice"], ["voice", "rest"], {"rest": ["drums", "bass"]})
    ((2,), (0, 1))
    """
    groups = []
    for target in targets:
        names = given.get(target, target)
        group = []
        for name in [names] if isinstance(names, str) else names:
            if name not in sources:
                raise RecipeError(
                    f"targets: '{target}' is compared with the source '{name}', and the network has "
                    f"{', '.join(sources)}{did_you_mean(name, sources)}; write 'targets: {{{target}: SOURCE}}' or "
                    "give the network the mixtures' targets as sources"
                )
            group.append(sources.index(name))
        groups.append(tuple(group))
    used = [number for group in groups for number in group]
    for number, name in enumerate(sources):
        if used.count(number) != 1:
            how = "with no target" if number not in used else "with more than one target"
            raise RecipeError(f"targets: the network's source '{name}' is compared {how}; give each source to one")
    return tuple(groups)


def _require(
    network: Network, rule: LossRule, targets: Sequence[str], groups: tuple[tuple[int, ...], ...] | None
) -> None:
    kind = type(network).__name__
    names = [term.name for term in rule.terms]
    for name in names:
        if name in MAGNITUDE_TERMS and not hasattr(network, "magnitudes"):
            raise RecipeError(f"loss '{name}' compares magnitudes, and {kind} has none before its sources: use l1")
        if name == "guided" and getattr(network, "guide", None) is None:
            raise RecipeError(
                f"loss 'guided' teaches a classifier, and this {kind} has none to teach: leave the term out, or "
                "write 'network: {name: tdcn, tuning: guided}'"
            )
        if name == "activity" and not hasattr(network, "activity"):
            raise RecipeError(
                f"loss 'activity' is for networks that say who is heard, and {kind} does not: use mrx-c"
            )
        if name in (*MAGNITUDE_TERMS, "activity") and groups is not None and any(len(g) > 1 for g in groups):
            raise RecipeError(f"loss '{name}' compares each source, and a target is the sum of several: use l1")
    if groups is not None:
        return
    number = {"permutation": len(targets), "one_and_rest": 2}.get(rule.assignment)
    if number is not None and len(network.sources) != number:
        raise RecipeError(
            f"assignment '{rule.assignment}' for {len(targets)} targets needs a network of {number} sources, and "
            f"this one has {len(network.sources)}: name as many in 'network.sources'"
        )
    if rule.assignment == "mixit" and len(targets) != 2:
        raise RecipeError(f"assignment 'mixit' needs mixtures of two mixtures, and these have {', '.join(targets)}")


def _loss(term: LossTerm, mixtures: Tensor) -> Loss:
    if term.name == "snr":
        return functools.partial(negative_snr, max_snr_db=term.max_db or 30.0, mixtures=mixtures)
    if term.name == "si_sdr":
        return functools.partial(negative_si_sdr, max_si_sdr_db=term.max_db or 60.0)
    if term.name == "stft":
        return functools.partial(multi_resolution_stft, n_ffts=term.n_ffts)
    return l1_loss if term.name == "l1" else mse_loss
