"""BSSEval against museval, on songs with silence, mono and short ones."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest

import training.bsseval
from manifests.errors import AudioError, RecipeError
from tests.synthesis import pink_noise, song
from training.bsseval import bss_eval

museval = pytest.importorskip("museval")

Floats = npt.NDArray[np.float64]
RATE = 8000
NAMES = ["bsseval_sdr_db", "bsseval_isr_db", "bsseval_sir_db", "bsseval_sar_db"]


def separated(channels: int = 2, seconds: float = 3.2, sources: int = 2) -> tuple[Floats, Floats]:
    """References, and estimates with leakage, an echo and noise."""
    rng = np.random.default_rng(3)
    frames = round(seconds * RATE)
    parts = [*song(rng, seconds, RATE)][:sources]
    parts += [pink_noise(rng, 2, frames) for _ in range(sources - len(parts))]
    # the synthetic voice rests, but no reference is silent for a whole frame
    references = np.stack(parts)[:, :channels].astype(np.float64) + 1e-4 * rng.standard_normal((channels, frames))
    leakage = 0.8 * np.eye(sources) + 0.2
    estimates = np.einsum("ij,jcf->icf", leakage, references) + 0.1 * np.roll(references, 40, axis=2)
    return references, estimates + 0.01 * rng.standard_normal(estimates.shape)


def by_museval(references: Floats, estimates: Floats) -> list[Floats]:
    by_frames = (np.moveaxis(audio, 1, 2) for audio in (references, estimates))
    return list(museval.evaluate(*by_frames, win=RATE, hop=RATE))


@pytest.mark.parametrize(("channels", "seconds", "sources"), [(2, 3.2, 2), (1, 2.0, 3), (1, 0.2, 2), (2, 1.5, 1)])
def test_values_are_musevals(channels: int, seconds: float, sources: int) -> None:
    references, estimates = separated(channels, seconds, sources)
    wanted = by_museval(references, estimates)
    if sources == 1:
        wanted[2] = np.full_like(wanted[2], np.inf)
    exact, summed = (bss_eval(references, estimates, RATE, method=m) for m in ("museval", "blocks"))
    assert list(exact.frames) == list(summed.frames) == NAMES
    for name, values in zip(NAMES, wanted, strict=True):
        assert values.shape == (sources, max(1, int(seconds)))
        np.testing.assert_array_equal(exact.frames[name], values)
        np.testing.assert_allclose(summed.frames[name], values, atol=1e-6)
        np.testing.assert_array_equal(exact.medians()[name], np.median(values, axis=1))


def test_blocks_do_not_depend_on_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    references, estimates = separated()
    whole = bss_eval(references, estimates, RATE, method="blocks")
    monkeypatch.setattr(training.bsseval, "_FFT_FRAMES", 4096)
    for name, values in bss_eval(references, estimates, RATE, method="blocks").frames.items():
        np.testing.assert_allclose(values, whole.frames[name], atol=1e-6)


@pytest.mark.parametrize("method", ["museval", "blocks"])
@pytest.mark.parametrize("silent", ["reference", "estimate"])
def test_a_silent_source_is_left_out_and_the_others_are_measured(method: str, silent: str) -> None:
    references, estimates = separated(sources=3, seconds=2.0, channels=1)
    (references if silent == "reference" else estimates)[1] = 0.0
    with pytest.raises(ValueError, match="non-silent"):
        by_museval(references, estimates)
    found = bss_eval(references, estimates, RATE, method=method)  # type: ignore[arg-type]
    assert found.left_out.tolist() == [False, True, False]
    kept = by_museval(references[[0, 2]], estimates[[0, 2]])
    for values, wanted in zip(found.frames.values(), kept, strict=True):
        assert np.isnan(values[1]).all()
        np.testing.assert_allclose(values[[0, 2]], wanted, atol=1e-6)
    assert np.isnan(found.medians()["bsseval_sdr_db"]).tolist() == [False, True, False]


@pytest.mark.parametrize("method", ["museval", "blocks"])
def test_a_silent_frame_has_no_values_and_is_not_in_the_median(method: str) -> None:
    references, estimates = separated(seconds=3.0, channels=1)
    references[0, :, RATE : 2 * RATE] = 0.0
    found = bss_eval(references, estimates, RATE, method=method)  # type: ignore[arg-type]
    for name, values in found.frames.items():
        assert np.isnan(values).tolist() == [[False, True, False]] * 2
        np.testing.assert_allclose(found.medians()[name], values[:, [0, 2]].mean(axis=1))


def test_nothing_but_silence_has_no_values() -> None:
    found = bss_eval(np.zeros((2, 1, 100)), np.zeros((2, 1, 100)), RATE)
    assert found.left_out.all()
    assert all(np.isnan(values).all() and values.shape == (2,) for values in found.medians().values())


def test_channels_that_are_the_same_can_be_measured() -> None:
    references, estimates = separated(channels=1, seconds=2.0)
    mono = bss_eval(references, estimates, RATE, method="blocks").medians()
    stereo = [np.repeat(audio, 2, axis=1) for audio in (references, estimates)]
    doubled = bss_eval(stereo[0], stereo[1], RATE, method="blocks").medians()
    for name, values in doubled.items():
        np.testing.assert_allclose(values, mono[name], atol=1e-3)


def test_a_singular_matrix_is_an_error_of_museval_and_none_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    solve, calls = np.linalg.solve, 0

    def refuse(*arrays: Floats) -> Floats:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise np.linalg.LinAlgError("Singular matrix")
        return np.asarray(solve(*arrays))

    references, estimates = separated(channels=1, seconds=1.0)
    wanted = bss_eval(references, estimates, RATE, method="blocks").medians()
    monkeypatch.setattr(np.linalg, "solve", refuse)
    for name, values in bss_eval(references, estimates, RATE, method="blocks").medians().items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-3)
    assert calls == 6
    with pytest.raises(AudioError, match="linearly dependent"):
        bss_eval(references, estimates, RATE)


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.ones((2, 1, 10))
    with pytest.raises(ValueError, match=r"\(2, 10\)"):
        bss_eval(audio, audio[:, 0], RATE)
    with pytest.raises(RecipeError, match="museval, blocks"):
        bss_eval(audio, audio, RATE, method="v3")  # type: ignore[arg-type]
    broken = audio.copy()
    broken[0, 0, 3] = np.inf
    with pytest.raises(AudioError, match="infinite"):
        bss_eval(audio, broken, RATE)
    monkeypatch.setitem(sys.modules, "museval", None)
    with pytest.raises(RecipeError, match="not installed"):
        bss_eval(audio, audio, RATE)
