"""What a recipe says made into what the loop works with: the network, what of it is trained, the optimizer."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch

from manifests.errors import RecipeError, did_you_mean
from separators.network import Network
from separators.weights import network_classes
from training.objective import Objective
from training.recipe import TrainRecipe

__all__ = ["averaging", "freeze", "make_network", "make_optimizer", "set_training"]


def make_network(recipe: TrainRecipe) -> Network:
    """The network of a recipe, untrained.

    Parameters
    ----------
    recipe : TrainRecipe
        Sample rate, channels, sources and segment are by default those of its mixtures.

    Returns
    -------
    Network

    Raises
    ------
    RecipeError
        There is no network of that name, a size is impossible, or its rate or channels are not the mixtures'.
    """
    kind = str(recipe.network["name"])
    config_class, network_class = network_classes(kind)
    known = [field.name for field in dataclasses.fields(config_class)]
    for name in recipe.network:
        if name not in (*known, "name"):
            raise RecipeError(
                f"network.{name}: '{kind}' has no such field{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
    mix = recipe.mix
    compared = [recipe.targets.get(name, name) for name in mix.outputs]
    values = {
        "sample_rate": mix.sample_rate,
        "channels": mix.channels,
        "sources": [name for found in compared for name in ([found] if isinstance(found, str) else found)],
        "segment_frames": mix.num_frames,
        **{name: value for name, value in recipe.network.items() if name != "name"},
    }
    config = config_class.from_json(values)
    for field in ("sample_rate", "channels"):
        if getattr(config, field) != getattr(mix, field):
            raise RecipeError(
                f"network.{field} is {getattr(config, field)} and mix.{field} {getattr(mix, field)}: a network is "
                "trained on what it takes; write the same number for both"
            )
    return network_class(config)


def freeze(network: Network, patterns: Sequence[str]) -> None:
    """Take parameters out of the training.

    Parameters
    ----------
    network : Network
    patterns : sequence of str
        Of names, such as ``nets.0.*``.

    Raises
    ------
    RecipeError
        Nothing has such a name, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(itertools.islice(names, 8))
            raise RecipeError(f"freeze: no parameter is called '{pattern}'; there are {some} ...")
    for name, parameter in network.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise RecipeError("freeze: no parameter is left to train; leave out a pattern")


def set_training(objective: Objective, freeze_batch_norm: bool) -> None:
    """Training mode, but for batch normalisation that is to stay as it is.

    Parameters
    ----------
    objective : Objective
    freeze_batch_norm : bool
        All of it; else that whose parameters are frozen.
    """
    objective.train()
    for module in objective.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if freeze_batch_norm or (own and not any(parameter.requires_grad for parameter in own)):
                module.eval()


def make_optimizer(objective: Objective, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe, of the parameters that are not frozen."""
    rule = recipe.optimizer
    kind = torch.optim.Adam if rule.name == "adam" else torch.optim.AdamW
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return kind(trained, lr=rule.learning_rate, betas=rule.betas, weight_decay=rule.weight_decay)


def averaging(decay: float) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | int], torch.Tensor]:
    """The exponential moving average of weights, for `torch.optim.swa_utils.AveragedModel`.

    Parameters
    ----------
    decay : float
        What an update leaves of the average, from 0 to below 1, once there have been many.

    Returns
    -------
    callable
    """

    def averaged(average: torch.Tensor, current: torch.Tensor, number: torch.Tensor | int) -> torch.Tensor:
        # early on the average follows fast, or it would hold untrained weights for long
        now = min(decay, (1.0 + float(number)) / (10.0 + float(number)))
        return average + (1.0 - now) * (current - average)

    return averaged
