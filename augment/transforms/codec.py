"""Lossy codecs: audio goes through a real encoder and comes back, in memory, at its place and of its length.

Encoders are libsndfile's: LAME for MP3, libvorbis, libopus. Each target is coded by itself, channels in pairs.
They take floating point: what is beyond full scale is not clipped.

- mp3: constant bitrate, one of the standard ones (the nearest one to what was drawn). LAME notes its delay in the
  file and the decoder takes it off; at low bitrates the note does not fit, the delay of 1105 frames stays, and is
  taken off here.
- vorbis: variable bitrate. The drawn one is the nominal bitrate of that quality for stereo at 44.1 kHz.
- opus: at 48 kHz, as Opus always is, with a resampling before and after for other rates. Below about 64 kbit/s
  its low band goes through another coder, which is up to 4 frames (at 48 kHz) off, not always the same: that stays.

A codec that does not know a sample rate gets 48 kHz.

References
----------
Nominal bitrates of Vorbis: libvorbis 1.3, `lib/modes/setup_44.h`. MP3: ISO/IEC 11172-3 and 13818-3, table of
bitrates.
"""

from __future__ import annotations

import io
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from pydantic import Field, model_validator

from augment.distributions import draw_uniform
from augment.transforms.rule import Range, Rule, Scene, Stack, within

__all__ = ["Codec", "coded_bitrate", "encoded", "mp3_bitrates"]

Name = Literal["mp3", "vorbis", "opus"]
_FORMATS = {"mp3": ("MP3", "MPEG_LAYER_III"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATE = 48000
_MP3_DELAY = 1105
_MPEG_1 = (40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2 = (16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_25 = (16, 24, 32, 40, 48, 56, 64)
# libsndfile turns a level of 0 to 1 into a bitrate between these.
_MP3_SPANS = {_MPEG_1: (320, 32), _MPEG_2: (160, 8), _MPEG_25: (64, 8)}
_OPUS_SPAN = (256, 6)
_VORBIS_KBPS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)
_BLOCK_FRAMES = 1 << 14

Audio = npt.NDArray[np.float32]


class Codec(Rule):
    """Encode and decode."""

    codecs: dict[Name, Annotated[float, Field(ge=0)]] = Field(default={"mp3": 1.0})
    """How often each is drawn, relative to the others."""

    bitrate_kbps: Annotated[Range, within(8, 512)] = (64.0, 320.0)
    """Of stereo, drawn uniformly; mono gets half of it."""

    @model_validator(mode="after")
    def _refuse_no_codec(self) -> Self:
        if not sum(self.codecs.values()) > 0:
            raise ValueError("codecs: all weigh 0; give one of them a weight above 0")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `codec` and `bitrate_kbps`."""
        shares = np.array(list(self.codecs.values()))
        codec = list(self.codecs)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        return {"codec": codec, "bitrate_kbps": draw_uniform(rng, self.bitrate_kbps)}

    @staticmethod
    def apply(stack: Stack, sample_rate: int, *, codec: Name, bitrate_kbps: float) -> Stack:
        """Code each target, two channels at a time."""
        for audio in stack:
            for first in range(0, audio.shape[0], 2):
                audio[first : first + 2] = _round_trip(audio[first : first + 2], sample_rate, codec, bitrate_kbps)
        return stack


def mp3_bitrates(sample_rate: int) -> tuple[int, ...]:
    """Bitrates in kbit/s that MP3 has at a sample rate.

    Parameters
    ----------
    sample_rate : int
        8,000 to 48,000 Hz.

    Returns
    -------
    tuple of int
        Ascending.
    """
    return _MPEG_1 if sample_rate >= 32000 else _MPEG_2 if sample_rate >= 16000 else _MPEG_25


def coded_bitrate(codec: Name, sample_rate: int, channels: int, bitrate_kbps: float) -> float:
    """The bitrate that is asked of an encoder.

    Parameters
    ----------
    codec : {'mp3', 'vorbis', 'opus'}
    sample_rate : int
        In Hz, one that the codec has.
    channels : int
        1 or 2.
    bitrate_kbps : float
        As drawn: of stereo.

    Returns
    -------
    float
        In kbit/s.
    """
    wanted = bitrate_kbps * channels / 2.0
    if codec == "mp3":
        return min(mp3_bitrates(sample_rate), key=lambda standard: abs(standard - wanted))
    if codec == "vorbis":
        return min(max(wanted, _VORBIS_KBPS[0] * channels / 2.0), _VORBIS_KBPS[-1] * channels / 2.0)
    high, low = _OPUS_SPAN
    return min(max(wanted, low * channels), high * channels)


def _level(codec: Name, sample_rate: int, channels: int, kbps: float) -> float:
    """What libsndfile calls the compression level: 0 is the best quality, 1 the smallest file."""
    if codec == "mp3":
        high, low = _MP3_SPANS[mp3_bitrates(sample_rate)]
        return (high - kbps) / (high - low)
    if codec == "vorbis":
        return 1.0 - float(np.interp(kbps * 2.0 / channels, _VORBIS_KBPS, np.linspace(0.0, 1.0, len(_VORBIS_KBPS))))
    high, low = _OPUS_SPAN
    return (high - kbps / channels) / (high - low)


def encoded(audio: Audio, sample_rate: int, codec: Name, bitrate_kbps: float) -> bytes:
    """Audio as a file in memory.

    Parameters
    ----------
    audio : np.ndarray of float32 [shape=(channels, frames)]
        One or two channels, at least one frame.
    sample_rate : int
        In Hz, one that the codec has.
    codec : {'mp3', 'vorbis', 'opus'}
    bitrate_kbps : float
        As drawn: of stereo.

    Returns
    -------
    bytes
    """
    channels = audio.shape[0]
    kind, subtype = _FORMATS[codec]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file,
        "w",
        samplerate=sample_rate,
        channels=channels,
        format=kind,
        subtype=subtype,
        compression_level=_level(
            codec, sample_rate, channels, coded_bitrate(codec, sample_rate, channels, bitrate_kbps)
        ),
        bitrate_mode="CONSTANT" if codec == "mp3" else None,
    ) as encoder:
        # libvorbis puts a block on the stack: a long one overflows it.
        for start in range(0, audio.shape[1], _BLOCK_FRAMES):
            encoder.write(np.ascontiguousarray(audio[:, start : start + _BLOCK_FRAMES].T))
    return file.getvalue()


def _round_trip(audio: Audio, sample_rate: int, codec: Name, bitrate_kbps: float) -> Audio:
    num_frames = audio.shape[-1]
    if not audio.any():
        return audio
    known = (_OPUS_RATE,) if codec == "opus" else _MP3_RATES
    coded_rate = sample_rate if sample_rate in known else _OPUS_RATE
    sent = audio if coded_rate == sample_rate else _resampled(audio, sample_rate, coded_rate)
    data = encoded(sent, coded_rate, codec, bitrate_kbps)
    back = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
    if codec == "mp3" and back.shape[-1] > sent.shape[-1]:
        back = back[:, _MP3_DELAY:]
    back = _fitted(back, sent.shape[-1])
    if coded_rate != sample_rate:
        back = _resampled(back, coded_rate, sample_rate)
    return _fitted(back, num_frames)


def _resampled(audio: Audio, old_rate: int, new_rate: int) -> Audio:
    resampled: Audio = soxr.resample(np.ascontiguousarray(audio.T), old_rate, new_rate, "VHQ").T
    # At least one frame must go on, and a very short signal can come out of the resampler as none.
    return resampled if resampled.shape[-1] else np.zeros((audio.shape[0], 1), np.float32)


def _fitted(audio: Audio, num_frames: int) -> Audio:
    missing = max(0, num_frames - audio.shape[-1])
    return np.pad(audio[:, :num_frames], ((0, 0), (0, missing)))
