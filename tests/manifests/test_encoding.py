"""Audio encoded block by block is what it is encoded whole, and a file is whole or not there."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from manifests.audio import quantise, read, write
from manifests.encoding import _Sink, encoding
from manifests.errors import AudioError, BuildError, RecipeError
from tests.manifests.exports.small_corpus import RATE, files_of
from tests.synthesis import pink_noise

FRAMES = 1000


def noise(seed):
    return quantise(pink_noise(np.random.default_rng(seed), 2, FRAMES, rms=0.1))


def encoded(path, *blocks, channels=2, bit_depth=24, num_frames=FRAMES, rate=RATE):
    with encoding(path, num_frames, rate, channels, bit_depth) as write_block:
        for block in blocks:
            write_block(block)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("bit_depth", [16, 24])
def test_blocks_give_the_bytes_that_the_whole_gives(tmp_path, suffix, bit_depth):
    audio = noise(1)
    write(tmp_path / f"whole{suffix}", audio, RATE, bit_depth)
    encoded(tmp_path / f"blocks{suffix}", audio[:, :7], audio[:, 7:600], audio[:, 600:], bit_depth=bit_depth)
    assert np.array_equal(read(tmp_path / f"blocks{suffix}")[0], quantise(audio, bit_depth))
    assert (tmp_path / f"blocks{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("value", [1.5, np.nan, -np.inf])
def test_a_sample_beyond_full_scale_is_named_and_no_file_left(tmp_path, value):
    audio = noise(1)
    audio[1, 412] = value
    with pytest.raises(AudioError, match=r"a\.wav: sample .* at frame 412 is beyond full scale or not finite"):
        encoded(tmp_path / "a.wav", audio[:, :400], audio[:, 400:])
    assert files_of(tmp_path) == []


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="FLAC holds 8 channels, not 9"):
        encoded(tmp_path / "a.flac", channels=9)
    with pytest.raises(RecipeError, match="WAV holds 4 GiB"):
        encoded(tmp_path / "a.wav", num_frames=1 << 30)
    with pytest.raises(RecipeError, match="cannot be written"):
        encoded(tmp_path / "a.flac", noise(1), rate=10**9)
    assert files_of(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_build_error(tmp_path, monkeypatch):
    from manifests import files

    monkeypatch.setattr(files, "_created", lambda path: os.fdopen(os.open("/dev/full", os.O_RDWR), "w+b"))
    with pytest.raises(BuildError, match=r"a\.wav: cannot be written \(No space left on device\)"):
        encoded(tmp_path / "a.wav", noise(1))
    assert files_of(tmp_path) == []


def test_a_bug_in_the_block_passes_through(tmp_path):
    with pytest.raises(AssertionError, match="ours"), encoding(tmp_path / "a.wav", FRAMES, RATE, 2):
        raise AssertionError("ours")
    assert files_of(tmp_path) == []


def test_floats_are_kept_as_they_are(tmp_path):
    audio = 5 * noise(1) / 3
    audio[0, 7] = 3.25
    encoded(tmp_path / "a.wav", audio[:, :300], audio[:, 300:], bit_depth=32)
    assert np.array_equal(read(tmp_path / "a.wav")[0], audio)
    with pytest.raises(RecipeError, match="floats, which FLAC does not hold"):
        encoded(tmp_path / "a.flac", audio, bit_depth=32)
    audio[1, 412] = np.inf
    with pytest.raises(AudioError, match="frame 412"):
        encoded(tmp_path / "b.wav", audio, bit_depth=32)
    assert files_of(tmp_path) == ["a.wav"]


def test_an_interrupt_waits_for_the_block_and_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt within libsndfile's callbacks would be printed, and the file go on."""
    written = _Sink.write

    def interrupted(sink: _Sink, data: bytes) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return written(sink, data)

    monkeypatch.setattr(_Sink, "write", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "a.wav", *[np.zeros((1, 100), np.float32)] * 10, channels=1)
    assert not (tmp_path / "a.wav").exists()
    assert signal.getsignal(signal.SIGINT) is before
