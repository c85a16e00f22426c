"""Which estimate stands for which target, where the order does not say: losses of the best assignment.

Each function takes a loss of `training.losses` and looks for the assignment of estimates that minimises it, without
gradients, and evaluates only the winner with them: the gradient of a minimum is that of what attains it, and the
graph does not grow with the number of assignments. Conventions are those of `training.losses`.

References
----------
- M. Kolbaek et al., "Multi-talker Speech Separation with Utterance-level Permutation Invariant Training of Deep
  Recurrent Neural Networks", IEEE/ACM TASLP 25(10), 2017.
- N. Takahashi et al., "Recursive Speech Separation for Unknown Number of Speakers", Interspeech 2019: one and rest.
- S. Wisdom et al., "Unsupervised Sound Separation Using Mixture Invariant Training", NeurIPS 2020: MixIT.
"""

from __future__ import annotations

import itertools

import torch
from scipy.optimize import linear_sum_assignment

from training.losses import Loss, checked, precise

__all__ = ["mixit", "one_and_rest", "permutation_invariant"]

Tensor = torch.Tensor

_MAX_LISTED_SOURCES = 4
_MAX_MIXIT_SOURCES = 12


def permutation_invariant(loss: Loss, estimates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The loss under the best one-to-one assignment of estimates to targets.

    The cost of an assignment is the mean of `loss` over its pairs, each given to `loss` as one source. All
    permutations are compared up to 4 sources; beyond, the Hungarian algorithm finds the same minimum.

    Parameters
    ----------
    loss : Loss
    estimates, targets : torch.Tensor [shape=(batch, sources, channels, frames)]

    Returns
    -------
    losses : torch.Tensor [shape=(batch,)]
    order : torch.Tensor of int64 [shape=(batch, sources)]
        ``order[b, j]`` is the estimate for target ``j``.

    Raises
    ------
    ValueError
        If the shapes are not of four equal axes.

    Examples
    --------
    >>> targets = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    >>> permutation_invariant(mse_loss, targets.flip(1), targets)
    (tensor([0.]), tensor([[2, 1, 0]]))
    """
    estimates, targets = checked(estimates, targets)
    sources = range(targets.shape[1])
    with torch.no_grad():
        rows = [[loss(estimates[:, i : i + 1], targets[:, j : j + 1]) for j in sources] for i in sources]
        costs = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
        order = _best_order(costs)
    chosen = _ordered(estimates, order)
    pairs = [loss(chosen[:, j : j + 1], targets[:, j : j + 1]) for j in sources]
    return torch.stack(pairs, dim=1).mean(dim=1), order


def one_and_rest(loss: Loss, estimates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One-and-rest loss: the first estimate is any one of the targets, the second the sum of all others.

    ``min_i loss(e_1, s_i) + loss(e_2, sum_{j != i} s_j) / (sources - 1)``.

    Parameters
    ----------
    loss : Loss
        Sees one source at a time.
    estimates : torch.Tensor [shape=(batch, 2, channels, frames)]
    targets : torch.Tensor [shape=(batch, sources, channels, frames)]
        Two or more. A silent one can be taken as the one, as far as `loss` allows.

    Returns
    -------
    losses : torch.Tensor [shape=(batch,)]
    chosen : torch.Tensor of int64 [shape=(batch,)]
        The target that the first estimate stands for.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    _check_pair("estimates", estimates, targets)
    if targets.shape[1] < 2:
        raise ValueError(f"targets have shape {tuple(targets.shape)}, expected two sources or more to have a rest")
    estimates, targets = precise(estimates), precise(targets)
    rests = targets.sum(dim=1, keepdim=True) - targets
    weight = 1.0 / (targets.shape[1] - 1)
    one, rest = estimates[:, :1], estimates[:, 1:]
    with torch.no_grad():
        costs = [
            loss(one, targets[:, i : i + 1]) + weight * loss(rest, rests[:, i : i + 1])
            for i in range(targets.shape[1])
        ]
        chosen = torch.stack(costs, dim=1).argmin(dim=1)
    order = chosen.unsqueeze(1)
    return loss(one, _ordered(targets, order)) + weight * loss(rest, _ordered(rests, order)), chosen


def mixit(loss: Loss, estimates: Tensor, mixtures: Tensor) -> tuple[Tensor, Tensor]:
    """Mixture invariant loss: every estimate goes to one of two mixtures, as their sums fit best.

    What was separated is the sum of both mixtures; no target is needed. All ``2^sources`` assignments are compared.

    Parameters
    ----------
    loss : Loss
        Sees the two sums and the two mixtures as sources.
    estimates : torch.Tensor [shape=(batch, sources, channels, frames)]
        At most 12 sources.
    mixtures : torch.Tensor [shape=(batch, 2, channels, frames)]

    Returns
    -------
    losses : torch.Tensor [shape=(batch,)]
    assignment : torch.Tensor of int64 [shape=(batch, sources)]
        0 or 1: the mixture that each estimate went to.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or there are more than 12 sources.
    """
    _check_pair("mixtures", mixtures, estimates)
    sources = estimates.shape[1]
    if not 1 <= sources <= _MAX_MIXIT_SOURCES:
        raise ValueError(f"estimates have {sources} sources; expected 1 to {_MAX_MIXIT_SOURCES} to try 2^sources")
    estimates, mixtures = precise(estimates), precise(mixtures)
    codes = torch.arange(2**sources, device=estimates.device)
    assignments = codes[:, None] >> torch.arange(sources, device=estimates.device) & 1
    with torch.no_grad():
        costs = [loss(_two_sums(estimates, row.expand(len(estimates), -1)), mixtures) for row in assignments]
        assignment = assignments[torch.stack(costs, dim=1).argmin(dim=1)]
    return loss(_two_sums(estimates, assignment), mixtures), assignment


def _best_order(costs: Tensor) -> Tensor:
    """The estimate for each target, shape (batch, sources), from costs (batch, estimates, targets)."""
    sources = costs.shape[1]
    if sources <= _MAX_LISTED_SOURCES:
        orders = torch.tensor(list(itertools.permutations(range(sources))), device=costs.device)
        totals = costs[:, orders, torch.arange(sources, device=costs.device)].sum(dim=2)
        return orders[totals.argmin(dim=1)]
    # A NaN must show in the loss, where the trainer sees it, not as an error of the assignment.
    finite = torch.nan_to_num(costs, nan=1e30, posinf=1e30, neginf=-1e30).cpu().double().numpy()
    orders = torch.tensor([linear_sum_assignment(item.T)[1].tolist() for item in finite])
    return orders.to(costs.device)


def _ordered(audio: Tensor, order: Tensor) -> Tensor:
    return audio.gather(1, order[..., None, None].expand(-1, -1, *audio.shape[2:]))


def _two_sums(estimates: Tensor, assignment: Tensor) -> Tensor:
    matrix = torch.stack([1 - assignment, assignment], dim=1).to(estimates.dtype)
    return torch.einsum("bms,bscf->bmcf", matrix, estimates)


def _check_pair(name: str, pair: Tensor, others: Tensor) -> None:
    wanted = (others.shape[0], 2, *others.shape[2:])
    if others.ndim != 4 or pair.shape != wanted:
        raise ValueError(f"{name} have shape {tuple(pair.shape)}, expected {wanted}: (batch, 2, channels, frames)")
