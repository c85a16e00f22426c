"""Learning rates against closed forms and torch's schedulers, and when training has stopped to improve."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.recipe import ScheduleRule
from training.schedule import Progress, learning_rate_factor

EPOCH_STEPS, EPOCHS = 4, 6


def factors(rule: ScheduleRule) -> list[float]:
    return [learning_rate_factor(rule, step, EPOCH_STEPS, EPOCHS) for step in range(EPOCH_STEPS * EPOCHS)]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def of_torch(scheduler: torch.optim.lr_scheduler.LRScheduler, every: int = 1) -> list[float]:
    rates = []
    for step in range(1, EPOCH_STEPS * EPOCHS + 1):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        if step % every == 0:
            scheduler.step()
    return rates


def test_a_constant_rate_is_constant() -> None:
    assert set(factors(ScheduleRule())) == {1.0}


@pytest.mark.parametrize("every_epochs", [1, 2])
def test_exponential_is_torchs_step_schedule(every_epochs: int) -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer(), every_epochs, gamma=0.9)
    rule = ScheduleRule(name="exponential", factor=0.9, every_epochs=every_epochs)
    np.testing.assert_allclose(factors(rule), of_torch(scheduler, EPOCH_STEPS), rtol=1e-12)


def test_cosine_is_torchs() -> None:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), EPOCH_STEPS * EPOCHS)
    found = factors(ScheduleRule(name="cosine"))
    np.testing.assert_allclose(found, of_torch(scheduler), rtol=1e-9)
    steps = np.arange(EPOCH_STEPS * EPOCHS)
    np.testing.assert_allclose(found, np.cos(np.pi * steps / (2 * EPOCH_STEPS * EPOCHS)) ** 2, rtol=1e-12)
    # an epoch more than there are: nothing, and not up again
    assert learning_rate_factor(ScheduleRule(name="cosine"), 10_000, EPOCH_STEPS, EPOCHS) == 0.0


@pytest.mark.parametrize("name", ["constant", "exponential", "cosine", "plateau"])
def test_warmup_is_torchs_linear_one_times_the_schedule(name: str) -> None:
    rule = ScheduleRule(name=name, factor=0.5, warmup_steps=5)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer(), start_factor=1 / 5, total_iters=4)
    without = factors(rule.model_copy(update={"warmup_steps": 0}))
    np.testing.assert_allclose(factors(rule), np.multiply(without, of_torch(scheduler)), rtol=1e-12)


@given(st.lists(st.sampled_from([math.nan, *range(6)]), max_size=40), st.integers(1, 4))
def test_plateau_is_torchs_with_one_more_of_patience(values: list[float], patience: int) -> None:
    # torch lowers the rate when there were more bad epochs than its patience, here when there are as many
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer(), factor=0.5, patience=patience - 1, threshold=0.0, eps=0.0
    )
    progress, rule = Progress(), ScheduleRule(name="plateau", factor=0.5, patience=patience)
    for value in values:
        plateau.step(value)
        progress.update(value, patience)
        found = learning_rate_factor(rule, 100, EPOCH_STEPS, EPOCHS, progress.drops)
        assert found == plateau.optimizer.param_groups[0]["lr"]


@given(st.lists(st.sampled_from([math.nan, *range(6)]), min_size=1, max_size=40))
def test_progress_knows_the_best_and_how_long_ago_it_was(values: list[float]) -> None:
    progress = Progress()
    better = [progress.update(value) for value in values]
    numbers = [value for value in values if not math.isnan(value)]
    assert progress.best == min(numbers, default=math.inf)
    if numbers:
        assert better.index(True) == next(n for n, value in enumerate(values) if not math.isnan(value))
        assert progress.since_best == len(values) - 1 - values.index(min(numbers))
    else:
        assert (any(better), progress.since_best) == (False, len(values))
    assert progress.drops == 0
