"""Spectrograms: a tone is where it should be, and the PNG is one for other decoders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.report.pictures import COLUMNS, LOWEST_HZ, ROWS, spectrogram, spectrogram_png
from manifests.audio import write
from manifests.errors import AudioError
from tests.builders.small_build import FRAMES, RATE
from tests.synthesis import tone


def decoded(png: bytes) -> tuple[int, int, np.ndarray[Any, Any]]:
    """Width, height and palette numbers of a PNG as `spectrogram_png` writes it."""
    width, height = struct.unpack(">II", png[16:24])
    at = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[at - 4 : at])
    pixels = np.frombuffer(zlib.decompress(png[at + 4 : at + 4 + length]), np.uint8).reshape(height, -1)
    return width, height, pixels[:, 1:]


def test_a_tone_is_a_bright_line_at_its_frequency(tmp_path: Path) -> None:
    frames = COLUMNS * 2500
    write(tmp_path / "tone.wav", tone(1000.0, frames, RATE), RATE)
    seen = spectrogram(tmp_path / "tone.wav", frames, RATE)
    levels = seen.levels_db
    assert levels.shape[0] == ROWS
    assert levels.shape[1] == COLUMNS
    edges = np.geomspace(LOWEST_HZ, RATE / 2, ROWS + 1)
    band = ROWS - int(np.searchsorted(edges, 1000.0))
    # a window of 2048 frames resolves 11 Hz, and this band is 70 Hz wide
    assert set(levels.argmax(axis=0)) <= {band - 1, band, band + 1}
    width, height, pixels = decoded(spectrogram_png(levels, float(levels.max())))
    assert (width, height) == (levels.shape[1], ROWS)
    assert pixels.max() == 63
    assert np.count_nonzero(pixels.max(axis=1)) < 12


def test_a_spectrogram_of_a_short_file_is_as_wide_as_its_sound(tmp_path: Path) -> None:
    write(tmp_path / "click.wav", np.full((1, 300), 0.5, np.float32), RATE)
    assert spectrogram(tmp_path / "click.wav", 300, RATE).levels_db.shape == (ROWS, 2)
    with pytest.raises(AudioError, match="gone"):
        spectrogram(tmp_path / "gone.wav", FRAMES, RATE)


def test_a_png_is_read_by_another_decoder(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "ramp.png"
    path.write_bytes(spectrogram_png(np.linspace(-65, 0, 64)[None].repeat(3, axis=0), 0.0))
    pixels = image.imread(path)
    assert pixels.shape[:2] == (3, 64)
    assert pixels[0, 0, :3].sum() < 0.05
    assert pixels[0, -1, :3].sum() > 2.4


def test_the_power_of_a_column_is_the_mean_square_of_all_channels(tmp_path: Path) -> None:
    frames = COLUMNS * 2500
    audio = tone(1000.0, frames, RATE, amplitude=0.5)
    audio[1] = 0
    audio[:, frames // 2 :] = 0
    write(tmp_path / "tone.wav", audio, RATE)
    seen = spectrogram(tmp_path / "tone.wav", frames, RATE)
    assert seen.column_frames == 2500
    assert seen.power.shape == (COLUMNS,)
    assert seen.power[:200] == pytest.approx(0.5**2 / 2 / 2, rel=0.02)
    assert seen.power[COLUMNS // 2 :].max() == 0
