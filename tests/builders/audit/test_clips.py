"""What is heard and seen is what the files hold: clips, nudges, peaks, spectrograms; what is kept of them."""

from __future__ import annotations

import io
import itertools
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from builders.audit.clips import clip, peaks, spectrogram, wav
from builders.audit.songs import Part, Track
from builders.audit.store import Store
from manifests.audio import Audio, read, write
from manifests.errors import AudioError
from tests.synthesis import pink_noise, tone

RATE = 44100
FRAMES = 40_000


def track_of(path: Path, audio: Audio, *, is_nudged: bool = False) -> Track:
    write(path, audio, RATE)
    frames = audio.shape[1]
    return Track(path.stem, (Part(path, frames, 1.0, is_nudged),), (path.stem,), frames, RATE, len(audio))


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Track:
    audio = pink_noise(np.random.default_rng(0), 2, FRAMES)
    return track_of(tmp_path_factory.mktemp("noise") / "noise.flac", audio, is_nudged=True)


@pytest.fixture(scope="module")
def held(noise: Track) -> Audio:
    return read(noise.parts[0].path)[0]


class TestClips:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, FRAMES + 500), st.integers(1, 5000))
    def test_exactly_these_frames_and_silence_beyond_the_end(
        self, noise: Track, held: Audio, start: int, count: int
    ) -> None:
        wanted = np.pad(held, ((0, 0), (0, 10_000)))[:, start : start + count]
        assert np.array_equal(clip(noise, start, count), wanted)

    def test_the_file_is_a_wav_of_the_same_floats(self, held: Audio) -> None:
        data = wav(held[:, :1000], RATE)
        found, rate = soundfile.read(io.BytesIO(data), dtype="float32")
        assert rate == RATE
        assert np.array_equal(found.T, held[:, :1000])
        info = soundfile.info(io.BytesIO(data))
        assert (info.subtype, info.frames) == ("FLOAT", 1000)

    def test_a_file_that_ends_early_is_an_error(self, noise: Track) -> None:
        part = noise.parts[0]
        longer = Track("x", (Part(part.path, FRAMES + 9, 1.0, False),), ("x",), FRAMES + 9, RATE, 2)
        with pytest.raises(AudioError):
            clip(longer, FRAMES - 10, 19)


class TestNudges:
    @settings(max_examples=15, deadline=None)
    @given(st.floats(-40, 40), st.floats(50, 20_500))
    def test_a_tone_is_delayed_as_its_phase_says(
        self, tmp_path_factory: pytest.TempPathFactory, nudge: float, hertz: float
    ) -> None:
        path = tmp_path_factory.mktemp("tone") / "tone.wav"
        track = track_of(path, tone(hertz, 6000, RATE, amplitude=0.5), is_nudged=True)
        found = clip(track, 2000, 2000, nudge)
        wanted = 0.5 * np.sin(2 * np.pi * hertz * (np.arange(2000, 4000) - nudge) / RATE)
        # the file has 24 bits
        assert np.abs(found - wanted).max() < 1e-4

    def test_whole_frames_are_exact(self, noise: Track, held: Audio) -> None:
        assert np.array_equal(clip(noise, 1000, 500, 3.0), held[:, 997:1497])
        assert np.array_equal(clip(noise, 1000, 500, -3.0), held[:, 1003:1503])
        assert np.array_equal(clip(noise, 0, 4, 3.0), np.pad(held[:, :1], ((0, 0), (3, 0))))

    def test_clips_that_follow_each_other_join_without_a_seam(self, noise: Track) -> None:
        whole = clip(noise, 5000, 9000, 0.37)
        parts = [clip(noise, start, 1000, 0.37) for start in range(5000, 14_000, 1000)]
        assert np.abs(np.concatenate(parts, axis=1) - whole).max() < 1e-6

    def test_what_is_not_the_instrumental_stays(self, noise: Track, held: Audio) -> None:
        part = noise.parts[0]
        fixed = Track("x", (Part(part.path, FRAMES, 1.0, False),), ("x",), FRAMES, RATE, 2)
        assert np.array_equal(clip(fixed, 100, 50, 0.5), held[:, 100:150])

    def test_a_difference_nudged_to_where_it_belongs_is_silent(self, noise: Track) -> None:
        part = noise.parts[0]
        path = part.path.with_name("late.flac")
        write(path, clip(noise, 0, FRAMES, 0.25), RATE)
        parts = (Part(path, FRAMES, 1.0, False), Part(part.path, FRAMES, -1.0, True))
        difference = Track("difference", parts, ("a", "b"), FRAMES, RATE, 2)
        levels = {nudge: np.sqrt(np.mean(clip(difference, 1000, 30_000, nudge) ** 2)) for nudge in (0.0, 0.25)}
        assert levels[0.25] < 1e-6 < 1e-3 < levels[0.0]


class TestPeaks:
    @pytest.mark.parametrize("bins", [1, 7, 400, 4000])
    def test_lowest_and_highest_sample_of_each_bin(self, noise: Track, held: Audio, bins: int) -> None:
        found = np.frombuffer(peaks(noise, bins), np.int8).reshape(bins, 2)
        edges = np.arange(bins + 1) * FRAMES // bins
        wanted = [(held[:, a:b].min(), held[:, a:b].max()) for a, b in itertools.pairwise(edges)]
        assert np.array_equal(found, np.rint(127 * np.array(wanted)))

    @pytest.mark.parametrize(("frames", "bins"), [(700_000, 13), (1 << 19, 2), (1 << 19, 6), ((1 << 18) + 1, 4)])
    def test_files_longer_than_a_block(self, tmp_path: Path, frames: int, bins: int) -> None:
        audio = pink_noise(np.random.default_rng(1), 1, frames)
        track = track_of(tmp_path / "long.wav", audio)
        held, _ = read(tmp_path / "long.wav")
        found = np.frombuffer(peaks(track, bins), np.int8).reshape(bins, 2)
        edges = np.arange(bins + 1) * frames // bins
        wanted = [(held[:, a:b].min(), held[:, a:b].max()) for a, b in itertools.pairwise(edges)]
        assert np.array_equal(found, np.rint(127 * np.array(wanted)))

    def test_more_bins_than_frames(self, tmp_path: Path) -> None:
        track = track_of(tmp_path / "short.wav", np.full((2, 3), 0.5, np.float32))
        found = np.frombuffer(peaks(track, 10), np.int8).reshape(10, 2)
        assert (found == 64).all()

    def test_beyond_full_scale_is_full_scale(self, tmp_path: Path) -> None:
        path = tmp_path / "loud.wav"
        soundfile.write(path, np.array([[2.0], [-2.0]]), RATE, subtype="FLOAT")
        track = Track("loud", (Part(path, 2, 1.0, False),), ("loud",), 2, RATE, 1)
        assert np.frombuffer(peaks(track, 1), np.int8).tolist() == [-127, 127]

    def test_of_a_sum_it_is_the_sums(self, noise: Track, held: Audio) -> None:
        part = noise.parts[0]
        twice = Track("x", (part, part), ("x", "x"), FRAMES, RATE, 2)
        found = np.frombuffer(peaks(twice, 1), np.int8)
        assert found.tolist() == np.rint(127 * np.clip([2 * held.min(), 2 * held.max()], -1, 1)).tolist()


class TestSpectrograms:
    def picture(self, track: Track, *span: int) -> np.ndarray:
        """Shades, 0 to 63, the highest frequency first."""
        image = Image.open(io.BytesIO(spectrogram(track, *span)))
        assert image.mode == "P"
        return np.asarray(image)

    @pytest.mark.parametrize("hertz", [200.0, 1000.0, 8000.0])
    @pytest.mark.parametrize("amplitude", [1.0, 0.01])
    def test_a_tone_is_a_line_at_its_pitch_and_its_level(
        self, tmp_path: Path, hertz: float, amplitude: float
    ) -> None:
        track = track_of(tmp_path / "tone.wav", tone(hertz, RATE, RATE, amplitude=0.999 * amplitude))
        shades = self.picture(track, 0, RATE, 50, 128)
        assert shades.shape == (128, 50)
        row = int(shades[:, 25].argmax())
        mel = 2595 * np.log10(1 + np.array([30, hertz, RATE / 2]) / 700)
        place = (mel[2] - mel[1]) / (mel[2] - mel[0]) * 128
        assert abs(row + 0.5 - place) < 1.6
        level_db = (shades[row, 25] / 63 - 1) * 80
        assert level_db == pytest.approx(20 * np.log10(amplitude), abs=3.5)

    def test_time_runs_from_left_to_right(self, tmp_path: Path) -> None:
        audio = np.concatenate([np.zeros((2, RATE), np.float32), tone(1000, RATE, RATE)], axis=1)
        shades = self.picture(track_of(tmp_path / "late.wav", audio), 0, 2 * RATE, 100, 64)
        assert shades[:, :48].max() == 0
        assert (shades[:, 52:].max(axis=0) > 50).all()

    def test_a_window_of_it_is_that_part(self, tmp_path: Path) -> None:
        audio = np.concatenate([np.zeros((2, RATE), np.float32), tone(1000, RATE, RATE)], axis=1)
        track = track_of(tmp_path / "late.wav", audio)
        shades = self.picture(track, RATE - 4000, 8000, 80, 64)
        assert shades[:, :29].max() < 30
        assert (shades[:, 52:].max(axis=0) > 50).all()

    def test_silence_is_dark_and_channels_do_not_cancel(self, tmp_path: Path) -> None:
        silent = track_of(tmp_path / "silent.wav", np.zeros((2, RATE), np.float32))
        assert self.picture(silent, 0, RATE, 20, 20).max() == 0
        audio = tone(1000, RATE, RATE) * np.array([[1], [-1]], np.float32)
        assert self.picture(track_of(tmp_path / "side.wav", audio), 0, RATE, 20, 20).max() > 50

    @pytest.mark.parametrize("span", [(0, 10, 300, 40), (0, RATE, 1, 1), (RATE - 1, 1, 3, 3)])
    def test_odd_sizes(self, tmp_path: Path, span: tuple[int, int, int, int]) -> None:
        track = track_of(tmp_path / "tone.wav", tone(500, RATE, RATE, channels=1))
        assert self.picture(track, *span).shape == (span[3], span[2])


class TestStore:
    def test_what_was_computed_is_not_computed_again(self, tmp_path: Path) -> None:
        store, made = Store(tmp_path), []

        def make() -> bytes:
            made.append(1)
            return b"clip"

        for _ in range(3):
            assert store.get(make, "clip", ("a",), 5) == b"clip"
        assert store.get(make, "clip", ("b",), 5) == b"clip"
        assert Store(tmp_path).get(make, "clip", ("a",), 5) == b"clip"
        assert len(made) == 2

    def test_the_longest_unused_go_first(self, tmp_path: Path) -> None:
        store = Store(tmp_path, max_bytes=1000)
        for number in range(10):
            store.get(lambda: bytes(95), number)
            for path in tmp_path.glob("??/*"):  # an hour earlier each
                found = path.stat()
                os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 3_600_000_000_000))
        store.get(lambda: b"", 0)  # used again
        store.get(lambda: bytes(95), "more")
        assert sum(path.stat().st_size for path in tmp_path.glob("??/*")) <= 1000
        kept = [number for number in range(10) if store.get(lambda: b"", number) == bytes(95)]
        assert 0 in kept
        assert 1 not in kept

    def test_a_disk_that_refuses_costs_the_keeping_only(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").write_text("no folder")
        with caplog.at_level(logging.WARNING):
            assert Store(tmp_path / "file").get(lambda: b"clip", 1) == b"clip"
        assert "nothing can be kept" in caplog.text
