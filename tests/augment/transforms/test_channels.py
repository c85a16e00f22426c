from __future__ import annotations

import numpy as np
import pytest

from augment.transforms.channels import ShuffleChannels, Sign, Swap
from augment.transforms.rule import Scene


def counted(channels: int) -> np.ndarray:
    return np.arange(2 * channels * 3, dtype=np.float32).reshape(2, channels, 3)


def test_swap_exchanges_left_and_right_and_leaves_the_rest() -> None:
    for channels, order in ((1, [0]), (2, [1, 0]), (4, [1, 0, 2, 3])):
        np.testing.assert_array_equal(Swap.apply(counted(channels), 8000), counted(channels)[:, order])


def test_swap_and_sign_are_a_toss_by_default() -> None:
    assert (Swap().p, Sign().p) == (0.5, 0.5)


def test_sign_turns_all_targets_over() -> None:
    np.testing.assert_array_equal(Sign.apply(counted(2), 8000), -counted(2))


def test_shuffled_channels_are_the_same_channels_in_the_drawn_order() -> None:
    drawn = ShuffleChannels().draw(np.random.default_rng(1), Scene(3, 8000, 6))
    assert sorted(drawn["order"]) == list(range(6))
    np.testing.assert_array_equal(ShuffleChannels.apply(counted(6), 8000, **drawn), counted(6)[:, drawn["order"]])


def test_every_order_of_three_channels_is_as_likely() -> None:
    rng = np.random.default_rng(0)
    orders = [tuple(ShuffleChannels().draw(rng, Scene(3, 8000, 3))["order"]) for _ in range(3000)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 400


def test_an_order_passes_over_channels_that_are_not_there_and_refuses_more() -> None:
    np.testing.assert_array_equal(ShuffleChannels.apply(counted(2), 8000, order=[2, 1, 0]), counted(2)[:, [1, 0]])
    with pytest.raises(ValueError, match="3 channels"):
        ShuffleChannels.apply(counted(3), 8000, order=[1, 0])
