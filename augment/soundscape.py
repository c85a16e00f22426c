"""A soundscape of scaper, as it stands in a JAMS annotation, as events and steps of a plan.

What scaper 1.6.5 does with an event when it renders (`Scaper._generate_audio`), and what stands for it here:

- the crop is frames ``int(source_time * rate)`` to ``int((source_time + event_duration) * rate)`` of the file, or
  to its end: `source_start_frame`, `num_frames`;
- a background that is too short is repeated: an event for each repetition;
- SoX brings it to the soundscape's rate (`rate -h`) and channels: the renderer does (soxr HQ is that resampler);
- SoX shifts the pitch of foreground sounds and stretches them: steps `repitch` and `tempo`, of another algorithm;
- its loudness is measured, that of a sound below 0.5 s on repetitions of it, and brought to `ref_db` (background)
  or `ref_db + snr` (foreground): `gain_db`. The measurement is made here, once, since a renderer decides nothing;
- foreground sounds are faded in and out: step `fade`;
- it starts at ``int(sr * event_time)``, and is cut at the soundscape's end: `offset_frame`, `length_frames`;
- the sum is scaled to a peak of 1, always (`peak_normalization`) or if it passes 1 (`fix_clipping`): step `peak`;
- `reverb` is SoX's, and nothing stands for it: it is left out, with a warning in the log.

References
----------
J. Salamon, D. MacConnell, M. Cartwright, P. Li, J. P. Bello, "Scaper: a library for soundscape synthesis and
augmentation", WASPAA 2017. Loudness: pyloudnorm's default filters, as scaper calls it.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from augment.plan import Event, Step
from augment.render import Reader, sound
from manifests.audio import Audio, AudioInfo, probe
from manifests.decoders import MAX_CHANNELS
from manifests.errors import TableError
from manifests.paths import resolve

__all__ = ["Soundscape", "events_of", "fade_step", "loudness_of", "sounding", "soundscape_of"]

log = logging.getLogger(__name__)

_SHORTEST_S = 0.5
_SILENCE_LUFS = -70.0


@dataclasses.dataclass(frozen=True)
class Soundscape:
    """What a JAMS annotation of the namespace `scaper` says of a soundscape.

    Attributes
    ----------
    origin : str
        The file, for messages.
    settings : mapping
        Its sandbox.
    values : sequence of mapping
        Of its events, in their order.
    """

    origin: str
    settings: Mapping[str, Any]
    values: Sequence[Mapping[str, Any]]

    def setting(self, name: str, default: Any = None) -> Any:
        """A field of the sandbox; without a default it must be there."""
        value = self.settings.get(name, default)
        if value is None:
            raise TableError(
                f"{self.origin}: field 'sandbox.scaper.{name}' is missing; write the JAMS again by scaper"
            )
        return value

    @property
    def sample_rate(self) -> int:
        """In Hz; early versions of scaper did not write it."""
        return int(self.setting("sr", 44_100))

    @property
    def channels(self) -> int:
        """1 for mono, 2 for stereo ..."""
        return int(self.setting("n_channels", 1))

    @property
    def duration_s(self) -> float:
        """Before any trimming."""
        return float(self.setting("original_duration", self.settings.get("duration")))

    @property
    def num_frames(self) -> int:
        """Its length as scaper rounds it."""
        return int(self.duration_s * self.sample_rate)

    def transforms(self) -> tuple[Step, ...]:
        """The mixture's steps."""
        if self.settings.get("reverb") is not None:
            log.warning(
                "%s: reverb %s of SoX is left out: no step is like it", self.origin, self.settings["reverb"]
            )
        if self.settings.get("peak_normalization"):
            return ({"name": "peak", "peak_db": 0.0, "only_down": False},)
        if self.settings.get("fix_clipping"):
            return ({"name": "peak", "peak_db": 0.0, "only_down": True},)
        return ()

    def target_names(self) -> list[str]:
        """What scaper calls the events when it saves them one by one: `foreground0_siren`."""
        counts = {"background": 0, "foreground": 0}
        names = []
        for value in self.values:
            names.append(f"{value['role']}{counts[value['role']]}_{value['label']}")
            counts[value["role"]] += 1
        return names


_FIELDS: dict[str, tuple[type, ...]] = {
    "label": (str,),
    "source_file": (str,),
    "source_time": (int, float),
    "event_time": (int, float),
    "event_duration": (int, float),
    "snr": (int, float),
    "role": (str,),
}
# Beyond these nobody means it, and arithmetic or memory would fail.
_LONGEST_S = 86_400.0
_MAX_DB = 1000.0
_MAX_REPEATS = 100_000
_NUMBERS = {
    "sr": (1, 1_000_000),
    "n_channels": (1, MAX_CHANNELS),
    "original_duration": (0, _LONGEST_S),
    "duration": (0, _LONGEST_S),
    "ref_db": (-_MAX_DB, _MAX_DB),
    "fade_in_len": (-_LONGEST_S, _LONGEST_S),
    "fade_out_len": (-_LONGEST_S, _LONGEST_S),
}
_TIMES = ("source_time", "event_time", "event_duration")


def soundscape_of(origin: str, annotation: Mapping[str, Any]) -> Soundscape:
    """Check an annotation, and take out of it what matters.

    Parameters
    ----------
    origin : str
        The file, for messages.
    annotation : mapping
        Of the namespace `scaper`.

    Returns
    -------
    Soundscape

    Raises
    ------
    TableError
        When a field is missing or of another type, or the soundscape was trimmed.
    """
    sandbox = annotation.get("sandbox") or {}
    if not isinstance(sandbox, Mapping):
        raise TableError(f"{origin}: field 'sandbox' is no object; write the JAMS again by scaper")
    if "slice" in sandbox:
        raise TableError(
            f"{origin}: was trimmed (sandbox.slice is {sandbox['slice']}), and events may start before a trimmed "
            "soundscape does; use the JAMS that it was trimmed from"
        )
    if not isinstance(sandbox.get("scaper"), Mapping):
        raise TableError(f"{origin}: field 'sandbox.scaper' is missing; write the JAMS again by scaper")
    settings = sandbox["scaper"]
    for name, (least, most) in _NUMBERS.items():
        if settings.get(name) is not None and not _is_between(settings[name], least, most):
            raise TableError(
                f"{origin}: field 'sandbox.scaper.{name}' is {settings[name]!r}; it is a number from {least:g} to "
                f"{most:g}"
            )
    for name in ("bg_path", "fg_path"):
        if not isinstance(settings.get(name), str | None):
            raise TableError(f"{origin}: field 'sandbox.scaper.{name}' is {settings[name]!r}; it is a path")
    for name in ("bg_labels", "fg_labels"):
        labels = settings.get(name) or []
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise TableError(f"{origin}: field 'sandbox.scaper.{name}' is {labels!r}; it is a list of texts")
    data = annotation.get("data") or []
    if not isinstance(data, list):
        raise TableError(f"{origin}: field 'data' is no list; write the JAMS again by scaper")
    values: list[Any] = [found.get("value") if isinstance(found, Mapping) else found for found in data]
    for number, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise TableError(f"{origin}: event {number}: field 'value' is {value!r}; correct it")
        for field, types in _FIELDS.items():
            found: Any = value.get(field)
            least, most = (0, _LONGEST_S) if field in _TIMES else (-_MAX_DB, _MAX_DB)
            is_wrong = not isinstance(found, types) or (float in types and not _is_between(found, least, most))
            if is_wrong:
                raise TableError(f"{origin}: event {number}: field '{field}' is {found!r}; correct it")
        if value["role"] not in ("background", "foreground"):
            raise TableError(
                f"{origin}: event {number}: field 'role' is '{value['role']}'; it is 'background' or 'foreground'"
            )
        for field, least, most in (("pitch_shift", -120, 120), ("time_stretch", 0.01, 100)):
            if value.get(field) is not None and not _is_between(value[field], least, most):
                raise TableError(f"{origin}: event {number}: field '{field}' is {value[field]!r}; correct it")
        if "\0" in value["source_file"]:
            raise TableError(f"{origin}: event {number}: field 'source_file' holds a NUL; correct it")
    return Soundscape(origin, settings, values)


def _is_between(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def events_of(
    soundscape: Soundscape, number: int, target: str, roots: Mapping[str, Path], reader: Reader
) -> list[Event]:
    """One event of a soundscape as events of a plan: several where a background is repeated.

    Parameters
    ----------
    soundscape : Soundscape
    number : int
        Which one, from 0.
    target : str
        What it is added to.
    roots : mapping of str to Path
        Folders, by the names that events get in `root`.
    reader : Reader
        Knows the roots; the event is read to be measured.

    Returns
    -------
    list of Event
        None where it starts past the end, as scaper has it.

    Raises
    ------
    AudioError
        When the file cannot be read.
    TableError
        When it lies outside of all roots, or the crop outside of the file.
    """
    value = soundscape.values[number]
    root, path = _place(soundscape, number, roots)
    info = probe(resolve(roots[root], path))
    start = int(value["source_time"] * info.sample_rate)
    stop = int((value["source_time"] + value["event_duration"]) * info.sample_rate)
    taken = min(stop, info.num_frames) - start
    if taken < 1:
        raise TableError(
            f"{soundscape.origin}: event {number}: {value['source_file']} ({info.num_frames} frames) has nothing "
            f"for source_time {value['source_time']} s, event_duration {value['event_duration']} s; correct them"
        )
    whole = Event(
        source=value["label"],
        target=target,
        song_id=Path(path).with_suffix("").as_posix(),
        stem=value["label"],
        root=root,
        path=path,
        source_start_frame=start,
        num_frames=taken,
        source_rate=info.sample_rate,
        offset_frame=0,
        length_frames=1,
    )
    level_lufs = float(soundscape.setting("ref_db"))
    if value["role"] == "background":
        parts = _repeated(whole, soundscape.duration_s, stop, info)
        return _laid_out(soundscape, parts, 0, level_lufs, (), reader)
    whole = dataclasses.replace(whole, transforms=_warps(soundscape, number))
    offset = int(soundscape.sample_rate * value["event_time"])
    return _laid_out(soundscape, [whole], offset, level_lufs + value["snr"], _fades(soundscape), reader)


def _place(soundscape: Soundscape, number: int, roots: Mapping[str, Path]) -> tuple[str, str]:
    """The root that holds an event's file, and its path there."""
    value = soundscape.values[number]
    file = Path(os.path.abspath(value["source_file"]))
    for name, folder in roots.items():
        if file.is_relative_to(os.path.abspath(folder)):
            return name, file.relative_to(os.path.abspath(folder)).as_posix()
    # The folder may have moved; scaper looks into the new one, too.
    base = soundscape.settings.get("bg_path" if value["role"] == "background" else "fg_path")
    if base is not None and value["role"] in roots and file.is_relative_to(os.path.abspath(base)):
        return value["role"], file.relative_to(os.path.abspath(base)).as_posix()
    known = ", ".join(f"{name} ({folder})" for name, folder in roots.items()) or "none"
    raise TableError(
        f"{soundscape.origin}: event {number}: source_file '{value['source_file']}' lies in none of the roots "
        f"{known}; give its folder in roots, or as '{value['role']}' the one that {base} has moved to"
    )


def _repeated(whole: Event, duration_s: float, stop: int, info: AudioInfo) -> list[Event]:
    """The parts of a background: scaper repeats what it read, and cuts at the frame where it would have stopped."""
    repeats = int(max(duration_s // (info.num_frames / info.sample_rate) + 1, 1))
    total = min(whole.num_frames * repeats, stop)
    if total > _MAX_REPEATS * whole.num_frames:
        raise TableError(f"{whole.path}: is so short that it would be repeated {repeats} times; take a longer file")
    return [
        dataclasses.replace(whole, num_frames=min(whole.num_frames, total - at))
        for at in range(0, total, whole.num_frames)
    ]


def _warps(soundscape: Soundscape, number: int) -> tuple[Step, ...]:
    value = soundscape.values[number]
    semitones, stretch = value.get("pitch_shift"), value.get("time_stretch")
    if semitones is None and stretch is None:
        return ()
    log.warning(
        "%s: event %d: pitch_shift %s, time_stretch %s: the step for them is not SoX's algorithm; it sounds alike",
        soundscape.origin,
        number,
        semitones,
        stretch,
    )
    rate = 1.0 if stretch is None else 1.0 / float(stretch)
    if semitones is None:
        return ({"name": "tempo", "rate": rate},)
    return ({"name": "repitch", "semitones": float(semitones), "rate": rate},)


def _fades(soundscape: Soundscape) -> tuple[Step, ...]:
    frames = [
        int(max(0.0, soundscape.settings.get(name) or 0.0) * soundscape.sample_rate)
        for name in ("fade_in_len", "fade_out_len")
    ]
    return (fade_step(*frames),) if any(frames) else ()


def fade_step(in_frames: int, out_frames: int) -> Step:
    """The step that stands for scaper's fades, which are quarters of a sine.

    Parameters
    ----------
    in_frames, out_frames : int

    Returns
    -------
    Step
    """
    return {"name": "fade", "in_frames": in_frames, "out_frames": out_frames, "shape": "sine"}


def _laid_out(
    soundscape: Soundscape,
    parts: Sequence[Event],
    offset: int,
    level_lufs: float,
    fades: tuple[Step, ...],
    reader: Reader,
) -> list[Event]:
    """Parts one after the other, brought to a loudness together."""
    sounds = [sounding(part, soundscape.sample_rate, soundscape.channels, reader) for part in parts]
    sound = sounds[0] if len(sounds) == 1 else np.concatenate(sounds, axis=1)
    gain_db = level_lufs - loudness_of(sound, soundscape.sample_rate)
    events = []
    for part, audio in zip(parts, sounds, strict=True):
        length = min(audio.shape[1], soundscape.num_frames - offset)
        if length > 0:
            events.append(
                dataclasses.replace(
                    part,
                    offset_frame=offset,
                    length_frames=length,
                    gain_db=gain_db,
                    transforms=(*part.transforms, *fades),
                )
            )
        offset += audio.shape[1]
    if not events:
        log.warning("%s: %s starts past the soundscape's end; it is silent", soundscape.origin, parts[0].path)
    return events


def sounding(event: Event, sample_rate: int, channels: int, reader: Reader) -> Audio:
    """An event as it sounds before its gain, as long as it becomes.

    Parameters
    ----------
    event : Event
        Its `offset_frame`, `length_frames` and `gain_db` do not matter.
    sample_rate : int
        Of the mixture, in Hz.
    channels : int
        Of the mixture.
    reader : Reader

    Returns
    -------
    np.ndarray of float32 [shape=(channels, frames)]

    Raises
    ------
    AudioError
        When the file cannot be read, or has more channels than can be mixed.
    """
    audio = sound(dataclasses.replace(event, gain_db=0.0), sample_rate, channels, reader)
    return np.broadcast_to(audio, (channels, audio.shape[1]))


def loudness_of(audio: Audio, sample_rate: int) -> float:
    """Loudness as scaper measures it: pyloudnorm's, of what lasts less than 0.5 s on repetitions of it.

    It differs from `manifests.loudness` by up to a few tenths of a dB: other filters.

    Parameters
    ----------
    audio : np.ndarray of float32 [shape=(channels, frames)]
        At least one frame, at most five channels.
    sample_rate : int
        In Hz.

    Returns
    -------
    float
        LUFS, at least -70.
    """
    import pyloudnorm

    duration_s = audio.shape[1] / sample_rate
    if duration_s < _SHORTEST_S:
        audio = np.tile(audio, math.ceil(_SHORTEST_S / duration_s))
    found: float = pyloudnorm.Meter(sample_rate).integrated_loudness(audio.T.astype(np.float64))
    return max(float(found), _SILENCE_LUFS)
