"""One chosen pair to three files: mixture, instrumental and vocals that sum to the last bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from builders.engine import Needs
from builders.scan import FoundFile, read_found
from builders.stage import Product, plain
from curation.alignment import Alignment, Segment, render
from curation.derivation import Method, derive_vocals
from manifests.audio import Audio, content_id, quantise, write
from manifests.corpus import CORPUS_ROOT
from manifests.errors import AudioError
from manifests.loudness import loudness_lufs

DERIVE_VERSION = 2
DERIVE_NEEDS = Needs(memory_bytes=1_200_000_000)
"""Two releases of 5 minutes."""

_JOIN_FADE_S = 0.01
_CEILING = np.float32(0.999)
_ACTIVE_DB = -60.0


@dataclass(frozen=True)
class TripletItem:
    """A chosen pair: its files, and how they align."""

    mixture: FoundFile
    instrumental: FoundFile
    out: str
    song_id: str
    pair_id: str
    segments: str
    drift_ppm: float
    polarity: int

    @property
    def content_ids(self) -> tuple[str, ...]:
        """Everything that the triplet depends on besides the recipe."""
        alignment = f"{self.segments} {self.drift_ppm!r} {self.polarity}"
        return (self.mixture.content_id, self.instrumental.content_id, self.song_id, alignment)


def write_triplet(
    item: TripletItem,
    method: Method,
    target_lufs: float | None,
    audio_format: Literal["flac", "wav"],
    bit_depth: Literal[16, 24],
) -> Product:
    """Derive the vocals of a pair and write its three stems.

    The song is the pair's common stretches, end to end: where an edit has removed bars, the cut is faded over
    10 ms in all stems alike. One gain for all stems keeps every sample within full scale (and brings the mixture
    to `target_lufs`). Vocals and instrumental are rounded to the file's grid first and the mixture is their sum,
    so that the sum holds exactly.

    Parameters
    ----------
    item : TripletItem
    method : {'transfer', 'half-wave'}
    target_lufs : float or None
        The mixture's loudness; None leaves it as released.
    audio_format : {'flac', 'wav'}
    bit_depth : {16, 24}

    Returns
    -------
    Product
        ``stems``: three rows of the stems table, without what the tracks table knows.

    Raises
    ------
    AudioError
        If a file cannot be decoded any more, or has changed.
    BuildError
        If the disk refuses.
    """
    stems, sample_rate, residual_db = _take_apart(item, method)
    gain = _gain(stems, sample_rate, target_lufs)
    written = {name: quantise(stems.pop(name) * gain, bit_depth) for name in ("instrumental", "vocals")}
    written = {"mixture": written["instrumental"] + written["vocals"], **written}
    rows = []
    for name, audio in written.items():
        path = PurePosixPath("audio", item.song_id, f"{name}.{audio_format}")
        write(Path(item.out, *path.parts), audio, sample_rate, bit_depth)
        rows.append(
            {
                "song_id": item.song_id,
                "stem": name,
                "root": CORPUS_ROOT,
                "path": str(path),
                "num_frames": audio.shape[1],
                "sample_rate": sample_rate,
                "channels": audio.shape[0],
                "split": None,
                "provenance": "derived",
                "method": "release" if name == "mixture" else method if name == "vocals" else f"mixture - {method}",
                "parents": ";".join((item.mixture.content_id, item.instrumental.content_id)),
                **levels(audio, sample_rate),
                "residual_db": plain(residual_db),
                "audit": "unheard",
                "gain_db": plain(20 * np.log10(float(gain))),
                "pair_id": item.pair_id,
                "content_id": content_id(Path(item.out, *path.parts)),
            }
        )
    return Product({"stems": rows})


def _take_apart(item: TripletItem, method: Method) -> tuple[dict[str, Audio], int, float]:
    """Vocals and instrumental of the pair's common stretches, end to end, their rate, and the residual in dB."""
    mixture, sample_rate = read_found(item.mixture)
    instrumental, instrumental_rate = read_found(item.instrumental)
    segments = tuple(Segment(int(a), int(b), float(lag)) for a, b, lag in json.loads(item.segments))
    segments = tuple(segment for segment in segments if segment.num_frames > 0)
    alignment = Alignment(segments, item.drift_ppm, item.polarity, 0.0, 0.0, 0.0)
    accompaniments = render(instrumental, instrumental_rate, sample_rate, alignment)
    del instrumental
    frames = np.array([segment.num_frames for segment in segments])
    ends = np.cumsum(frames)
    vocals = np.empty((mixture.shape[0], int(ends[-1])), np.float32)
    rest = np.empty_like(vocals)
    residuals = []
    for number, (segment, accompaniment) in enumerate(zip(segments, accompaniments, strict=True)):
        heard = mixture[:, segment.start_frame : segment.end_frame]
        derived = derive_vocals(heard, accompaniment[:, : heard.shape[1]], sample_rate, method)
        fade = _join_fade(heard.shape[1], sample_rate, number > 0, number < len(segments) - 1)
        place = slice(int(ends[number] - frames[number]), int(ends[number]))
        np.multiply(derived.vocals, fade, out=vocals[:, place])
        np.multiply(derived.instrumental, fade, out=rest[:, place])
        residuals.append(derived.residual_db)
    return {"vocals": vocals, "instrumental": rest}, sample_rate, float(np.average(residuals, weights=frames))


def is_whole(out: Path, value: dict[str, Any]) -> bool:
    """Whether the files of a cached triplet are still there, byte for byte."""
    for row in value["stems"]:
        path = Path(out, *PurePosixPath(row["path"]).parts)
        try:
            if content_id(path) != row["content_id"]:
                return False
        except AudioError:
            return False
    return True


def _join_fade(frames: int, sample_rate: int, fade_in: bool, fade_out: bool) -> npt.NDArray[np.float32]:
    fade = np.ones(frames, np.float32)
    width = min(frames // 2, round(_JOIN_FADE_S * sample_rate))
    if fade_in:
        fade[:width] = np.linspace(0, 1, width, dtype=np.float32)
    if fade_out:
        fade[frames - width :] = np.linspace(1, 0, width, dtype=np.float32)
    return fade


def _gain(stems: dict[str, Audio], sample_rate: int, target_lufs: float | None) -> np.float32:
    """One gain for the song: to the target loudness, and never past full scale."""
    mixture = stems["vocals"] + stems["instrumental"]
    peak = max(float(np.abs(audio).max()) for audio in (mixture, *stems.values()))
    gain = 1.0
    if target_lufs is not None:
        gain = 10 ** ((target_lufs - loudness_lufs(mixture, sample_rate)) / 20)
    return np.float32(min(gain, float(_CEILING) / max(peak, 1e-9)))


def levels(audio: Audio, sample_rate: int) -> dict[str, float | None]:
    """A stem's level columns of the stems table: `rms`, `loudness_lufs`, `active_fraction`."""
    window = max(1, sample_rate // 20)
    whole = audio.shape[1] // window * window
    powers = np.square(audio[:, :whole], dtype=np.float32).reshape(audio.shape[0], -1, window).mean(axis=(0, 2))
    rms = float(np.sqrt(np.mean([np.vdot(channel, channel) for channel in audio]) / audio.shape[1]))
    return {
        "rms": rms,
        "loudness_lufs": plain(loudness_lufs(audio, sample_rate)) if rms > 0 else None,
        "active_fraction": float((powers > 10 ** (_ACTIVE_DB / 10)).mean()) if len(powers) else 0.0,
    }
