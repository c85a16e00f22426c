"""How the demo's masters become files, and what a codec did to them on the way.

Audio is float32, shape ``(2, frames)``; a master is at `SAMPLE_RATE`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
import soxr

from builders.demo.instruments import SAMPLE_RATE
from builders.demo.performance import Audio
from builders.demo.tags import write_tags
from manifests.errors import AudioError

CODECS: dict[str, tuple[str, str, str, float | None]] = {
    # name: suffix, container, subtype, compression level (0 is the best quality)
    "flac": (".flac", "FLAC", "PCM_16", None),
    "wav": (".wav", "WAV", "PCM_16", None),
    "wav24": (".wav", "WAV", "PCM_24", None),
    "mp3-320": (".mp3", "MP3", "MPEG_LAYER_III", 0.0),
    "mp3-192": (".mp3", "MP3", "MPEG_LAYER_III", 0.4),
    "mp3-112": (".mp3", "MP3", "MPEG_LAYER_III", 0.7),
    "vorbis-high": (".ogg", "OGG", "VORBIS", 0.2),
    "vorbis": (".ogg", "OGG", "VORBIS", 0.6),
    "opus": (".opus", "OGG", "OPUS", 0.7),
}


@dataclass(frozen=True)
class Release:
    """How a master becomes a file: lead-in and tail of silence, clock error, gain, polarity and labels.

    `path` is POSIX and relative to the library; `tags` are those of `write_tags`; `codec` is a key of
    `CODECS`.
    """

    path: str
    tags: dict[str, str]
    codec: str
    sample_rate: int
    lead_frames: int
    tail_frames: int
    drift_ppm: float
    polarity: int
    gain_db: float


@dataclass(frozen=True)
class Written:
    """A release as soundfile decodes it: its delay in frames and its gain in dB, the codec's contained."""

    release: Release
    delay_frames: int
    gain_db: float


def _rendered(release: Release, master: Audio) -> Audio:
    """What goes into the encoder: the master at the release's rate, clock, gain, polarity and lead-in."""
    audio = master
    if release.sample_rate != SAMPLE_RATE or release.drift_ppm:
        rate = release.sample_rate * (1.0 + release.drift_ppm * 1e-6)
        audio = soxr.resample(np.ascontiguousarray(master.T), SAMPLE_RATE, rate, "VHQ").T
    audio = audio * np.float32(release.polarity * 10 ** (release.gain_db / 20))
    return np.pad(audio, ((0, 0), (release.lead_frames, release.tail_frames)))


def write_release(library: Path, release: Release, master: Audio) -> Written:
    """Encode, tag and measure one release."""
    path = library / release.path
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = _rendered(release, master)
    encode(path, audio, release.sample_rate, release.codec)
    delay, gain_db = 0, 0.0
    if not release.codec.startswith(("flac", "wav")):
        decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
        if len(decoded) != audio.shape[-1]:
            raise AudioError(
                f"{path}: {len(decoded)} frames came back of {audio.shape[-1]}; is libsndfile 1.2.2 or later?"
            )
        delay, gain_db = _measured(audio, decoded.T)
    write_tags(path, release.tags)
    return Written(release, delay, release.gain_db + gain_db)


def encode(path: Path, audio: Audio, sample_rate: int, codec: str) -> None:
    """Write audio with one of the demo's codecs."""
    _, container, subtype, level = CODECS[codec]
    frames = np.ascontiguousarray(audio.T)
    with soundfile.SoundFile(
        path, "w", sample_rate, 2, format=container, subtype=subtype, compression_level=level
    ) as file:
        # libsndfile crashes on a long Vorbis file that is written at once.
        for start in range(0, len(frames), sample_rate):
            file.write(frames[start : start + sample_rate])


def _measured(source: Audio, decoded: Audio) -> tuple[int, float]:
    """Delay (frames) and gain (dB) of a codec, from what went in and what came out.

    The codecs are linear in phase (Opus but for a high pass at 3 Hz), so the delay is a whole number. The
    gain is that of the strongest partials: least squares over everything would count what the codec left out
    as attenuation.
    """
    frames = min(source.shape[-1], 1 << 19)
    first = (source.shape[-1] - frames) // 2
    spans = [audio[:, first : first + frames].mean(axis=0) * np.hanning(frames) for audio in (source, decoded)]
    size = scipy.fft.next_fast_len(2 * frames, real=True)
    before, after = (scipy.fft.rfft(span.astype(np.float64), size) for span in spans)
    peak = int(np.argmax(scipy.fft.irfft(np.conj(before) * after, size)))
    delay = peak if peak < size // 2 else peak - size
    after = after * np.exp(2j * np.pi * delay / size * np.arange(len(after)))
    low, high = round(200 / 44100 * size), round(4000 / 44100 * size)
    power = np.abs(before[low:high]) ** 2
    strong = power > np.partition(power, -500)[-500]
    cross = (np.conj(before[low:high]) * after[low:high]).real
    return delay, float(20 * np.log10(cross[strong].sum() / power[strong].sum()))


def write_vocals(path: Path, mixture: Written, vocals: Audio) -> None:
    """Write the vocals as they are heard in the mixture's file, as 24-bit WAV of the same rate and length."""
    release = replace(mixture.release, gain_db=mixture.gain_db)
    audio = _rendered(release, vocals)
    if mixture.delay_frames:
        audio = np.roll(audio, mixture.delay_frames, axis=-1)
    encode(path, audio, release.sample_rate, "wav24")
