"""The pictures and the tables of `docs/explanations`, computed from synthetic signals.

    python docs/figures.py

writes the pictures into `docs/images` and prints the tables; `tests/test_docs.py` holds the pages against them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.signal import stft
from scipy.special import sici

HOME = Path(__file__).parent
sys.path[:0] = [str(HOME.parent), str(HOME.parent / "tests")]

from synthesis import fractional_delay, pink_noise, resampled, song, tone  # noqa: E402

from curation import derive_vocals  # noqa: E402

Floats = npt.NDArray[np.float64]
Audio = npt.NDArray[np.float32]

RATE = 44_100
PINK_HZ = (20.0, 16_000.0)
LEVELS_DB = (-40, -20, -10, 0, 10, 20, 40)
LAGS = (0.005, 0.02, 0.1, 0.5, 1.0)
DRIFTS_PPM = (0.003, 0.01, 0.1, 1.0)
SONG_S = 240.0
MUSIC, VOICE, MIXTURE, QUIET = "#3b6ea8", "#c8553d", "#6b6b6b", "#b8b8b8"


def decibels(ratio: float) -> float:
    """Of a ratio of powers."""
    return float(10 * np.log10(ratio))


# Half-wave rectification: the bin with music 1 and a voice r at angle phi to it


def rectified(r: float, phi: Any) -> Any:
    """What half-wave rectification takes for the voice: what the mixture has more than the music, at its phase."""
    mixture = 1 + r * np.exp(1j * phi)
    return np.maximum(np.abs(mixture) - 1, 0) * np.exp(1j * np.angle(mixture))


def exact_magnitude(r: float, phi: Any) -> Any:
    """The voice's true magnitude at the mixture's phase: the best that magnitudes can do."""
    return r * np.exp(1j * np.angle(1 + r * np.exp(1j * phi)))


@cache
def error_power(level_db: float, estimate: Any = rectified) -> float:
    """Mean power of the error in a bin, over all phases, the music's being 1.

    Parameters
    ----------
    level_db : float
        Of the voice over the music.
    estimate : callable
        `rectified` or `exact_magnitude`.

    Returns
    -------
    float
    """
    r = 10 ** (level_db / 20)
    # where the voice turns against the music so far that the mixture is smaller than the music
    turn = np.pi - np.arccos(min(r / 2, 1.0))

    def error(phi: float) -> float:
        return float(abs(estimate(r, phi) - r * np.exp(1j * phi)) ** 2)

    return float((quad(error, 0, turn, limit=200)[0] + quad(error, turn, np.pi, limit=200)[0]) / np.pi)


def bin_sdr_db(level_db: float, estimate: Any = rectified) -> float:
    """SDR of the voice in bins of one level, in dB."""
    return level_db - decibels(error_power(level_db, estimate))


def drawn_bin_sdr_db(level_db: float, estimate: Any = rectified, draws: int = 200_000) -> float:
    """The same by drawing phases instead of integrating over them."""
    phi = np.random.default_rng(0).uniform(0, 2 * np.pi, draws)
    r = 10 ** (level_db / 20)
    return level_db - decibels(float(np.mean(np.abs(estimate(r, phi) - r * np.exp(1j * phi)) ** 2)))


def signals() -> dict[str, tuple[Audio, Audio]]:
    """Music and voice, equally loud, by what they are."""
    rng = np.random.default_rng(3)
    frames = 10 * RATE
    noises = pink_noise(rng, 1, frames), pink_noise(rng, 1, frames)
    apart = [sum(tone(f, frames, amplitude=0.05, channels=1) for f in hz) for hz in ((440, 1320), (660, 1760))]
    music, voice = (part[:1] for part in song(rng, 10.0))
    found = {"two noises": noises, "a song": (music, voice), "tones that never meet": tuple(apart)}
    return {
        name: (music, (voice * np.sqrt(np.sum(music**2) / np.sum(voice**2))).astype(np.float32))
        for name, (music, voice) in found.items()
    }


def predicted_sdr_db(music: Audio, voice: Audio) -> float:
    """SDR of a whole signal from its magnitudes alone, as if phases were random."""
    spectra = [stft(part[0], RATE, nperseg=2048, noverlap=1536)[2] for part in (music, voice)]
    powers = [np.abs(spectrum) ** 2 for spectrum in spectra]
    known = np.arange(-80.0, 81.0, 2.0)
    levels = np.clip(10 * np.log10((powers[1] + 1e-20) / (powers[0] + 1e-20)), known[0], known[-1])
    errors = np.interp(levels, known, [10 * np.log10(error_power(float(level))) for level in known])
    return decibels(powers[1].sum() / (powers[0] * 10 ** (errors / 10)).sum())


def sdr_db(estimate: Audio, reference: Audio) -> float:
    """Of an estimate, in dB."""
    return decibels(float(np.sum(reference**2) / np.sum((estimate - reference) ** 2)))


# Lags: pink noise minus itself, late by so many frames


def residual_db(lag_frames: float) -> float:
    """What is left of pink noise, in dB of it, when it is subtracted from itself late: the closed form."""
    if lag_frames == 0:
        return -np.inf
    low, high = (2 * np.pi * hz / RATE * abs(lag_frames) for hz in PINK_HZ)
    span = np.log(high / low)
    return decibels(2 * (span - (sici(high)[1] - sici(low)[1])) / span)


def measured_residual_db(lag_frames: float) -> float:
    """The same of noise that is really delayed."""
    noise = _band_noise(4.0)
    return _left_db(fractional_delay(noise, lag_frames), noise)


def drifting_residual_db(drift_ppm: float, seconds: float = SONG_S) -> float:
    """What a drift leaves of a song whose lag is right in the middle, on average over the song."""
    most = drift_ppm * 1e-6 * RATE * seconds / 2
    power = quad(lambda lag: 10 ** (residual_db(lag) / 10) if lag else 0.0, 0, most, limit=200)[0] / most
    return decibels(power)


def measured_drifting_residual_db(drift_ppm: float, seconds: float = 10.0) -> float:
    """The same of noise that really drifts, in `seconds` as far as the song does in all of its length."""
    noise = _band_noise(seconds)
    ppm = drift_ppm * SONG_S / seconds
    late = resampled(noise, ppm)[:, : noise.shape[1]]
    centred = fractional_delay(late, -ppm * 1e-6 * RATE * seconds / 2)
    return _left_db(centred, noise[:, : centred.shape[1]])


def _band_noise(seconds: float) -> Audio:
    frames = round(seconds * RATE)
    spectrum = np.fft.rfft(pink_noise(np.random.default_rng(0), 1, frames)[0].astype(np.float64))
    hz = np.fft.rfftfreq(frames, 1 / RATE)
    spectrum[(hz < PINK_HZ[0]) | (hz > PINK_HZ[1])] = 0
    return np.fft.irfft(spectrum)[None].astype(np.float32)


def _left_db(late: Audio, noise: Audio) -> float:
    """Without the ends, where the sinc of a delay finds nothing."""
    inside = slice(RATE // 100, -RATE // 100)
    left = (late - noise)[:, inside].astype(np.float64)
    return decibels(float(np.sum(left**2) / np.sum(noise[:, inside].astype(np.float64) ** 2)))


# Tables


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(line)} |" for line in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def tables() -> dict[str, list[str]]:
    """The tables of each page, in their order."""
    sounds = signals()
    music, voice = sounds["a song"]
    derived = {name: derive_vocals(x + y, x, RATE, "half-wave").vocals for name, (x, y) in sounds.items()}
    by_transfer = derive_vocals(music + voice, music, RATE).vocals
    return {
        "why-half-wave-rectification-caps": [
            table(
                ["voice over music, dB", "closed form, dB", "drawn phases, dB", "true magnitude, dB"],
                [
                    [
                        str(level),
                        f"{bin_sdr_db(level):.1f}",
                        f"{drawn_bin_sdr_db(level):.1f}",
                        f"{bin_sdr_db(level, exact_magnitude):.1f}",
                    ]
                    for level in LEVELS_DB
                ],
            ),
            table(
                ["music and voice", "closed form over all bins, dB", "measured, dB"],
                [
                    [name, f"{predicted_sdr_db(*pair):.1f}", f"{sdr_db(derived[name], pair[1]):.1f}"]
                    for name, pair in sounds.items()
                ],
            ),
            table(
                ["method", "SDR of the song's vocals, dB"],
                [
                    ["`half-wave`", f"{sdr_db(derived['a song'], voice):.1f}"],
                    ["`transfer`", f"{sdr_db(by_transfer, voice):.0f}"],
                ],
            ),
        ],
        "what-a-lag-costs": [
            table(
                ["lag, samples", "closed form, dB", "measured, dB"],
                [[f"{lag:g}", f"{residual_db(lag):.1f}", f"{measured_residual_db(lag):.1f}"] for lag in LAGS],
            ),
            table(
                ["drift, ppm", "lag at both ends, samples", "closed form, dB", "measured, dB"],
                [
                    [
                        f"{ppm:g}",
                        f"±{ppm * 1e-6 * RATE * SONG_S / 2:.2g}",
                        f"{drifting_residual_db(ppm):.1f}",
                        f"{measured_drifting_residual_db(ppm):.1f}",
                    ]
                    for ppm in DRIFTS_PPM
                ],
            ),
        ],
    }


# Pictures


def draw_rectification(path: Path) -> None:
    """A bin as arrows, and the SDR of a bin over the voice's level."""
    figure, (arrows, curves) = plt.subplots(1, 2, figsize=(9.5, 3.9), width_ratios=(1, 1.35), layout="constrained")
    r, phi = 0.8, np.deg2rad(75)
    mixture = 1 + r * np.exp(1j * phi)
    found = rectified(r, phi)
    circle = np.exp(1j * np.linspace(-0.25, 1.15, 100))
    arrows.plot(circle.real, circle.imag, ":", color=QUIET)
    for start, end, color, style in (
        (0, 1, MUSIC, "-"),
        (1, mixture, VOICE, "-"),
        (0, mixture, MIXTURE, "-"),
        (mixture - found, mixture, VOICE, "--"),
    ):
        arrows.annotate(
            "",
            (np.real(end), np.imag(end)),
            (np.real(start), np.imag(start)),
            arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.2, "ls": style, "shrinkA": 0, "shrinkB": 0},
        )
    arrows.text(0.5, -0.1, "music", color=MUSIC, ha="center")
    arrows.text(1.16, 0.38, "voice", color=VOICE)
    arrows.text(0.36, 0.42, "mixture", color=MIXTURE, ha="right")
    arrows.annotate(
        "what is found:\ntoo short, and turned",
        ((mixture - found / 2).real, (mixture - found / 2).imag),
        (0.1, 0.98),
        color=VOICE,
        arrowprops={"arrowstyle": "-", "color": VOICE, "lw": 0.7},
    )
    arrows.set(aspect="equal", xlim=(-0.08, 1.5), ylim=(-0.25, 1.15), title="One bin")
    arrows.axis("off")

    levels = np.linspace(-30, 40, 57)
    drawn = np.arange(-30, 41, 5)
    curves.plot(levels, [bin_sdr_db(float(level)) for level in levels], color=VOICE, lw=2.2, label="half-wave")
    curves.plot(
        drawn, [drawn_bin_sdr_db(float(level)) for level in drawn], "o", color=VOICE, ms=4, label="drawn phases"
    )
    curves.plot(
        levels,
        [bin_sdr_db(float(level), exact_magnitude) for level in levels],
        "--",
        color=MIXTURE,
        lw=1.5,
        label="true magnitude, mixture's phase",
    )
    curves.plot(levels, levels - decibels(2), ":", color=QUIET, lw=1.5, label="level - 3 dB")
    curves.axhline(decibels(4 / 3), color=QUIET, lw=1)
    curves.text(40, decibels(4 / 3) + 0.9, "4/3 = 1.2 dB", color=MIXTURE, ha="right")
    curves.set(
        xlabel="voice over music in the bin, dB",
        ylabel="SDR of the voice, dB",
        ylim=(-5, 42),
        xlim=(-30, 40),
        title="All bins of one level",
    )
    curves.legend(frameon=False, loc="upper left")
    _save(figure, path)


def draw_lags(path: Path) -> None:
    """What is left over the lag, and over a song whose clock drifts."""
    figure, (lags, songs) = plt.subplots(1, 2, figsize=(9.5, 3.7), sharey=True, layout="constrained")
    frames = np.geomspace(0.003, 3, 50)
    lags.semilogx(frames, [residual_db(float(lag)) for lag in frames], color=MUSIC, lw=2.2, label="closed form")
    lags.semilogx(LAGS, [measured_residual_db(lag) for lag in LAGS], "o", color=MUSIC, ms=5, label="measured")
    lags.semilogx(
        frames[[0, -1]],
        20 * np.log10(frames[[0, -1]]) + residual_db(1e-4) + 80,
        ":",
        color=QUIET,
        label="6 dB a doubling",
    )
    for lag, text in ((0.02, "stemloom's aim"), (0.5, "half a sample, the\nworst of whole lags")):
        lags.annotate(
            text,
            (lag, residual_db(lag)),
            (lag * 1.5, residual_db(lag) - 13),
            color=MIXTURE,
            arrowprops={"arrowstyle": "-", "color": QUIET, "shrinkB": 5},
        )
    lags.set(xlabel="lag, samples at 44.1 kHz", ylabel="what is left of the music, dB", ylim=(-58, 5))
    lags.legend(frameon=False, loc="upper left")
    away = np.linspace(0.5, np.sqrt(SONG_S / 2), 20) ** 2
    seconds = SONG_S / 2 + np.concatenate([-away[::-1], [0], away])
    for ppm, shade in zip(DRIFTS_PPM, (0.35, 0.55, 0.8, 1.0), strict=True):
        left = [residual_db(max(abs(s - SONG_S / 2) * ppm * 1e-6 * RATE, 1e-4)) for s in seconds]
        songs.plot(seconds / 60, left, color=MUSIC, alpha=shade, lw=2)
        songs.text(SONG_S / 60 + 0.05, left[-1], f"{ppm:g} ppm", color=MUSIC, va="center")
    songs.set(xlabel="minutes of a song that is aligned in its middle", xlim=(0, SONG_S / 60))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        if axes.axison:
            axes.grid(color="#eeeeee")
    figure.savefig(path, metadata={"Date": None})
    # a hundredth of a point is enough, and half the file
    text = re.sub(
        r'd="[^"]*"', lambda data: re.sub(r"(\.\d\d)\d+", r"\1", data[0]), path.read_text(encoding="utf-8")
    )
    path.write_text(text, encoding="utf-8")
    plt.close(figure)


PICTURES = {"half-wave.svg": draw_rectification, "lag.svg": draw_lags}


if __name__ == "__main__":
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "stemloom", "svg.fonttype": "path", "axes.titlesize": 11})
    for name, draw in PICTURES.items():
        draw(HOME / "images" / name)
    for page, found in tables().items():
        sys.stdout.write(f"\n{page}\n\n" + "\n\n".join(found) + "\n")
