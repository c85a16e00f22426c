"""A recipe's network, what of it is trained, its optimizer and the average of its weights."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from manifests.errors import RecipeError
from separators.network import Network
from tests.training.small_training import TASNET, UNET, UNMIX, gains, recipe
from training.making import averaging, freeze, make_network, make_optimizer, set_training
from training.objective import Objective
from training.recipe import LossRule


def objective_of(network: Network, **rule: Any) -> Objective:
    return Objective(network, LossRule.model_validate({"terms": "l1", **rule}), network.sources)


def norms(module: torch.nn.Module) -> list[torch.nn.Module]:
    return [one for one in module.modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]


def test_a_network_is_for_its_mixtures_unless_told_otherwise() -> None:
    network = make_network(recipe())
    assert type(network).__name__ == "ConvTasNet"
    assert (network.sample_rate, network.channels, network.segment_frames) == (8000, 2, 800)
    assert network.sources == ("speech", "music")
    named = recipe(targets={"speech": ["child", "adult"], "music": "band"})
    assert make_network(named).sources == ("child", "adult", "band")
    given = recipe(network={**TASNET, "segment_frames": 900, "sources": ["music", "speech"]})
    assert (make_network(given).segment_frames, make_network(given).sources) == (900, ("music", "speech"))
    without = recipe(targets={"speech": []})
    assert make_network(without).sources == ("music",)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"name": "conv-tasnett"}, r"there is no network 'conv-tasnett' \(did you mean 'conv-tasnet'\?\)"),
        ({**TASNET, "sample_rate": 44100}, r"network\.sample_rate is 44100 and mix\.sample_rate 8000: .* same"),
        ({**TASNET, "channels": 1}, r"network\.channels is 1 and mix\.channels 2: .* same number"),
        (
            {**TASNET, "filter": 3},
            r"network\.filter: 'conv-tasnet' .* \(did you mean 'filters'\?\); it has .*repeats",
        ),
        ({**UNET, "hidden": 4}, r"network\.hidden: 'unet' has no such field; it has sample_rate, .*filters"),
        ({**TASNET, "filter_frames": 7}, "filter_frames is 7: it must be even"),
        ({"name": "unet"}, r"UNetConfig lacks bins, columns"),
    ],
)
def test_networks_that_cannot_be_are_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_network(recipe(network=network))


def test_frozen_parameters_are_out_of_the_training() -> None:
    made = recipe(freeze=["nets.0.*", "nets.?.lstm.*"], network=UNMIX)
    network = make_network(made)
    freeze(network, made.freeze)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        name for name, _ in network.named_parameters() if name.startswith("nets.0.") or ".lstm." in name
    }
    optimizer = make_optimizer(objective_of(network), made)
    trained = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert trained == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}


def test_patterns_that_freeze_nothing_or_everything_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"no parameter is called 'encoder\.\*\.x'; there are encoder\.w"):
        freeze(make_network(recipe()), ["encoder.*.x"])
    with pytest.raises(RecipeError, match="no parameter is left to train; leave out a pattern"):
        freeze(make_network(recipe()), ["*"])


@pytest.mark.parametrize("network", [UNMIX, UNET])
def test_statistics_are_frozen_with_their_parameters_or_altogether(network: dict[str, Any]) -> None:
    objective = objective_of(make_network(recipe(network=network)))
    set_training(objective, freeze_batch_norm=False)
    assert all(module.training for module in objective.modules())
    freeze(objective.network, ["nets.0.*"])
    set_training(objective, freeze_batch_norm=False)
    stay = norms(objective.network.nets[0])
    assert stay
    assert [one for one in norms(objective) if not one.training] == stay
    set_training(objective, freeze_batch_norm=True)
    assert not any(one.training for one in norms(objective))
    assert objective.network.training


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_is_torchs(name: str, kind: type[torch.optim.Optimizer]) -> None:
    rule = {"name": name, "learning_rate": 0.02, "betas": [0.8, 0.95], "weight_decay": 0.3}
    optimizer = make_optimizer(objective_of(gains("ab")), recipe(optimizer=rule))
    assert type(optimizer) is kind
    values = optimizer.param_groups[0]
    assert (values["lr"], tuple(values["betas"]), values["weight_decay"]) == (0.02, (0.8, 0.95), 0.3)


def test_the_average_is_torchs_once_there_were_many_updates() -> None:
    network = gains("ab")
    ours = AveragedModel(network, avg_fn=averaging(0.6))
    torchs = AveragedModel(network, avg_fn=get_ema_avg_fn(0.6))
    values = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    history = []
    for number, value in enumerate(values):
        with torch.no_grad():
            network.gains.copy_(value)
        ours.update_parameters(network)
        # (1 + n) / (10 + n) is above 0.6 from the 13th update on: so far the average follows faster
        if number >= 13:
            torchs.update_parameters(network)
        else:
            with torch.no_grad():
                torchs.module.gains.copy_(ours.module.gains)
            torchs.n_averaged.fill_(number + 1)
        history.append(ours.module.gains.detach().clone())
        torch.testing.assert_close(history[-1], torchs.module.gains.detach())
    torch.testing.assert_close(history[0], values[0].float())
    wanted = values[0]
    for number, value in enumerate(values[1:14], 1):
        decay = min(0.6, (1 + number) / (10 + number))
        wanted = decay * wanted + (1 - decay) * value
        torch.testing.assert_close(history[number], wanted.float())


def test_what_does_not_change_is_its_own_average() -> None:
    for decay, number in itertools.product((0.0, 0.5, 0.999), (1, 5, 10_000)):
        value = torch.tensor([0.1, -3.7e-5, 1e8])
        assert torch.equal(averaging(decay)(value, value.clone(), number), value)
