from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from augment.transforms.codec import Codec, coded_bitrate, encoded, mp3_bitrates
from augment.transforms.rule import Scene
from augment.transforms.rules import rule_of
from manifests.errors import RecipeError
from tests.synthesis import pink_noise, song

CODECS = ["mp3", "vorbis", "opus"]


def lag_frames(later: np.ndarray, earlier: np.ndarray) -> int:
    found = scipy.signal.correlate(later, earlier, method="fft")
    return int(found.argmax()) - (len(earlier) - 1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100, 96000])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bitrate_kbps", [48.0, 160.0])
def test_what_comes_back_is_at_its_place_and_alike(
    codec: str, sample_rate: int, channels: int, bitrate_kbps: float
) -> None:
    audio = pink_noise(np.random.default_rng(0), channels, 30001)
    audio = scipy.signal.sosfilt(scipy.signal.butter(4, 3000, fs=sample_rate, output="sos"), audio)
    stack = audio.astype(np.float32)[None]
    out = Codec.apply(stack.copy(), sample_rate, codec=codec, bitrate_kbps=bitrate_kbps)
    assert out.shape == stack.shape
    for channel in range(channels):
        # Opus codes low bands another way at low bitrates.
        slack = 4 * sample_rate / 48000 if codec == "opus" and bitrate_kbps < 64 else 0
        assert abs(lag_frames(out[0, channel], stack[0, channel])) <= slack
        assert np.corrcoef(out[0, channel], stack[0, channel])[0, 1] > 0.75
    assert np.abs(out - stack).max() > 1e-4, "it went through the codec"


def test_more_bits_are_nearer_to_the_original() -> None:
    stack = pink_noise(np.random.default_rng(0), 2, 40000)[None]
    for codec in CODECS:
        errors = [
            float(np.mean((Codec.apply(stack.copy(), 44100, codec=codec, bitrate_kbps=kbps) - stack) ** 2))
            for kbps in (64.0, 128.0, 256.0)
        ]
        assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(
    ("codec", "sample_rate", "tolerance"), [("mp3", 44100, 0.05), ("opus", 48000, 0.1), ("vorbis", 44100, 0.35)]
)
@pytest.mark.parametrize("bitrate_kbps", [96.0, 160.0, 256.0])
def test_bitrates_come_out_about_right(codec: str, sample_rate: int, tolerance: float, bitrate_kbps: float) -> None:
    instrumental, vocals = song(np.random.default_rng(0), 6.0, sample_rate)
    # a little noise, as real recordings have: without it Vorbis has hardly anything to code
    audio = instrumental + vocals + pink_noise(np.random.default_rng(1), 2, 6 * sample_rate, rms=0.03)
    audio /= np.abs(audio).max()
    size = len(encoded(audio.astype(np.float32), sample_rate, codec, bitrate_kbps))
    assert size * 8 / 6 / 1000 == pytest.approx(bitrate_kbps, rel=tolerance)


def test_mp3_takes_the_nearest_standard_bitrate() -> None:
    assert coded_bitrate("mp3", 44100, 2, 150.0) == 160
    assert coded_bitrate("mp3", 44100, 1, 150.0) == 80
    assert coded_bitrate("mp3", 22050, 2, 300.0) == 160
    assert [mp3_bitrates(rate)[-1] for rate in (48000, 24000, 8000)] == [320, 160, 64]


def test_audio_beyond_full_scale_is_not_clipped() -> None:
    stack = 4 * pink_noise(np.random.default_rng(0), 1, 20000)[None] / np.float32(0.4)
    assert np.abs(stack).max() > 2
    for codec in CODECS:
        out = Codec.apply(stack.copy(), 48000, codec=codec, bitrate_kbps=256.0)
        assert np.abs(out).max() == pytest.approx(np.abs(stack).max(), rel=0.1)


def test_further_channels_are_coded_in_pairs() -> None:
    stack = pink_noise(np.random.default_rng(0), 5, 8000)[None]
    for codec in CODECS:
        out = Codec.apply(stack.copy(), 44100, codec=codec, bitrate_kbps=256.0)
        pair = Codec.apply(stack[:, 2:4].copy(), 44100, codec=codec, bitrate_kbps=256.0)
        np.testing.assert_array_equal(out[:, 2:4], pair)


def test_codecs_are_drawn_by_their_weights() -> None:
    rng, scene = np.random.default_rng(0), Scene(1, 44100, 2)
    rule = Codec(codecs={"mp3": 3, "opus": 1}, bitrate_kbps=(32, 64))
    drawn = [rule.draw(rng, scene) for _ in range(1000)]
    assert [step["codec"] for step in drawn].count("opus") == pytest.approx(250, abs=45)
    assert all(32 <= step["bitrate_kbps"] <= 64 for step in drawn)
    with pytest.raises(RecipeError, match="all weigh 0"):
        rule_of("codec", {"codecs": {"mp3": 0}})
