"""Plans that scaper draws, against scaper's own soundscapes."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.render import render
from augment.scaper import plans_of_scaper, scaper_roots
from manifests.crops import CropReader
from tests.augment.soundscapes import RATE, numpy_1_names, scape, sound_folders

__all__ = ["numpy_1_names"]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    return sound_folders(tmp_path)


def state(*key: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))


@pytest.mark.usefixtures("numpy_1_names")
@pytest.mark.parametrize("peak_normalization", [False, True])
def test_mixtures_are_those_that_scaper_generates(roots: dict[str, Path], peak_normalization: bool) -> None:
    plans = list(
        plans_of_scaper(
            scape(roots, channels=2), 3, seed=11, epoch=2, start=5, peak_normalization=peak_normalization
        )
    )
    assert [(plan.seed, plan.epoch, plan.index) for plan in plans] == [(11, 2, 5), (11, 2, 6), (11, 2, 7)]
    for plan in plans:
        made = scape(roots, state(11, 2, plan.index), channels=2)
        audio = made.generate(peak_normalization=peak_normalization)[0]
        with CropReader(roots) as reader:
            assert np.abs(render(plan, reader).mixture - audio.T).max() < 1e-6


def test_a_mixture_depends_on_its_number_only(roots: dict[str, Path]) -> None:
    made = scape(roots)
    before = copy.deepcopy((made.fg_spec, made.bg_spec, made.random_state.get_state()[1].tolist()))
    plans = list(plans_of_scaper(made, 6, seed=1))
    assert [next(plans_of_scaper(made, 1, seed=1, start=index)) for index in (5, 2)] == [plans[5], plans[2]]
    assert (made.fg_spec, made.bg_spec, made.random_state.get_state()[1].tolist()) == before
    assert len({plan.events for plan in plans_of_scaper(made, 6, seed=2)} | {plan.events for plan in plans}) == 12


def test_distributions_are_scapers(roots: dict[str, Path]) -> None:
    made = scape(roots, background=None, num_events=1)
    plans = list(plans_of_scaper(made, 60, targets="role"))
    events = [event for plan in plans for event in plan.events]
    assert len(events) == 60
    share = np.mean([event.stem == "siren" for event in events])
    assert share == pytest.approx(0.7, abs=4 * np.sqrt(0.7 * 0.3 / 60))
    # the shortest file is shorter than the distribution's upper end, the soundscape longer
    assert {event.num_frames for event in events if event.path == "dog/short.wav"} <= set(
        range(1600, RATE * 2 // 7 + 1)
    )
    assert all(0 <= event.offset_frame <= 4 * RATE - event.length_frames for event in events)


def test_repeats_may_be_ruled_out(roots: dict[str, Path]) -> None:
    made = scape(roots, num_events=2)
    for plan in plans_of_scaper(made, 8, allow_repeated_label=False):
        assert len({event.stem for event in plan.events}) == 3
    for plan in plans_of_scaper(made, 8, allow_repeated_source=False):
        assert len({event.path for event in plan.events}) == 3


def test_targets_and_roots_are_as_asked_for(roots: dict[str, Path]) -> None:
    made = scape(roots)
    assert scaper_roots(made) == roots
    (plan,) = plans_of_scaper(made, 1, targets="role")
    assert plan.targets == ("background", "foreground")
    assert {event.root for event in plan.events} == {"background", "foreground"}
    (other,) = plans_of_scaper(made, 1, targets="role", roots={"sounds": roots["foreground"].parent})
    assert [event.path for event in other.events] == [f"{event.root}/{event.path}" for event in plan.events]


def test_numpy_is_left_as_it_is(roots: dict[str, Path]) -> None:
    scaper: Any = pytest.importorskip("scaper")
    had = hasattr(np, "Inf")
    made = scape(roots)
    (plan,) = plans_of_scaper(made, 1)
    assert hasattr(np, "Inf") == had
    assert scaper.core.np is np
    assert "_instantiate_event" not in vars(made)
    assert dataclasses.replace(plan, seed=0) == plan
