"""A plan as an annotation of scaper: what `augment.soundscape` reads, written.

scaper rounds seconds down to frames and brings each sound to `ref_db + snr`; so seconds are the smallest that
become the plan's frames again, and levels are measured as scaper measures them. Where a plan holds nothing but
crops, gains, loudnesses, one fade for all and a peak of full scale, scaper renders the annotation to the same
audio.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from augment.plan import Event, MixturePlan, Step
from augment.render import render
from augment.soundscape import fade_step, loudness_of
from manifests.audio import Audio, probe
from manifests.crops import CropReader
from manifests.errors import TableError
from manifests.paths import resolve
from manifests.staging import as_addresses

__all__ = ["Label", "annotation_of", "seconds_of"]

Label: TypeAlias = Literal["stem", "target", "source", "tags"]
"""What an event is called."""

_SCAPER_VERSION = "1.6.5"
_GINI_HOP_S = 0.01
_WARPS = ("repitch", "tempo")
# Their outcome is the event's loudness, which scaper brings it to.
_LEVELS = ("gain", "scale", "loudness")
_SMALLEST_GAIN = 1e-6


def annotation_of(
    plan: MixturePlan, roots: Mapping[str, Path], labels: Sequence[str], background: Collection[str]
) -> tuple[dict[str, Any], list[float], list[str]]:
    """The annotation of a plan.

    Parameters
    ----------
    plan : MixturePlan
    roots : mapping of str to Path
        Knows the roots that the events name.
    labels : sequence of str
        Of each event.
    background : collection of str
        Targets; the first event of one, or the first file repeated, that spans the mixture is its background.

    Returns
    -------
    annotation : dict
        JSON values, of the namespace `scaper`; `data` is in the order of the plan's events, and the repetitions of
        a background are one.
    levels_lufs : list of float
        The loudness of each event.
    left_out : list of str
        What scaper does not do when it renders it.

    Raises
    ------
    AudioError
        When a source file cannot be read, or a transform cannot deal with what it gets.
    TableError
        When an event's root is unknown.
    """
    bed = _bed(plan, roots, background)
    fades, unfaded = _shared_fade(plan, bed)
    levels = _levels(plan, roots, unfaded, bed)
    ref_db = levels[bed[0]] if bed else 0.0
    shown = list(plan.events)
    if bed:  # scaper repeats what is too short
        first = shown[bed[0]]
        taken = math.ceil(plan.num_frames * first.source_rate / plan.sample_rate)
        shown[bed[0]] = dataclasses.replace(first, num_frames=taken, length_frames=plan.num_frames)
    data = [
        _observation(event, plan, roots, labels[number], levels[number] - ref_db, number in bed)
        for number, event in enumerate(shown)
        if number not in bed[1:]
    ]
    duration_s = seconds_of(plan.num_frames, plan.sample_rate)
    settings = _settings(plan, roots, data, duration_s, ref_db, fades)
    return _annotated(data, settings, duration_s), levels, _left_out(plan, unfaded)


def _bed(plan: MixturePlan, roots: Mapping[str, Path], background: Collection[str]) -> list[int]:
    """The event that is the background, or those that are its repetitions; none if there is none."""
    for number, first in enumerate(plan.events):
        if first.target not in background or first.offset_frame != 0:
            continue
        chain, end = [number], first.length_frames
        for other, event in enumerate(plan.events):
            like = dataclasses.replace(
                event, num_frames=first.num_frames, offset_frame=0, length_frames=first.length_frames
            )
            if event.offset_frame == end < plan.num_frames and like == first:
                chain.append(other)
                end += event.length_frames
        if end >= plan.num_frames and (len(chain) == 1 or _is_whole(first, roots)):
            return chain
    return []


def _is_whole(event: Event, roots: Mapping[str, Path]) -> bool:
    """Whether an event is all of its file: scaper repeats nothing else."""
    info = probe(resolve(_folder(event, roots), event.path))
    return event.source_start_frame == 0 and event.num_frames == info.num_frames


def _is_fade(step: Step) -> bool:
    return step.get("name") == "fade" and dict(step) == dict(fade_step(step["in_frames"], step["out_frames"]))


def _shared_fade(plan: MixturePlan, bed: list[int]) -> tuple[tuple[int, int], list[Event]]:
    """The fades that all events but the background end with, which scaper has fields for; events without them."""
    others = [number for number in range(len(plan.events)) if number not in bed]
    last = [dict((plan.events[number].transforms or ({},))[-1]) for number in others]
    if not last or not _is_fade(last[0]) or any(step != last[0] for step in last):
        return (0, 0), list(plan.events)
    unfaded = list(plan.events)
    for number in others:
        unfaded[number] = dataclasses.replace(unfaded[number], transforms=unfaded[number].transforms[:-1])
    return (int(last[0]["in_frames"]), int(last[0]["out_frames"])), unfaded


def _levels(plan: MixturePlan, roots: Mapping[str, Path], unfaded: list[Event], bed: list[int]) -> list[float]:
    """The loudness of each event before its fade, as scaper measures it; the mixture's gains count."""
    plain = dataclasses.replace(
        plan,
        events=tuple(dataclasses.replace(event, gain_db=0.0) for event in unfaded),
        transforms=(),
    )
    levels: list[float] = []
    repeated: list[Audio] = []

    def measure(event: Event, audio: Audio) -> None:
        if len(levels) in bed:
            repeated.append(audio.copy())
        levels.append(loudness_of(audio, plan.sample_rate))

    with CropReader(roots) as reader:
        render(plain, reader, heard=measure)
    if len(bed) > 1:
        level = loudness_of(np.concatenate(repeated, axis=1), plan.sample_rate)
        for number in bed:
            levels[number] = level
    shared = [max(step["gain"], _SMALLEST_GAIN) for step in plan.transforms if step["name"] in ("gain", "scale")]
    shared_db = 20.0 * math.log10(math.prod(shared))
    return [level + event.gain_db + shared_db for level, event in zip(levels, plan.events, strict=True)]


def seconds_of(frames: int, rate: int, after_s: float = 0.0) -> float:
    """Seconds of which scaper, which rounds down, makes this frame again: ``int((after_s + seconds) * rate)``.

    Parameters
    ----------
    frames : int
        At least 0.
    rate : int
        In Hz.
    after_s : float
        What the seconds are counted from.

    Returns
    -------
    float
    """
    seconds = frames / rate - after_s
    while int((after_s + seconds) * rate) < frames:
        seconds += math.ulp(frames / rate)
    return seconds


def _observation(
    event: Event,
    plan: MixturePlan,
    roots: Mapping[str, Path],
    label: str,
    snr_db: float,
    is_background: bool,
) -> dict[str, Any]:
    semitones, stretch = _warp(event)
    # of the file, scaper reads no more than what sounds
    sounding = math.ceil(event.length_frames * event.source_rate / plan.sample_rate / (stretch or 1.0))
    stop = event.source_start_frame + min(event.num_frames, sounding)
    source_time = seconds_of(event.source_start_frame, event.source_rate)
    event_time = seconds_of(event.offset_frame, plan.sample_rate)
    value = {
        "label": label,
        "source_file": as_addresses(os.path.abspath(resolve(_folder(event, roots), event.path))),
        "source_time": source_time,
        "event_time": event_time,
        "event_duration": seconds_of(stop, event.source_rate, source_time),
        "snr": 0.0 if is_background else snr_db,
        "role": "background" if is_background else "foreground",
        "pitch_shift": semitones,
        "time_stretch": stretch,
    }
    duration_s = event.length_frames / plan.sample_rate
    return {"time": event_time, "duration": duration_s, "value": value, "confidence": 1.0}


def _folder(event: Event, roots: Mapping[str, Path]) -> Path:
    if event.root not in roots:
        raise TableError(
            f"root '{event.root}' of path '{event.path}' is none of {list(roots)}; give its folder in roots"
        )
    return roots[event.root]


def _warp(event: Event) -> tuple[float | None, float | None]:
    """Pitch shift in semitones and time stretch, where the only such step is one that scaper has a field for."""
    steps = [step for step in event.transforms if step["name"] in _WARPS]
    if len(steps) != 1:
        return None, None
    return steps[0].get("semitones"), None if steps[0]["rate"] == 1.0 else 1.0 / steps[0]["rate"]


def _left_out(plan: MixturePlan, unfaded: list[Event]) -> list[str]:
    """What scaper does not do when it renders the annotation, or does otherwise."""
    found = []
    for number, event in enumerate(unfaded):
        num_warps = sum(step["name"] in _WARPS for step in event.transforms)
        for step in event.transforms:
            if step["name"] in _WARPS and num_warps == 1:
                found.append(f"event {number}: {step['name']} (another algorithm)")
            elif step["name"] not in _LEVELS:
                found.append(f"event {number}: {step['name']}")
    kept = ("gain", "scale")
    found += [
        f"mixture: {step['name']}" for step in plan.transforms if step["name"] not in kept and not _peak(step)
    ]
    return found


def _peak(step: Step) -> str | None:
    """The field of scaper that a step stands for."""
    if step["name"] != "peak" or step["peak_db"] != 0.0:
        return None
    return "fix_clipping" if step.get("only_down") else "peak_normalization"


def _settings(
    plan: MixturePlan,
    roots: Mapping[str, Path],
    data: list[dict[str, Any]],
    duration_s: float,
    ref_db: float,
    fades: tuple[int, int],
) -> dict[str, Any]:
    """The annotation's sandbox, with the fields of scaper and in their order."""
    folder = os.path.abspath(_folder(plan.events[0], roots)) if plan.events else os.path.abspath(os.sep)
    peaks = {_peak(step) for step in plan.transforms}
    values = {
        role: [observation["value"] for observation in data if observation["value"]["role"] == role]
        for role in ("foreground", "background")
    }
    in_s, out_s = (seconds_of(frames, plan.sample_rate) for frames in fades)
    return {
        "duration": duration_s,
        "original_duration": duration_s,
        "fg_path": folder,
        "bg_path": folder,
        "fg_spec": [_spec(value) for value in values["foreground"]],
        "bg_spec": [_spec(value) for value in values["background"]],
        "fg_labels": sorted({value["label"] for value in values["foreground"]}),
        "bg_labels": sorted({value["label"] for value in values["background"]}),
        "protected_labels": [],
        "sr": plan.sample_rate,
        "ref_db": ref_db,
        "n_channels": plan.channels,
        "fade_in_len": in_s,
        "fade_out_len": out_s,
        "n_events": len(values["foreground"]),
        "polyphony_max": _polyphony(data),
        "polyphony_gini": _gini(data, duration_s),
        "allow_repeated_label": True,
        "allow_repeated_source": True,
        "reverb": None,
        "scaper_version": _SCAPER_VERSION,
        "soundscape_audio_path": None,
        "isolated_events_audio_path": [],
        "audio_path": None,
        "jams_path": None,
        "fix_clipping": "fix_clipping" in peaks,
        "peak_normalization": "peak_normalization" in peaks,
        "save_isolated_events": False,
        "isolated_events_path": None,
        "disable_sox_warnings": True,
        "no_audio": True,
        "txt_path": None,
        "txt_sep": "\t",
        "disable_instantiation_warnings": False,
        "peak_normalization_scale_factor": 1.0,
        "ref_db_change": 0,
        "ref_db_generated": ref_db,
        "quick_pitch_time": False,
    }


def _spec(value: Mapping[str, Any]) -> list[Any]:
    """A specification that leaves nothing to chance."""
    return [
        item
        if field in ("role", "pitch_shift", "time_stretch") and (field == "role" or item is None)
        else ["const", item]
        for field, item in value.items()
    ]


def _polyphony(data: list[dict[str, Any]]) -> int:
    """How many foreground events sound at once, at most."""
    spans = [
        (observation["time"], observation["time"] + observation["duration"])
        for observation in data
        if observation["value"]["role"] == "foreground"
    ]
    return max((sum(start <= at < stop for start, stop in spans) for at, _ in spans), default=0)


def _gini(data: list[dict[str, Any]], duration_s: float) -> float:
    """1 less the Gini coefficient of how many foreground events sound, every 10 ms; as scaper works it out."""
    spans = [
        (observation["time"], observation["time"] + observation["duration"])
        for observation in data
        if observation["value"]["role"] == "foreground"
    ]
    if not spans:
        return 0.0
    counts = np.zeros(int(duration_s / _GINI_HOP_S))
    for span in spans:
        first, last = (min(len(counts), round(at / _GINI_HOP_S)) for at in span)
        counts[first:last] += 1
    counts = np.sort(counts + 1e-6)
    ranks = 2 * np.arange(1, len(counts) + 1) - len(counts) - 1
    return float(1 - (ranks * counts).sum() / (len(counts) * counts.sum()))


def _annotated(data: list[dict[str, Any]], settings: dict[str, Any], duration_s: float) -> dict[str, Any]:
    texts = ("version", "corpus", "annotation_tools", "annotation_rules", "validation", "data_source")
    metadata = {"curator": {"name": "", "email": ""}, "annotator": {}, **dict.fromkeys(texts, "")}
    return {
        "annotation_metadata": {**metadata, "annotation_tools": "stemloom"},
        "namespace": "scaper",
        "data": data,
        "sandbox": {"scaper": settings},
        "time": 0,
        "duration": duration_s,
    }
