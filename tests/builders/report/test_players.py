"""Excerpts: which seconds, how they are encoded, and that a browser plays and seeks them."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from builders.report import players, write_report
from builders.report.players import CLIP_S, TOTAL_BYTES, around_worst, bit_rate, data_uri, encoded, loudest_start
from tests.builders.browser import CHROMIUM, Browser
from tests.builders.small_build import RATE, make_build, replace_stem
from tests.synthesis import pink_noise, tone

HAS_OPUS = "OPUS" in soundfile.available_subtypes("OGG")


def test_the_loudest_stretch_is_found_and_never_beyond_the_end() -> None:
    power = np.zeros(60)
    power[30:35] = 1.0
    start = loudest_start(power, 1.0)
    assert start <= 30
    assert start + CLIP_S >= 35
    assert loudest_start(power[:5], 1.0) == 0.0
    assert loudest_start(np.array([np.nan, 1.0, np.nan]), 0.5, 0.5) == 0.5


@pytest.mark.parametrize(("second", "start"), [(30, 24.5), (1, 0.0), (59, 48.0)])
def test_the_worst_second_is_in_the_middle_where_the_song_allows(second: int, start: float) -> None:
    badness = np.full(60, -40.0)
    badness[second] = -3.0
    badness[0] = np.nan
    assert around_worst(badness, 1.0) == start


def test_a_page_of_many_excerpts_stays_small() -> None:
    assert bit_rate(1) == 64
    assert bit_rate(60) * 1000 / 8 * 60 * CLIP_S == pytest.approx(TOTAL_BYTES)
    assert bit_rate(10_000) == 20


@pytest.mark.skipif(not HAS_OPUS, reason="libsndfile was made without Opus")
@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000])
@pytest.mark.parametrize(("channels", "kbps", "kept"), [(2, 64, 2), (2, 30, 1), (1, 64, 1), (6, 64, 1)])
def test_opus_is_as_long_as_the_excerpt_and_sounds_like_it(
    sample_rate: int, channels: int, kbps: float, kept: int
) -> None:
    audio = tone(440.0, 3 * sample_rate, sample_rate, amplitude=0.3, channels=channels)
    kind, data = encoded(audio, sample_rate, kbps)
    assert kind == "audio/ogg"
    decoded, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert decoded.shape == (3 * 48000, kept)
    wanted = tone(440.0, 3 * rate, rate, amplitude=0.3)[0]
    middle = slice(rate // 2, -rate // 2)
    error = decoded[middle, 0] - wanted[middle]
    assert 10 * np.log10(np.square(wanted[middle]).sum() / np.square(error).sum()) > 20
    assert len(data) * 8 / 3 / 1000 < 1.5 * kbps


@pytest.mark.skipif(not HAS_OPUS, reason="libsndfile was made without Opus")
def test_the_same_excerpt_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = pink_noise(np.random.default_rng(0), 2, 48000, rms=0.1)
    first = encoded(audio, 48000, 64)
    time.sleep(1.1)  # libsndfile's random numbers start from the time in seconds
    assert encoded(audio, 48000, 64) == first


@pytest.mark.skipif(not HAS_OPUS, reason="libsndfile was made without Opus")
def test_the_checksums_of_the_pages_are_those_of_libogg() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((48000, 1)), 48000, format="OGG", subtype="OPUS")
    data = file.getvalue()
    end = 27 + data[26] + sum(data[27 : 27 + data[26]])
    page = data[:22] + bytes(4) + data[26:end]
    assert players._checksum(page) == data[22:26]


def test_without_opus_it_is_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda format: {"VORBIS": "Vorbis"})
    kind, data = encoded(tone(440.0, 44100), 44100, 64)
    assert kind == "audio/flac"
    decoded, rate = soundfile.read(io.BytesIO(data))
    assert decoded.shape == (rate,)


def test_audio_beyond_full_scale_is_limited() -> None:
    _, data = encoded(np.full((1, 4800), 3.0, np.float32), 48000, 64)
    assert np.isfinite(soundfile.read(io.BytesIO(data))[0]).all()


def test_a_data_uri_holds_its_file() -> None:
    assert base64.b64decode(data_uri("audio/ogg", b"abc").partition(",")[2]) == b"abc"


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_plays_and_seeks_every_excerpt_of_the_page(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", songs=1)
    for stem, hertz in (("mixture", 440.0), ("instrumental", 550.0), ("vocals", 660.0)):
        replace_stem(build, "song0", stem, tone(hertz, 15 * RATE, RATE, amplitude=0.1))
    page = write_report(build)
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        found = browser.run(
            """Promise.all([...document.querySelectorAll('.song audio')].map(player => new Promise(done => {
                player.onerror = () => done('error ' + player.error.message);
                player.onloadedmetadata = () => { player.currentTime = 7.5; };
                player.onseeked = () => done([player.duration, player.currentTime, player.seekable.end(0)]);
                player.preload = 'auto';
                player.load();
                setTimeout(() => done('nothing'), 20000);
            })))"""
        )
        scripts = browser.run("document.scripts.length")
        widest = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert len(found) == 3
    for duration, position, end in found:
        assert duration == pytest.approx(CLIP_S, abs=0.05)
        assert end == pytest.approx(CLIP_S, abs=0.05)
        assert position == 7.5
    assert (scripts, widest) == (0, 0)
