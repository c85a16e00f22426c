"""Streams of blocks."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import AudioError, BuildError
from separators.streams import Spool, cut, forked, in_step
from tests.separators.small_separators import blocks_of, noise

lengths = st.lists(st.integers(0, 30), max_size=12)


def blocks_of_lengths(audio: np.ndarray, parts: list[int]) -> list[np.ndarray]:
    return np.split(audio, np.cumsum(parts)[:-1], axis=-1) if parts else []


@given(lengths, st.integers(1, 40))
def test_cutting_keeps_every_frame(parts, frames) -> None:
    audio = noise(sum(parts))
    got = list(cut(blocks_of_lengths(audio, parts), frames))
    assert [block.shape[1] for block in got[:-1]] == [frames] * (len(got) - 1)
    assert all(0 < block.shape[1] <= frames for block in got)
    np.testing.assert_array_equal(np.concatenate([audio[:, :0], *got], axis=1), audio)


@given(lengths, st.integers(1, 40), st.integers(1, 40))
def test_streams_go_in_step(parts, second, third) -> None:
    audio = noise(sum(parts))
    streams = [blocks_of_lengths(audio, parts), blocks_of(audio, second), blocks_of(3 * audio, third)]
    seen = [audio[:, :0]]
    for a, b, c in in_step(streams):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(3 * a, c)
        seen.append(a)
    np.testing.assert_array_equal(np.concatenate(seen, axis=1), audio)


def test_a_stream_that_ends_early_is_no_stream_of_zeros() -> None:
    with pytest.raises(AudioError, match="number 1 ends at frame 60"):
        list(in_step([blocks_of(noise(70), 30), blocks_of(noise(60), 20)]))


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(0, 100))
def test_readers_of_a_fork_see_the_same_in_any_order(order, held_frames) -> None:
    audio = noise(400)
    readers = forked(blocks_of(audio, 30), 3, held_frames)
    seen: list[list[np.ndarray]] = [[], [], []]
    for number in order:
        if (block := next(readers[number], None)) is not None:
            seen[number].append(block)
    for blocks, reader in zip(seen, readers, strict=True):
        blocks.extend(reader)
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), audio)


def test_what_lags_far_behind_is_not_in_memory() -> None:
    fast, slow = forked(blocks_of(noise(1000), 10), 2, held_frames=50)
    assert sum(block.shape[1] for block in fast) == 1000
    first = [next(slow) for _ in range(5)]
    assert all(block.base is not None for block in first)
    # From here on a block is one that was read: nothing else refers to it.
    assert all(block.base is None for block in slow)


def test_a_spool_gives_back_what_was_put() -> None:
    blocks = [np.ones((2, 3, 5), np.float32), np.zeros((2, 3, 0), np.float32), noise(8)[None, :, ::2]]
    with Spool() as spool:
        places = [spool.put(block) for block in blocks]
        for _ in range(2):
            for got, block in zip(spool.blocks(), blocks, strict=True):
                np.testing.assert_array_equal(got, block)
        np.testing.assert_array_equal(spool.get(places[2]), blocks[2])


def test_a_full_disk_is_told() -> None:
    class Full:
        def seek(self, position):
            pass

        def close(self):
            pass

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with Spool() as spool:
        spool._file.close()
        spool._file = Full()
        with pytest.raises(BuildError, match=r"No space left on device.*TMPDIR"):
            spool.put(noise(5))
