"""Overlap-add."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import AudioError, RecipeError
from separators.network import Network, NetworkConfig
from separators.overlap_add import NetworkSeparator, overlap_add, segment_weights
from separators.separator import Separator, separate
from tests.separators.small_networks import noise, open_unmix, seeded

SEGMENT = 64


class Echo(Network):
    """Gives the mixture, its negative and a smoothed copy; notes what it was given."""

    def __init__(self, segment_frames: int = SEGMENT) -> None:
        config = NetworkConfig(
            sample_rate=100, channels=2, sources=("same", "negative", "smooth"), segment_frames=segment_frames
        )
        super().__init__(config)
        self.smooth = torch.nn.Conv1d(2, 2, 9, padding=4, bias=False)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.seen.append(tuple(mixture.shape))
        return torch.stack([mixture, -mixture, self.smooth(mixture)], dim=1)


def audio(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def separator(**changes) -> NetworkSeparator:
    torch.manual_seed(0)
    return NetworkSeparator(**{"network": Echo(), "name": "echo", **changes})


LENGTHS = [1, 2, 15, 16, 47, 48, 63, 64, 65, 95, 96, 97, 111, 112, 113, 127, 128, 129, 500]


@pytest.mark.parametrize("window", ["triangle", "hann", "flat"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6, 0.99])
def test_what_does_not_depend_on_the_place_comes_out_exactly(window, overlap) -> None:
    for frames in LENGTHS:
        for batch_size, shifts in ((1, 1), (3, 1), (2, 3)):
            mixture = audio(frames)
            sources = separate(
                separator(overlap=overlap, window=window, batch_size=batch_size, shifts=shifts), mixture
            )
            assert sources.shape == (3, 2, frames)
            assert sources.dtype == np.float32
            np.testing.assert_allclose(sources[0], mixture, rtol=1e-6, atol=1e-7)
            np.testing.assert_array_equal(sources[1], -sources[0])


def test_segments_are_full_batched_and_no_more_than_needed() -> None:
    stream = separator(overlap=0.25, batch_size=3)
    separate(stream, audio(SEGMENT + 48 * 5 + 1))
    # starts 0, 48 ... 240 and the one that ends the audio
    assert stream.network.seen == [(3, 2, SEGMENT), (3, 2, SEGMENT), (1, 2, SEGMENT)]
    stream.network.seen.clear()
    separate(stream, audio(SEGMENT))
    assert stream.network.seen == [(1, 2, SEGMENT)]


def test_a_network_that_looks_around_is_exact_where_one_segment_sees_enough() -> None:
    mixture = audio(400)
    stream = separator(overlap=0.0)
    got = separate(stream, mixture)[2]
    with torch.no_grad():
        whole = stream.network.smooth(torch.from_numpy(mixture)[None])[0].numpy()
    # Segments start at 0, 64 ... 320 and 336; the convolution looks 4 frames around.
    seams = np.array([64, 128, 192, 256, 320])
    near = (np.abs(np.arange(400)[:, None] + 0.5 - seams) < 4).any(axis=1) | (np.arange(400) >= 332)
    np.testing.assert_allclose(got[:, ~near], whole[:, ~near], atol=1e-6)
    assert np.abs(got - whole)[:, near].max() > 1e-3
    np.testing.assert_allclose(got[:, 396:], whole[:, 396:], atol=1e-6)


def test_overlap_lessens_what_the_edges_of_segments_do() -> None:
    mixture = audio(1000)

    def error(**changes) -> float:
        stream = separator(**changes)
        with torch.no_grad():
            whole = stream.network.smooth(torch.from_numpy(mixture)[None])[0].numpy()
        return float(np.square(separate(stream, mixture)[2] - whole).mean())

    assert error(overlap=0.25) < 0.3 * error(overlap=0.0)
    assert error(overlap=0.0, shifts=4) < 0.4 * error(overlap=0.0)


def test_the_result_is_the_weighted_mean_of_the_segments() -> None:
    frames, segment, hop = 205, 60, 25
    mixture = audio(frames, 1)
    rng = np.random.default_rng(1)
    gains = {start: rng.uniform(0.5, 2) for start in [*range(0, frames - segment, hop), frames - segment]}

    def function(segments, start):
        return np.stack([part * gains[start + number * hop] for number, part in enumerate(segments)])

    got = np.concatenate(list(overlap_add([mixture], function, segment_frames=segment, hop_frames=hop)), axis=-1)
    above, below = np.zeros(frames), np.zeros(frames)
    weights = segment_weights("triangle", segment)
    for start, gain in gains.items():
        above[start : start + segment] += gain * weights
        below[start : start + segment] += weights
    # What was given before the last segment was known does not hear of it.
    final = 150
    np.testing.assert_allclose(got[0, final:], (above / below * mixture[0])[final:], rtol=1e-5)
    np.testing.assert_allclose(got[0, :145], (above / below * mixture[0])[:145], rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 90), min_size=1, max_size=12),
    batch_size=st.integers(1, 3),
    shifts=st.integers(1, 2),
)
def test_how_the_blocks_are_cut_changes_nothing(cuts, batch_size, shifts) -> None:
    mixture = audio(sum(cuts) + 1)
    stream = NetworkSeparator(
        network=seeded(lambda: open_unmix(segment_frames=96)), batch_size=batch_size, shifts=shifts
    )
    bounds = np.cumsum([0, *cuts, 1])
    blocks = [mixture[:, start:stop] for start, stop in itertools.pairwise(bounds)]
    got = np.concatenate(list(stream.stream(iter(blocks))), axis=2)
    np.testing.assert_array_equal(got, separate(stream, mixture))


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 1200), hop=st.integers(20, 64), batch_size=st.integers(2, 9))
def test_how_many_segments_are_taken_at_once_changes_nothing(frames: int, hop: int, batch_size: int) -> None:
    mixture = audio(frames)
    ramp = np.arange(SEGMENT, dtype=np.float32)
    found = [
        np.concatenate(
            [
                *overlap_add(
                    iter([mixture]),
                    lambda segments, start: segments * ramp,
                    segment_frames=SEGMENT,
                    hop_frames=hop,
                    batch_size=size,
                )
            ],
            axis=1,
        )
        for size in (1, batch_size)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_what_is_held_does_not_grow_with_the_audio() -> None:
    stream = separator(batch_size=2, shifts=2)
    taken = given_back = 0

    def endless():
        nonlocal taken
        while True:
            taken += 7
            yield audio(7)

    for block in stream.stream(endless()):
        given_back += block.shape[2]
        assert taken - given_back < 4 * SEGMENT
        if taken > 100 * SEGMENT:
            break


def test_nan_out_of_a_network_names_separator_and_time() -> None:
    stream = separator(overlap=0.0)
    mixture = audio(300)
    mixture[1, 150] = np.nan
    with pytest.raises(AudioError, match=r"echo: gives NaN or infinity for the audio from 1\.28 s on"):
        separate(stream, mixture)


class Crammed(Echo):
    """Has memory for so many segments only."""

    holds = 2

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        if len(mixture) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(mixture)


def test_a_full_memory_gets_fewer_segments_and_the_same_sources() -> None:
    mixture = audio(1000)
    crammed = separator(network=Crammed(), batch_size=7)
    np.testing.assert_array_equal(separate(crammed, mixture)[:2], separate(separator(batch_size=7), mixture)[:2])
    assert max(shape[0] for shape in crammed.network.seen) <= 2
    crammed.network.holds = 0
    with pytest.raises(AudioError, match=r"memory of cpu does not hold a segment of 0\.6 s \(CUDA out of memory"):
        separate(crammed, mixture)


def test_a_mixture_that_does_not_fit_is_refused() -> None:
    with pytest.raises(AudioError, match=r"shape \(2, frames\), not \(1, 50\)"):
        separate(separator(), audio(50, 1))
    with pytest.raises(AudioError, match="0 frames"):
        separate(separator(), audio(0))
    for wrong in ({"overlap": 1.0}, {"overlap": -0.1}, {"shifts": 0}, {"batch_size": 0}, {"segment_frames": 0}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            separator(**wrong)
    with pytest.raises(RecipeError, match="did you mean 'hann'"):
        separator(window="han")


def test_identity_is_of_what_changes_the_result() -> None:
    same = separator()
    assert isinstance(same, Separator)
    assert same.identity == separator(batch_size=5, name="other").identity
    changed = [{"overlap": 0.5}, {"shifts": 2}, {"window": "hann"}, {"segment_frames": 80}]
    assert len({same.identity, *(separator(**change).identity for change in changed)}) == 5
    network = seeded(open_unmix)
    before = NetworkSeparator(network=network).identity
    assert before == NetworkSeparator(network=network).identity
    assert before != NetworkSeparator(network=seeded(open_unmix, 1)).identity


def test_a_short_mixture_is_as_if_zeros_followed() -> None:
    network = seeded(lambda: open_unmix(segment_frames=1000)).eval()
    mixture = noise(1, 300)[0].numpy()
    padded = np.pad(mixture, ((0, 0), (0, 700)))
    with torch.no_grad():
        wanted = network(torch.from_numpy(padded)[None])[0].numpy()
    got = separate(NetworkSeparator(network=network), mixture)
    np.testing.assert_allclose(got, wanted[..., :300], rtol=1e-5, atol=1e-7)
