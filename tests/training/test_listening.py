"""Listening tests: loudness by pyloudnorm, backgrounds where nobody speaks, the anchor's spectrum, the layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
import scipy.signal
import yaml

from manifests.audio import Audio, read
from manifests.errors import AudioError, RecipeError
from tests.synthesis import pink_noise, tone
from training.listening import (
    ListeningItem,
    RemixSettings,
    conditions,
    dialogue_free,
    low_pass_anchor,
    ungated_lufs,
    write_listening_test,
)

RATE = 16_000
FRAMES = 4 * RATE


def loudness(audio: npt.NDArray[np.floating]) -> float:
    """Ungated, by pyloudnorm's filters."""
    filtered = audio.T.astype(np.float64)
    for stage in pyloudnorm.Meter(RATE, "DeMan")._filters.values():
        filtered = np.stack([stage.apply_filter(channel) for channel in filtered.T], axis=1)
    return float(-0.691 + 10 * np.log10(np.square(filtered).mean(axis=0).sum()))


def item(**changes: Any) -> ListeningItem:
    """Speech in the first and last second of noise; one separator is clean, one leaks half of the background."""
    rng = np.random.default_rng(0)
    dialogue = pink_noise(rng, 2, FRAMES, rms=0.1)
    dialogue[:, RATE : 3 * RATE] = 0.0
    background = pink_noise(rng, 2, FRAMES, rms=0.05)
    estimates = {"clean": dialogue, "leaky": dialogue + 0.5 * background}
    facts = {"mixture": dialogue + background, "dialogue": dialogue, "estimates": estimates}
    return ListeningItem(**{"name": "item", "sample_rate": RATE, **facts, **changes})


def part(audio: Audio) -> Audio:
    """Where nobody speaks, away from the edges."""
    return audio[:, round(1.3 * RATE) : round(2.7 * RATE)]


def test_dialogue_free_parts_keep_away_from_words() -> None:
    free = dialogue_free(item().dialogue, RATE)
    step = RATE // 10
    assert np.flatnonzero(free)[[0, -1]].tolist() == [RATE + step, 3 * RATE - step - 1]
    assert free.sum() == 2 * RATE - 2 * step
    assert dialogue_free(np.zeros((1, 1000), np.float32), RATE).all()
    assert len(dialogue_free(item().dialogue[:, : RATE - 7], RATE)) == RATE - 7


def test_loudness_is_that_of_bs1770_without_gates() -> None:
    audio = item().mixture
    assert ungated_lufs(audio, RATE) == pytest.approx(loudness(audio), abs=0.02)
    # a gate would leave out the silence
    half = np.concatenate([audio, np.zeros_like(audio)], axis=1)
    assert ungated_lufs(half, RATE) == pytest.approx(loudness(audio) - 10 * np.log10(2), abs=0.02)
    where = np.arange(half.shape[1]) < FRAMES
    assert ungated_lufs(half, RATE, where) == pytest.approx(loudness(audio), abs=0.02)
    assert ungated_lufs(half, RATE, np.zeros(half.shape[1], bool)) == ungated_lufs(0 * audio, RATE) == -np.inf


def test_all_conditions_are_equally_loud() -> None:
    found = conditions(item())
    assert list(found) == ["reference", "mixture", "anchor35", "clean", "leaky"]
    for audio in found.values():
        assert audio.dtype == np.float32
        assert audio.shape == (2, FRAMES)
        assert loudness(audio) == pytest.approx(-23.0, abs=0.02)
    louder = conditions(item(), RemixSettings(loudness_lufs=-30.0))
    assert loudness(louder["clean"]) == pytest.approx(-30.0, abs=0.02)


def test_the_reference_has_the_background_attenuated() -> None:
    found = conditions(item())["reference"]
    given = item()
    wanted = given.dialogue + 10 ** (-12 / 20) * (given.mixture - given.dialogue)
    gain = np.vdot(found, wanted) / np.vdot(wanted, wanted)
    np.testing.assert_allclose(found, gain * wanted, atol=1e-5)
    # a separator that is right sounds like the reference
    np.testing.assert_allclose(conditions(given)["clean"], found, atol=1e-5)


def test_backgrounds_are_equally_loud_where_nobody_speaks() -> None:
    """Before all is brought to one loudness: relative to how loud the same condition is as a whole."""
    given = item()
    background = given.mixture - given.dialogue
    for attenuation in (6.0, 12.0, 20.0):
        found = conditions(given, RemixSettings(attenuation_db=attenuation, loudness_lufs=-30.0))
        for name, estimate in given.estimates.items():
            # y = gain * (x + mu b), of which gain and mu are found again by least squares
            left = given.mixture - estimate
            columns = np.stack([estimate.ravel(), left.ravel()], axis=1).astype(np.float64)
            (gain, scaled), *_ = np.linalg.lstsq(columns, found[name].ravel().astype(np.float64))
            free = dialogue_free(given.dialogue, RATE)
            level = ungated_lufs(scaled / gain * left, RATE, free)
            assert level == pytest.approx(ungated_lufs(background, RATE, free) - attenuation, abs=0.02)
    np.testing.assert_allclose(20 * np.log10(scaled / gain), -20 + 20 * np.log10(2), atol=0.02)
    assert loudness(part(scaled / gain * left)) == pytest.approx(loudness(part(background)) - 20, abs=0.1)


def test_changes_have_a_limit_and_silence_has_no_gain() -> None:
    given = item()
    limited = conditions(given, RemixSettings(attenuation_db=30.0, most_change_db=10.0))["clean"]
    wanted = given.dialogue + 10 ** (-10 / 20) * (given.mixture - given.dialogue)
    gain = np.vdot(limited, wanted) / np.vdot(wanted, wanted)
    np.testing.assert_allclose(limited, gain * wanted, atol=1e-5)
    nothing = conditions(item(estimates={"same": given.mixture}))
    np.testing.assert_allclose(nothing["same"], nothing["mixture"], atol=1e-6)


def test_the_anchor_is_bs1534s() -> None:
    impulse = np.zeros((1, 8001), np.float32)
    impulse[0, 4000] = 1.0
    response = low_pass_anchor(impulse, 48_000)
    np.testing.assert_allclose(response, response[:, ::-1], atol=1e-7)
    frequencies, spectrum = scipy.signal.freqz(response[0], worN=8192, fs=48_000)
    level = 20 * np.log10(np.abs(spectrum) + 1e-12)
    assert np.abs(level[frequencies <= 3500]).max() < 0.1
    assert level[frequencies >= 4000].max() < -25
    assert level[frequencies >= 4500].max() < -50
    low = tone(1000, 8000, RATE)
    np.testing.assert_allclose(low_pass_anchor(low, RATE)[:, 500:-500], low[:, 500:-500], atol=1e-3)
    with pytest.raises(AudioError, match="at 8000 Hz"):
        low_pass_anchor(low, 8000)


def test_an_experiment_is_laid_out_as_webmushra_reads_it(tmp_path: Path) -> None:
    items = [item(), item(name="item-2")]
    path = write_listening_test(tmp_path, "dialogue", items, RemixSettings(loudness_lufs=-30.0), title="Which?")
    assert path == tmp_path / "configs" / "dialogue.yaml"
    config = yaml.safe_load(path.read_text())
    assert list(config) == [
        "testname",
        "testId",
        "bufferSize",
        "stopOnErrors",
        "showButtonPreviousPage",
        "remoteService",
        "pages",
    ]
    assert (config["testname"], config["testId"]) == ("Which?", "dialogue")
    trials, finish = config["pages"]
    assert trials[0] == "random"
    assert (finish["type"], finish["writeResults"]) == ("finish", True)
    assert [page["id"] for page in trials[1:]] == ["item", "item-2"]
    for page in trials[1:]:
        assert page["type"] == "mushra"
        assert list(page["stimuli"]) == ["mixture", "anchor35", "clean", "leaky"]
        assert (page["createAnchor35"], page["createAnchor70"]) == (False, False)
        wanted = conditions(item(), RemixSettings(loudness_lufs=-30.0))
        for name, file in {"reference": page["reference"], **page["stimuli"]}.items():
            audio, rate = read(tmp_path / file)
            assert rate == RATE
            np.testing.assert_allclose(audio, wanted[name], atol=2**-22)
    wavs = {found.relative_to(tmp_path).as_posix() for found in tmp_path.rglob("*.wav")}
    assert wavs == {file for page in trials[1:] for file in (page["reference"], *page["stimuli"].values())}


def test_the_anchor_may_be_left_to_webmushra(tmp_path: Path) -> None:
    settings = RemixSettings(with_anchor=False, loudness_lufs=-30.0)
    config = yaml.safe_load(write_listening_test(tmp_path, "t", [item()], settings).read_text())
    page = config["pages"][0][1]
    assert page["createAnchor35"] is True
    assert list(page["stimuli"]) == ["mixture", "clean", "leaky"]


def test_items_that_make_no_test_are_refused(tmp_path: Path) -> None:
    given = item()
    talking = dataclasses.replace(given, dialogue=pink_noise(np.random.default_rng(1), 2, FRAMES))
    dry = dataclasses.replace(given, mixture=given.dialogue)
    for impossible in (talking, dry):
        with pytest.raises(AudioError, match="item 'item': there is no background"):
            conditions(impossible)
    with pytest.raises(AudioError, match=r"'short' has the shape \(2, 10\), and the mixture"):
        conditions(item(estimates={"short": given.dialogue[:, :10]}))
    with pytest.raises(AudioError, match="one or two channels"):
        conditions(item(mixture=np.ones((3, 10), np.float32)))
    with pytest.raises(RecipeError, match="called 'mixture'"):
        conditions(item(estimates={"mixture": given.dialogue}))
    with pytest.raises(RecipeError, match="cannot name a file"):
        write_listening_test(tmp_path, "t", [item(estimates={"../x": given.dialogue})])
    with pytest.raises(RecipeError, match="each of another name"):
        write_listening_test(tmp_path, "t", [given, given])
    with pytest.raises(RecipeError, match="at least one"):
        write_listening_test(tmp_path, "t", [])
    with pytest.raises(AudioError, match="beyond full scale at -3 LUFS"):
        write_listening_test(tmp_path, "t", [given], RemixSettings(loudness_lufs=-3.0))
    assert not list(tmp_path.rglob("*.yaml"))


@pytest.mark.parametrize(
    "wrong",
    [{"attenuation_db": -1.0}, {"most_change_db": float("nan")}, {"loudness_lufs": 3.0}, {"anchor_hz": 0.0}],
)
def test_settings_that_are_impossible_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        RemixSettings(**wrong)
