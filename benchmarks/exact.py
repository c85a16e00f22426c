"""How exactly `curation.alignment.align` finds a lag and a drift that are known to the last digit.

    python benchmarks/exact.py CATALOG [--songs 6] [--seconds 90]

CATALOG has `truth/stems/<song>_{instrumental,vocals}.ogg`. Each case takes a song's instrumental m(t), makes the
instrumental release y(k) = m((k - lag) / (1 + drift)) by band-limited interpolation in double precision (a Kaiser
sinc of 256 taps, independent of the resampler that the aligner uses), and the mixture x(t) = gain * polarity *
m(t) + vocals, the vocals as loud as the instrumental (0 dB). Both go through one codec and back. Decoders cut the
encoder's delay; what is left of it is measured and taken into account. Prints Markdown: errors in samples and ppm
by codec and drift; then SI-SDR of the vocals by codec for pairs with an equaliser of +-3 dB in each release.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import av
import numpy as np
import pandas as pd
import scipy.signal
import soundfile

from benchmarks.catalog import shelf, si_sdr
from curation.alignment import align, render
from curation.derivation import METHODS, derive_vocals
from manifests.audio import read

DRIFTS_PPM = (0.0, 3.0, 40.0, 300.0)
CODECS = ("none", "mp3 128", "aac 128", "opus 96")
# libsndfile's compression levels that give these bit rates
LEVELS = {"mp3 320": 0.0, "mp3 128": 0.65, "opus 96": 0.83}
TAPS, PHASES = 256, 4096
# one kernel for every 1/4096 of a frame; linear interpolation between them is exact to 1e-8
_DISTANCE = np.arange(-TAPS // 2 + 1, TAPS // 2 + 1)[None] - (np.arange(PHASES + 2) / PHASES)[:, None]
KERNELS = np.sinc(_DISTANCE) * np.i0(12 * np.sqrt(np.clip(1 - (2 * _DISTANCE / TAPS) ** 2, 0, 1))) / np.i0(12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--songs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    stems = options.catalog / "truth/stems"
    songs = sorted(path.name.removesuffix("_vocals.ogg") for path in stems.glob("*_vocals.ogg"))
    songs = songs[:: max(1, len(songs) // options.songs)][: options.songs]
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    vocals: list[dict[str, object]] = []
    for song in songs:
        music, rate = excerpt(stems / f"{song}_instrumental.ogg", options.seconds)
        voice, _ = excerpt(stems / f"{song}_vocals.ogg", options.seconds)
        voice = voice[:, : music.shape[1]] * (rms(music) / rms(voice))
        for drift_ppm in DRIFTS_PPM:
            lag = float(rng.uniform(-2 * rate, 2 * rate))
            release = shifted(music, lag, drift_ppm)
            polarity, gain = rng.choice([-1, 1]), 10 ** (rng.uniform(-6, 6) / 20)
            mixture = gain * polarity * music
            mixture[:, : voice.shape[1]] += gain * voice
            scale = 0.5 / max(np.abs(mixture).max(), np.abs(release).max())
            for codec in CODECS:
                x, delay = through(mixture * scale, codec, rate)
                y, _ = through(release * scale, codec, rate)
                found = align(x, y, rate)
                expected = lag - delay * drift_ppm * 1e-6
                middle = x.shape[1] / 2
                error = found.lag_frames - expected + middle * (found.drift_ppm - drift_ppm) * 1e-6
                rows.append(
                    {
                        "codec": codec,
                        "drift_ppm": drift_ppm,
                        "lag": abs(error),
                        "drift": abs(found.drift_ppm - drift_ppm),
                        "polarity": found.polarity == polarity,
                    }
                )
        vocals += vocals_rows(song, music, voice, rate, rng)
    print_alignment(pd.DataFrame(rows))
    print_vocals(pd.DataFrame(vocals))


def vocals_rows(
    song: str, music: np.ndarray, voice: np.ndarray, rate: int, rng: np.random.Generator
) -> list[dict[str, object]]:
    """SI-SDR of both methods' vocals, when mixture and instrumental have equalisers of their own."""
    filters = [
        np.vstack(
            [shelf(kind, f, rng.uniform(-3, 3)) for kind, f in (("low", 140), ("peak", 1500), ("high", 7000))]
        )
        for _ in range(2)
    ]
    mixture = np.pad(voice, ((0, 0), (0, music.shape[1] - voice.shape[1]))) + music
    heard = scipy.signal.sosfilt(filters[0], mixture, axis=1)
    release = scipy.signal.sosfilt(filters[1], shifted(music, 1234.56, 12.0), axis=1)
    expected = scipy.signal.sosfilt(filters[0], mixture - music, axis=1)
    scale = 0.5 / max(np.abs(heard).max(), np.abs(release).max())
    rows: list[dict[str, object]] = []
    for codec in ("16 bit", "mp3 320", "mp3 128", "aac 128", "opus 96"):
        x, delay = through(heard * scale, codec, rate)
        y, _ = through(release * scale, codec, rate)
        alignment = align(x, y, rate)
        segment = alignment.longest
        accompaniment = render(y, rate, rate, alignment)[alignment.segments.index(segment)]
        true = expected[:, segment.start_frame - delay : segment.end_frame - delay]
        for method in METHODS:
            derived = derive_vocals(x[:, segment.start_frame : segment.end_frame], accompaniment, rate, method)
            frames = min(true.shape[1], derived.vocals.shape[1])
            value = si_sdr(derived.vocals[:, :frames], true[:, :frames])
            rows.append({"song": song, "codec": codec, "method": method, "si_sdr": value})
    return rows


def print_vocals(table: pd.DataFrame) -> None:
    median = table.pivot_table(index="codec", columns="method", values="si_sdr", aggfunc="median", sort=False)
    print("\n| codec of both | songs | vocals SI-SDR, dB: half-wave | transfer | difference |")
    print("|---|---|---|---|---|")
    for codec, row in median.iterrows():
        print(
            f"| {codec} | {table['song'].nunique()} | {row['half-wave']:.1f} | {row['transfer']:.1f} | "
            f"{row['transfer'] - row['half-wave']:+.1f} |"
        )


def print_alignment(table: pd.DataFrame) -> None:
    print(
        "| codec | true drift, ppm | cases | lag error, samples: median | worst "
        "| drift error, ppm: median | worst | polarity right |"
    )
    print("|---|---|---|---|---|---|---|---|")
    groups = [((c, f"{d:g}"), part) for (c, d), part in table.groupby(["codec", "drift_ppm"], sort=False)]
    for (codec, drift), part in [*groups, (("all", "all"), table)]:
        print(
            f"| {codec} | {drift} | {len(part)} | {part['lag'].median():.4f} | {part['lag'].max():.4f} | "
            f"{part['drift'].median():.4f} | {part['drift'].max():.4f} | {part['polarity'].mean():.2f} |"
        )


def excerpt(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """The middle of a stem, band-limited to 0.42 of the rate so that interpolation is exact."""
    audio, rate = read(path)
    frames = min(audio.shape[1], round(seconds * rate))
    start = (audio.shape[1] - frames) // 2
    lowpass = scipy.signal.firwin(511, 0.42 * rate, fs=rate)
    return scipy.signal.oaconvolve(
        audio[:, start : start + frames].astype(np.float64), lowpass[None], "same", axes=1
    ), rate


def shifted(music: np.ndarray, lag: float, drift_ppm: float) -> np.ndarray:
    """y(k) = m((k - lag) / (1 + drift)), zero outside, for k from 0 to the end of the music."""
    speed = 1 + drift_ppm * 1e-6
    frames = int(music.shape[1] * speed + max(lag, 0)) + 1
    out = np.zeros((music.shape[0], frames))
    padded = np.pad(music, ((0, 0), (TAPS, TAPS)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, TAPS, axis=1)
    for start in range(0, frames, 1 << 14):
        position = (np.arange(start, min(start + (1 << 14), frames)) - lag) / speed
        whole = np.floor(position).astype(int)
        inside = (whole > -TAPS // 2) & (whole < music.shape[1] + TAPS // 2)
        if not inside.any():
            continue
        at = (position - whole) * PHASES
        phase = at.astype(int)
        kernel = KERNELS[phase] + (at - phase)[:, None] * (KERNELS[phase + 1] - KERNELS[phase])
        first = np.clip(whole + TAPS // 2 + 1, 0, windows.shape[1] - 1)
        for channel in range(music.shape[0]):
            value = np.einsum("nt,nt->n", windows[channel, first], kernel)
            out[channel, start : start + len(position)] = value * inside
    return out


def through(audio: np.ndarray, codec: str, rate: int) -> tuple[np.ndarray, int]:
    """Audio through a codec and back, and the delay that the decoder leaves, in frames."""
    audio = audio.astype(np.float32)
    if codec == "none":
        return audio, 0
    if codec == "16 bit":
        return np.round(audio * 32768).astype(np.float32) / 32768, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{ {'mp3': 'mp3', 'aac': 'm4a', 'opus': 'opus'}[codec.split()[0]] }")
        if codec == "aac 128":
            write_aac(path, audio, rate)
        else:
            # Opus knows 48 kHz only: the same frames are called 48 kHz, which changes nothing for the aligner
            form = ("OGG", "OPUS", 48_000) if codec.startswith("opus") else ("MP3", "MPEG_LAYER_III", rate)
            mode = {} if codec.startswith("opus") else {"bitrate_mode": "CONSTANT"}
            with soundfile.SoundFile(
                path, "w", form[2], audio.shape[0], form[1], format=form[0], compression_level=LEVELS[codec], **mode
            ) as file:
                for start in range(0, audio.shape[1], form[2]):
                    file.write(audio[:, start : start + form[2]].T)
        decoded, _ = read(path)
    start = int(np.argmax(np.abs(audio[0]) > 0.01))
    window = slice(start + 20_000, start + 20_000 + (1 << 16))
    a, b = audio[0, window], decoded[0, window.start - 4096 : window.stop + 4096]
    delay = int(np.argmax(np.abs(scipy.signal.correlate(b, a, "valid", "fft")))) - 4096
    return decoded, delay


def write_aac(path: Path, audio: np.ndarray, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo", bit_rate=128_000)
        for start in range(0, audio.shape[1], 1024):
            block = np.ascontiguousarray(audio[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate = rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(audio**2)))


if __name__ == "__main__":
    main()
