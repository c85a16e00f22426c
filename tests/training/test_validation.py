"""Validation: the loss and the SDR as they are defined, in evaluation mode."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from separators.network import Network
from tests.training.small_training import UNMIX, batches, gains, recipe
from training.making import make_network
from training.metrics import sdr
from training.objective import Objective
from training.recipe import LossRule
from training.validation import Validation, validate


def objective_of(network: Network, targets: str = "ab", **rule: Any) -> Objective:
    return Objective(network, LossRule.model_validate({"terms": "mse", **rule}), tuple(targets))


def test_loss_and_sdr_are_those_of_all_mixtures() -> None:
    network = gains("ba", (0.2, 0.7))
    found = validate(objective_of(network), batches(2, number=3))
    losses, levels, first = [], [], None
    for mixtures, targets in batches(2, number=3):
        estimates = network(mixtures)[:, [1, 0]].detach()
        losses += (estimates - targets).square().mean(dim=(1, 2, 3)).tolist()
        levels += [sdr(t.numpy(), e.numpy()) for t, e in zip(targets, estimates, strict=True)]
        first = torch.cat([mixtures[:1], targets[0], estimates[0]]) if first is None else first
    assert found.losses == pytest.approx(losses)
    assert found.loss == pytest.approx(np.mean(losses))
    np.testing.assert_allclose([*found.sdr_db.values()], np.transpose(levels), rtol=1e-5)
    assert [*found.sdr_db] == ["a", "b"]
    assert found.mean_sdr_db == pytest.approx(np.median(levels, axis=0).mean())
    assert found.example is not None
    torch.testing.assert_close(found.example, first)
    values = found.to_json()
    assert values.pop("targets") == pytest.approx(dict(zip("ab", np.median(levels, axis=0), strict=True)))
    assert values == {"loss": found.loss, "sdr_db": found.mean_sdr_db, "num": 6}


@pytest.mark.parametrize(
    ("assignment", "sources"), [("permutation", "xy"), ("one_and_rest", "xy"), ("mixit", "wxyz")]
)
def test_targets_find_their_estimates_where_names_do_not_say(assignment: str, sources: str) -> None:
    objective = objective_of(gains(sources), assignment=assignment)
    found = validate(objective, batches(2))
    wanted = [
        sdr(reference.numpy(), estimate.detach().numpy())
        for mixtures, targets in batches(2)
        for reference, estimate in zip(targets, objective.best(mixtures, targets), strict=True)
    ]
    np.testing.assert_allclose([*found.sdr_db.values()], np.transpose(wanted), rtol=1e-5)


def test_a_target_that_is_not_compared_has_no_level() -> None:
    objective = Objective(gains("a"), LossRule(terms=("mse",)), ("b", "a"), {"b": []})
    found = validate(objective, batches(2))
    assert [*found.sdr_db] == ["a"]
    assert found.example is not None
    assert found.example.shape == (3, 2, 400)


def test_a_silent_target_has_no_level_and_json_says_null() -> None:
    def silent() -> Any:
        for mixtures, targets in batches(2):
            targets[:, 1] = 0.0
            yield mixtures, targets

    found = validate(objective_of(gains("ab")), silent())
    assert all(math.isnan(value) for value in found.sdr_db["b"])
    values = found.to_json()
    assert values["targets"]["b"] is None
    assert values["sdr_db"] == values["targets"]["a"]
    nothing = validate(objective_of(gains("ab")), [])
    assert nothing.to_json() == {"loss": None, "sdr_db": None, "targets": {"a": None, "b": None}, "num": 0}


def test_a_network_is_in_evaluation_mode_meanwhile_and_as_it_was_after() -> None:
    network = make_network(recipe(network=UNMIX))
    objective = Objective(network, LossRule(terms=("l1",)), ("speech", "music"))
    objective.train()
    network.nets[0].bn1.eval()
    modes = [module.training for module in objective.modules()]
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    one, other = (validate(objective, batches(2)) for _ in range(2))
    assert one.losses == other.losses  # no dropout
    assert [module.training for module in objective.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())

    def broken() -> Any:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        validate(objective, broken())
    assert [module.training for module in objective.modules()] == modes


def test_processes_that_validate_together_find_what_one_finds() -> None:
    objective = objective_of(gains("ab"))
    alone = validate(objective, batches(2, number=4))
    every = [*batches(2, number=4)]
    shares = [validate(objective, every[rank::2]) for rank in (0, 1)]
    parts = [(share.losses, share.sdr_db) for share in shares]
    both = [share.joined(parts) for share in shares]
    assert both[0].to_json() == both[1].to_json() == alone.to_json()
    assert Validation([], {"a": []}).joined([([], {"a": []})]).losses == []
