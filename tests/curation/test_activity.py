"""Level curves against closed forms, activity on planted silence, salience against the paper, step by step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.activity import (
    SALIENT_STEP_S,
    SILENCE_LEVEL_DB,
    LevelCurve,
    LevelMeter,
    active_fraction,
    active_steps,
    level_curve,
    salient_segments,
)
from manifests.errors import AudioError, RecipeError
from tests.synthesis import Audio, pink_noise, tone

RATE = 8000


def curve_of(*energies: float, step_frames: int = 10, num_frames: int | None = None) -> LevelCurve:
    frames = len(energies) * step_frames if num_frames is None else num_frames
    return LevelCurve(np.array(energies, np.float64), step_frames, frames, RATE, 1)


def in_levels(*levels_db: float, rng: np.random.Generator | None = None) -> Audio:
    """A second of stereo noise at each level (mean power)."""
    noise = (rng or np.random.default_rng(0)).standard_normal((2, len(levels_db), RATE))
    noise *= 10 ** (np.array(levels_db) / 20)[:, None] / np.sqrt(np.square(noise).mean(axis=(0, 2)))[:, None]
    return noise.reshape(2, -1).astype(np.float32)


class TestLevelCurve:
    def test_of_a_sine_is_known(self) -> None:
        curve = level_curve([tone(100.0, 3 * RATE, RATE, amplitude=0.5)], RATE)
        np.testing.assert_allclose(curve.energies, 2 * 0.5**2 / 2 * RATE, rtol=1e-5)
        np.testing.assert_allclose(curve.rms, 0.5, rtol=1e-5)  # 0.5 / sqrt(2), times sqrt(2) for two channels
        np.testing.assert_allclose(curve.levels_db, 20 * np.log10(0.5 / np.sqrt(2)), atol=1e-4)

    def test_weighs_a_shorter_last_step_by_its_length(self) -> None:
        curve = level_curve([np.full((1, 2500), 0.1)], 1000)
        assert curve.lengths.tolist() == [1000, 1000, 500]
        np.testing.assert_allclose(curve.energies, [10, 10, 5])
        np.testing.assert_allclose(curve.levels_db, -20)

    def test_of_silence_is_at_the_floor(self) -> None:
        assert level_curve([np.zeros((2, 100))], 100).levels_db.tolist() == [SILENCE_LEVEL_DB]

    @settings(deadline=None)
    @given(
        lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
        step_frames=st.integers(1, 50),
        seed=st.integers(0, 99),
    )
    def test_does_not_depend_on_how_the_signal_is_cut(
        self, lengths: list[int], step_frames: int, seed: int
    ) -> None:
        audio = np.random.default_rng(seed).standard_normal((2, sum(lengths)))
        meter = LevelMeter(RATE, 2, step_frames)
        for block in np.split(audio, np.cumsum(lengths)[:-1], axis=1):
            meter.add(block)
        power = np.square(audio).sum(axis=0)
        expected = [power[start : start + step_frames].sum() for start in range(0, sum(lengths), step_frames)]
        np.testing.assert_allclose(meter.curve.energies, expected, rtol=1e-12)
        assert meter.curve.lengths.sum() == meter.curve.num_frames == sum(lengths)

    def test_survives_blocks_longer_than_its_chunks(self) -> None:
        audio = np.random.default_rng(0).standard_normal((1, 200_001))
        meter = LevelMeter(RATE, 1, 70_000)
        meter.add(audio)
        expected = [np.square(part).sum() for part in np.split(audio, [70_000, 140_000], axis=1)]
        np.testing.assert_allclose(meter.curve.energies, expected)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refuses_samples_that_are_no_numbers(self, bad: float) -> None:
        audio = np.zeros((1, 30))
        audio[0, 7] = bad
        with pytest.raises(AudioError, match="NaN or infinite sample after frame 0"):
            level_curve([audio], RATE)

    @pytest.mark.parametrize("block", [np.zeros(10), np.zeros((2, 10)), np.zeros((1, 2, 3))])
    def test_refuses_blocks_of_another_shape(self, block: npt.NDArray[np.float64]) -> None:
        with pytest.raises(ValueError, match="shape"):
            LevelMeter(RATE, 1, 10).add(block)

    def test_refuses_no_blocks_and_meters_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="no block"):
            level_curve([], RATE)
        with pytest.raises(ValueError, match="step_frames 0"):
            LevelMeter(RATE, 1, 0)

    @pytest.mark.parametrize("step_s", [0.0, -1.0, 1e-9, float("nan"), float("inf")])
    def test_refuses_steps_below_a_frame(self, step_s: float) -> None:
        with pytest.raises(RecipeError, match="step_s is"):
            level_curve([np.zeros((1, 10))], RATE, step_s=step_s)


class TestActivity:
    def test_is_what_exceeds_the_threshold(self) -> None:
        curve = level_curve([in_levels(-20, -59, -61, -150)], RATE)
        assert active_steps(curve).tolist() == [True, True, False, False]
        assert active_steps(curve, threshold_db=-58).tolist() == [True, False, False, False]
        assert active_fraction(curve) == 0.5

    def test_with_a_range_leaves_out_a_residue(self) -> None:
        levels = [-20.0, -22.0, -21.0, -45.0, -50.0, -20.0, -100.0, -24.0]
        curve = level_curve([in_levels(*levels)], RATE)
        assert active_fraction(curve) == 7 / 8
        assert active_steps(curve, range_db=20).tolist() == [level > -40 for level in levels]

    def test_with_a_range_of_silence_is_none(self) -> None:
        assert active_fraction(curve_of(0.0, 0.0), range_db=30) == 0.0

    def test_counts_frames_not_steps(self) -> None:
        assert active_fraction(curve_of(1.0, 0.0, 1.0, num_frames=25)) == pytest.approx(15 / 25)

    def test_of_nothing_is_zero(self) -> None:
        assert active_fraction(curve_of()) == 0.0

    def test_agrees_with_windows_of_50_ms_counted_one_by_one(self) -> None:
        audio = in_levels(-30, -62, -58, -90)
        windows = [audio[:, start : start + 400] for start in range(0, audio.shape[1], 400)]
        expected = np.mean([np.mean(np.square(window, dtype=np.float64)) > 1e-6 for window in windows])
        assert active_fraction(level_curve([audio], RATE, step_s=0.05)) == pytest.approx(expected)

    @pytest.mark.parametrize("range_db", [0.0, -3.0, float("nan")])
    def test_refuses_a_range_that_is_none(self, range_db: float) -> None:
        with pytest.raises(RecipeError, match="range_db"):
            active_steps(curve_of(1.0), range_db=range_db)


def salient_by_the_paper(audio: Audio, chunk: int, floor: float = 1e-3) -> tuple[list[int], float]:
    """Section IV-A of the BSRNN paper, sentence by sentence."""
    length, starts, energies = 10 * chunk, [], []
    for start in range(0, audio.shape[1] - length + 1, length // 2):
        starts.append(start)
        chunks = [audio[:, start + i * chunk : start + (i + 1) * chunk].astype(np.float64) for i in range(10)]
        energies.append([max(float(np.square(part).sum()), 1e-5) for part in chunks])
    if not energies:
        return [], floor
    threshold = max(float(np.quantile(np.concatenate(energies), 0.15)), floor)
    return [
        start for start, row in zip(starts, energies, strict=True) if sum(e > threshold for e in row) > 5
    ], threshold


class TestSalience:
    @settings(deadline=None, max_examples=60)
    @given(
        gains=st.lists(st.sampled_from([0.0, 1e-4, 1e-2, 0.1, 1.0]), max_size=40),
        rest=st.integers(0, 5),
        seed=st.integers(0, 9),
    )
    def test_is_the_papers(self, gains: list[float], rest: int, seed: int) -> None:
        noise = np.random.default_rng(seed).standard_normal((2, len(gains), 6)) * np.array(gains)[:, None]
        audio = np.pad(noise.reshape(2, -1), ((0, 0), (0, rest))).astype(np.float32)
        meter = LevelMeter(10, 2, 6)
        meter.add(audio)
        salience = salient_segments(meter.curve)
        starts, threshold = salient_by_the_paper(audio, 6)
        assert salience.start_frames[salience.salient].tolist() == starts
        assert salience.threshold_energy == pytest.approx(threshold, abs=1e-5)
        assert salience.num_frames == 60
        np.testing.assert_array_equal(salience.salient, salience.fractions >= 0.6)

    def test_drops_what_is_silent_for_half_a_segment(self) -> None:
        audio = in_levels(*[-20.0] * 12, *[-150.0] * 12)
        salience = salient_segments(level_curve([audio], RATE, step_s=SALIENT_STEP_S))
        assert (salience.start_frames / RATE).tolist() == [0, 3, 6, 9, 12, 15, 18]
        assert salience.fractions.tolist() == [1, 1, 1, 0.5, 0, 0, 0]
        assert salience.salient.tolist() == [True, True, True, False, False, False, False]

    def test_floor_is_minus_77_db_for_a_chunk_of_stereo_at_44_1_khz(self) -> None:
        rng = np.random.default_rng(0)
        for level, found in ((-76.0, True), (-78.5, False)):
            audio = pink_noise(rng, 2, 6 * 44_100, rms=10 ** (level / 20))
            # Two of ten chunks are silent, so that the quantile is below the floor.
            audio[:, : 2 * 26_460] = 0.0
            curve = level_curve([audio], 44_100, step_s=SALIENT_STEP_S)
            assert curve.step_frames == 26_460
            assert salient_segments(curve).salient.tolist() == [found]

    def test_floor_as_a_mean_is_offered(self) -> None:
        curve = level_curve([in_levels(-28, -28, -28, -28, -32, -150)], RATE, step_s=SALIENT_STEP_S)
        mean_floor = 1e-3 * curve.step_frames * curve.channels
        assert salient_segments(curve, floor_energy=mean_floor).fractions.tolist() == [0.7]
        assert salient_segments(curve).fractions.tolist() == [0.8]

    def test_a_signal_shorter_than_a_segment_has_none(self) -> None:
        salience = salient_segments(curve_of(*[1.0] * 9))
        assert len(salience.start_frames) == len(salience.fractions) == len(salience.salient) == 0
        assert salience.threshold_energy == 1e-3

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("chunks", 9),
            ("chunks", 0),
            ("quantile", -0.1),
            ("quantile", float("nan")),
            ("min_fraction", 1.1),
            ("floor_energy", -1.0),
            ("floor_energy", float("nan")),
        ],
    )
    def test_refuses_settings_out_of_range(self, setting: str, value: float) -> None:
        with pytest.raises(RecipeError, match=f"{setting} is {value}"):
            salient_segments(curve_of(*[1.0] * 20), **{setting: value})  # type: ignore[arg-type]
