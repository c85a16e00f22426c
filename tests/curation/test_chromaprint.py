"""Fingerprints: equal to Chromaprint's own, whatever the backend and however the audio arrives."""

from __future__ import annotations

import functools
import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import chromaprint
from curation.chromaprint import (
    HOP_FRAMES,
    SAMPLE_RATE,
    SILENCE,
    SPAN_FRAMES,
    Backend,
    PcmStream,
    available_backends,
    fingerprint,
    fingerprint_blocks,
    num_items,
    open_stream,
    to_pcm,
)
from manifests.errors import RecipeError, StemloomError

Pcm = npt.NDArray[np.int16]
NATIVE: tuple[Backend, ...] = ("library", "fpcalc")

# Made with libchromaprint 1.5.1 from `integer_music(140 * SAMPLE_RATE)`. No value behind its bits is within
# 1e-5 of a threshold.
GOLDEN_ITEMS = 1109
GOLDEN_START = [
    3871618539,
    3867163754,
    3854580858,
    3980410186,
    3980541514,
    3913431626,
    4186122826,
    4169150074,
]
GOLDEN_SHA256 = "65cccbc06801296eef519a8cc7768120276fdd4faa93590a8514d668dd4da994"


@functools.cache
def integer_music(frames: int) -> Pcm:
    """Decaying triangle waves in three voices over noise, with 5 s of silence, in integers only."""
    t = np.arange(frames, dtype=np.int64)
    step, within = np.divmod(t, 3307)
    fade = 3307 - within
    scale = np.array([200, 178, 159, 150, 134, 119, 106, 100, 89, 79, 67])
    music = np.zeros(frames, np.int64)
    for voice, (stride, shift) in enumerate(((7, 0), (11, 3), (13, 5))):
        period = scale[(step * stride // (voice + 2) + shift) % 11] // (voice + 1)
        music += (np.abs(2 * (t % period) - period) * 12000 // period - 6000) * fade // 3307
    noise = (t * 2654435761 + 12345) % 2**32
    noise = ((noise ^ (noise >> 15)) * 2246822519) % 2**32
    music += ((noise >> 16) % 1201 - 600) * (step % 5) // 4
    music[frames * 3 // 8 : frames * 3 // 8 + 60000] = 0
    return music.astype(np.int16)


def quantised(signal: npt.NDArray[np.float64]) -> Pcm:
    return np.clip(np.rint(signal * 32767), -32768, 32767).astype(np.int16)


def seconds(duration: float) -> npt.NDArray[np.float64]:
    return np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE


def noise(duration: float, level: float, seed: int = 1) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(int(duration * SAMPLE_RATE)) * level


def chords(duration: float) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(2)
    t = seconds(0.5)
    notes = []
    for _ in range(int(duration * 2)):
        pitches = 55 * 2 ** (rng.integers(0, 60, 4) / 12)
        notes.append(np.sin(2 * np.pi * np.outer(pitches, t)).sum(axis=0) * 0.2 * np.exp(-3 * t))
    return np.concatenate(notes)


SIGNALS: dict[str, Callable[[], Pcm]] = {
    "integer music": lambda: integer_music(30 * SAMPLE_RATE),
    "chords": lambda: quantised(chords(60)),
    "chords in noise, longer than a block": lambda: quantised(chords(140) + noise(140, 0.02)[: 140 * 2 * 5512]),
    "white noise": lambda: quantised(noise(40, 0.1)),
    "clipped noise": lambda: quantised(noise(30, 5.0)),
    "noise around the silence threshold": lambda: quantised(noise(30, 10**-4.1)),
    "one bit of dither": lambda: np.random.default_rng(3).integers(-1, 2, 20 * SAMPLE_RATE).astype(np.int16),
    "tone": lambda: quantised(0.5 * np.sin(2 * np.pi * 440 * seconds(20))),
    "full-scale square wave": lambda: quantised(np.sign(np.sin(2 * np.pi * 313.7 * seconds(20)))),
    "rising chirp": lambda: quantised(0.5 * np.sin(2 * np.pi * (30 * seconds(30) + 55 * seconds(30) ** 2))),
    "bursts between silences": lambda: quantised(noise(40, 0.1) * (seconds(40) % 7 < 2)),
    "impulses": lambda: quantised((np.arange(20 * SAMPLE_RATE) % 4999 == 0) * 0.9),
    "silence": lambda: np.zeros(10 * SAMPLE_RATE, np.int16),
    "direct current": lambda: np.full(10 * SAMPLE_RATE, 9000, np.int16),
    "shortest clip": lambda: quantised(chords(5))[:SPAN_FRAMES],
}


def require(backend: Backend) -> None:
    if backend not in available_backends():
        pytest.skip(f"backend {backend!r} is not installed here")


def test_numpy_reproduces_the_items_that_the_native_library_made() -> None:
    items = fingerprint(integer_music(140 * SAMPLE_RATE), "numpy")
    assert items.dtype == np.uint32
    assert items.size == GOLDEN_ITEMS
    assert items[:8].tolist() == GOLDEN_START
    assert hashlib.sha256(items.astype("<u4").tobytes()).hexdigest() == GOLDEN_SHA256


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("signal", SIGNALS)
def test_native_backends_agree_with_numpy_in_every_bit(backend: Backend, signal: str) -> None:
    require(backend)
    pcm = SIGNALS[signal]()
    items = fingerprint(pcm, "numpy")
    assert items.size > 0
    np.testing.assert_array_equal(fingerprint(pcm, backend), items)


@pytest.mark.parametrize("backend", ["numpy", *NATIVE])
@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (0, 0),
        (1, 0),
        (4096, 0),
        (SPAN_FRAMES - 1, 0),
        (SPAN_FRAMES, 1),
        (SPAN_FRAMES + 1364, 1),
        (SPAN_FRAMES + 1365, 2),
    ],
)
def test_number_of_items_follows_from_the_number_of_frames(backend: Backend, frames: int, expected: int) -> None:
    require(backend)
    items = fingerprint(integer_music(frames), backend)
    assert items.dtype == np.uint32
    assert items.shape == (expected,)
    assert num_items(frames) == expected


def test_silence_is_one_known_item() -> None:
    assert set(fingerprint(np.zeros(60 * SAMPLE_RATE, np.int16)).tolist()) == {SILENCE}


@settings(max_examples=20, deadline=None)
@given(items=st.integers(0, 60), rest=st.integers(0, HOP_FRAMES - 1))
def test_cutting_whole_hops_off_the_start_cuts_as_many_items(items: int, rest: int) -> None:
    pcm = integer_music(12 * SAMPLE_RATE + rest)
    np.testing.assert_array_equal(fingerprint(pcm[items * HOP_FRAMES :]), fingerprint(pcm)[items:])


@pytest.mark.parametrize("backend", ["numpy", *NATIVE])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_fingerprint_does_not_depend_on_how_the_pcm_arrives(backend: Backend, data: st.DataObject) -> None:
    require(backend)
    pcm = integer_music(140 * SAMPLE_RATE if backend == "numpy" else 10 * SAMPLE_RATE)
    cuts = sorted(data.draw(st.lists(st.integers(0, pcm.size), max_size=6)))
    stream = open_stream(backend)
    for block in np.split(pcm, cuts):
        stream.add(block)
    np.testing.assert_array_equal(stream.finish(), fingerprint(pcm, "numpy"))


def test_stream_takes_buffers_that_are_used_again() -> None:
    pcm = integer_music(8 * SAMPLE_RATE)
    stream = open_stream("numpy")
    buffer = np.empty(SAMPLE_RATE, np.int16)
    for second in pcm.reshape(8, SAMPLE_RATE):
        buffer[:] = second
        stream.add(buffer)
    np.testing.assert_array_equal(stream.finish(), fingerprint(pcm))


def test_memory_does_not_grow_with_the_length() -> None:
    minute = integer_music(60 * SAMPLE_RATE)

    def peak(minutes: int) -> int:
        stream = open_stream("numpy")
        tracemalloc.start()
        for _ in range(minutes):
            stream.add(minute)
        stream.finish()
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    assert peak(24) < peak(6) * 1.05


class TestPcm:
    def test_pcm_of_11025_hz_mono_comes_back_unchanged(self) -> None:
        pcm = np.arange(-32768, 32768).astype(np.int16)
        audio = (pcm[None, :] / 32768).astype(np.float32)
        np.testing.assert_array_equal(to_pcm(audio, SAMPLE_RATE), pcm)

    @pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000, 96000])
    def test_tone_keeps_its_time_frequency_and_level(self, sample_rate: int) -> None:
        duration = 2
        t = np.arange(duration * sample_rate) / sample_rate
        tone = (0.5 * np.sin(2 * np.pi * 997 * t)).astype(np.float32)[None, :]
        pcm = to_pcm(tone, sample_rate)
        assert pcm.dtype == np.int16
        assert pcm.shape == (duration * SAMPLE_RATE,)
        expected = 16384 * np.sin(2 * np.pi * 997 * seconds(duration))
        inner = slice(200, -200)
        np.testing.assert_allclose(pcm[inner], expected[inner], atol=1.0)

    def test_channels_are_averaged(self) -> None:
        stereo = np.array([[0.5, 0.25, -1.0], [0.25, -0.25, -1.0]], np.float32)
        assert to_pcm(stereo, SAMPLE_RATE).tolist() == [12288, 0, -32768]

    def test_beyond_full_scale_clips_instead_of_wrapping(self) -> None:
        assert to_pcm(np.array([[2.0, -2.0, 1.0]], np.float32), SAMPLE_RATE).tolist() == [
            32767,
            -32768,
            32767,
        ]

    @settings(max_examples=15, deadline=None)
    @given(
        sample_rate=st.sampled_from([11025, 22050, 44100, 48000]),
        cuts=st.lists(st.integers(0, 200_000), max_size=6).map(sorted),
    )
    def test_pcm_does_not_depend_on_the_size_of_the_blocks(self, sample_rate: int, cuts: list[int]) -> None:
        audio = np.random.default_rng(4).uniform(-1, 1, (2, 200_000)).astype(np.float32)
        stream = PcmStream(sample_rate)
        parts = [stream.add(block) for block in np.split(audio, cuts, axis=1)]
        np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()]), to_pcm(audio, sample_rate))

    def test_fingerprint_of_blocks_is_that_of_the_whole(self) -> None:
        audio = np.random.default_rng(5).uniform(-0.3, 0.3, (2, 6 * 44100)).astype(np.float32)
        whole = fingerprint(to_pcm(audio, 44100))
        assert whole.size == num_items(6 * SAMPLE_RATE)
        blocks = np.split(audio, [1, 5000, 100_000], axis=1)
        np.testing.assert_array_equal(fingerprint_blocks(iter(blocks), 44100), whole)

    @pytest.mark.parametrize("shape", [(100,), (0, 100), (1, 2, 100)])
    def test_wrong_shapes_are_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"expected \(channels, frames\)"):
            to_pcm(np.zeros(shape, np.float32), 44100)

    def test_sample_rate_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="sample_rate is 0"):
            PcmStream(0)


class TestBackends:
    @pytest.mark.parametrize("backend", ["numpy", *NATIVE])
    @pytest.mark.parametrize("pcm", [np.zeros(9, np.float32), np.zeros((1, 9), np.int16)])
    def test_what_is_no_pcm_is_refused(self, backend: Backend, pcm: Pcm) -> None:
        require(backend)
        with pytest.raises(ValueError, match=r"expected int16 of shape \(frames,\)"):
            fingerprint(pcm, backend)

    def test_unknown_backend_names_the_known_ones(self) -> None:
        with pytest.raises(RecipeError, match=r"'sox' does not exist; .*'library'"):
            fingerprint(np.zeros(9, np.int16), "sox")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("backend", "package"), [("library", "libchromaprint1"), ("fpcalc", "libchromaprint-tools")]
    )
    def test_missing_backend_says_what_to_install(
        self, backend: Backend, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chromaprint, "_library", lambda: None)
        monkeypatch.setenv("PATH", "")
        assert available_backends() == ("numpy",)
        with pytest.raises(RecipeError, match=package):
            fingerprint(np.zeros(9, np.int16), backend)

    @pytest.mark.skipif(os.name != "posix", reason="stands in for fpcalc with a shell script")
    @pytest.mark.parametrize("code", [0, 3])
    def test_fpcalc_may_take_the_end_of_the_file_for_an_error(
        self, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in(tmp_path, f"cat > /dev/null; echo 7,4294967295; exit {code}", monkeypatch)
        assert fingerprint(np.ones(SPAN_FRAMES, np.int16), "fpcalc").tolist() == [7, 2**32 - 1]

    @pytest.mark.skipif(os.name != "posix", reason="stands in for fpcalc with a shell script")
    def test_failing_fpcalc_is_reported_with_its_message(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stand_in(tmp_path, "cat > /dev/null; echo 'no such codec' >&2; exit 2", monkeypatch)
        with pytest.raises(StemloomError, match=r"exited with 2: no such codec"):
            fingerprint(np.ones(SPAN_FRAMES, np.int16), "fpcalc")


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "fpcalc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
