"""Rendering a plan: audio that follows from it and decides nothing.

The mixture is the sum of its targets, by construction: sources are added to their targets, transforms work on all
targets alike, and the mixture is what the targets sum to then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import soxr

from augment.plan import Event, MixturePlan, Step
from augment.transforms.rules import apply_steps, frames_needed
from manifests.audio import Audio
from manifests.errors import AudioError, RecipeError

__all__ = ["REMOVE", "Mixture", "Reader", "Separate", "render", "sound"]

REMOVE = "remove"
"""The step of a cascade (`augment.recipe.Removal`): the renderer's own, since it changes which targets there
are."""

Separate: TypeAlias = Callable[[Audio, int], Audio]
"""From a mixture (channels, frames) and its sample rate, the one target that a cascade takes out, of the same
shape."""


class Reader(Protocol):
    """What hands out crops: `manifests.crops.CropReader`, `manifests.packed.PackedReader`."""

    def read(
        self,
        root: str,
        path: str,
        start_frame: int,
        num_frames: int,
        gain: float = 1.0,
        out: Audio | None = None,
    ) -> Audio:
        """A crop [shape=(channels, num_frames)], float32, times `gain`; in `out` where that has the shape."""
        ...


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A rendered plan.

    Attributes
    ----------
    mixture : np.ndarray [shape=(channels, frames)]
        float32: what `targets` sum to.
    targets : np.ndarray [shape=(targets, channels, frames)]
        float32, in the order of `names`.
    names : tuple of str
    plan : MixturePlan
    """

    mixture: Audio
    targets: Audio
    names: tuple[str, ...]
    plan: MixturePlan


def render(
    plan: MixturePlan,
    reader: Reader,
    *,
    separate: Separate | None = None,
    heard: Callable[[Event, Audio], None] | None = None,
    out: tuple[Audio, Audio] | None = None,
) -> Mixture:
    """Turn a plan into audio.

    Parameters
    ----------
    plan : MixturePlan
    reader : Reader
        Knows the roots that the events name.
    separate : callable, optional
        For a cascade by a separator; see `Separate`.
    heard : callable, optional
        Called with each event and its audio [shape=(channels, length_frames)], as it is added to its target; to be
        copied by whoever keeps it.
    out : (np.ndarray, np.ndarray), optional
        Where the mixture and its targets are written, of the shapes that they have; a part of a batch, for example.

    Returns
    -------
    Mixture

    Raises
    ------
    AudioError
        When a file cannot be read, has more channels than can be mixed, or a transform cannot deal with what it
        gets.
    RecipeError
        When the plan's cascade needs a separator and none is given.
    """
    removal = [step for step in plan.transforms if step["name"] == REMOVE]
    steps = [step for step in plan.transforms if step["name"] != REMOVE]
    shape = (len(plan.targets), plan.channels, frames_needed(steps, plan.num_frames))
    stack = out[1] if out is not None and out[1].shape == shape else np.empty(shape, np.float32)
    place = {target: number for number, target in enumerate(plan.targets)}
    silent = set(plan.targets)
    for event in plan.events:
        target = stack[place[event.target]]
        stop = event.offset_frame + event.length_frames
        here = target[:, event.offset_frame : stop]
        if event.target in silent:  # what is added to silence is written: passes over memory are what costs
            silent.remove(event.target)
            target[:, : event.offset_frame] = 0.0
            target[:, stop:] = 0.0
            audio = _sounding(event, plan, reader, here)
        else:
            audio = _sounding(event, plan, reader)
            here += audio
        if heard is not None:
            heard(event, audio)
    for name in silent:
        stack[place[name]] = 0.0
    stack = apply_steps(steps, stack, plan.sample_rate, plan.num_frames)
    names = plan.targets
    for step in removal:
        stack, names = _without(step, stack, names, plan.sample_rate, separate)
    known_silent = set() if steps else silent  # a transform may add noise
    sounding = [number for number, name in enumerate(names) if name not in known_silent] or [0]
    if out is None:
        return Mixture(_sum([stack[number] for number in sounding]), stack, names, plan)
    mixture, targets = out
    if stack is not targets:
        targets[...] = stack
    return Mixture(_sum([targets[number] for number in sounding], mixture), targets, names, plan)


def sound(event: Event, sample_rate: int, channels: int, reader: Reader, out: Audio | None = None) -> Audio:
    """A source on its way to its target, as long as it becomes.

    Parameters
    ----------
    event : Event
    sample_rate, channels : int
        Of the mixture.
    reader : Reader
    out : np.ndarray [shape=(channels, length_frames)], optional
        float32; where nothing but a gain happens to the source, it is written here, and this is returned.

    Returns
    -------
    np.ndarray [shape=(channels, frames)]
        float32, about as long as the event. A single channel stands for all.

    Raises
    ------
    AudioError
        When the file cannot be read, has more channels than can be mixed, or a transform cannot deal with it.
    """
    gain = 10.0 ** (event.gain_db / 20.0)
    is_plain = event.source_rate == sample_rate and not event.transforms
    crop = reader.read(
        event.root,
        event.path,
        event.source_start_frame,
        event.num_frames,
        gain if is_plain else 1.0,
        out if is_plain and event.num_frames == event.length_frames else None,
    )
    if len(crop) > channels:
        crop = _downmixed(crop, channels, event.path)
    if not is_plain:
        if event.source_rate != sample_rate:
            crop = _resampled(crop, event.source_rate, sample_rate)
        crop = apply_steps(event.transforms, crop[None], sample_rate)[0]
        crop *= np.float32(gain)
    return crop


def _sounding(event: Event, plan: MixturePlan, reader: Reader, out: Audio | None = None) -> Audio:
    """A source as it is added to its target [shape=(channels, length_frames)]; in `out`, if there is one."""
    crop = sound(event, plan.sample_rate, plan.channels, reader, out)
    if crop is out:
        return crop
    crop = _exactly(crop, event.length_frames)
    if out is not None:
        out[...] = crop  # mono goes to all channels
        return out
    return np.broadcast_to(crop, (plan.channels, event.length_frames))


def _exactly(audio: Audio, num_frames: int) -> Audio:
    """Cut, or let silence follow: rates do not divide into whole frames."""
    missing = num_frames - audio.shape[1]
    return np.pad(audio, [(0, 0), (0, missing)]) if missing > 0 else audio[:, :num_frames]


def _resampled(audio: Audio, source_rate: int, sample_rate: int) -> Audio:
    return np.ascontiguousarray(soxr.resample(audio.T, source_rate, sample_rate, "HQ").T)


def _downmixed(audio: Audio, channels: int, path: str) -> Audio:
    if channels == 1:
        return np.asarray(audio.mean(axis=0, keepdims=True), np.float32)
    raise AudioError(
        f"{path}: has {len(audio)} channels, and the mixture has {channels}; downmix it first (only mono and "
        "stereo are converted)"
    )


def _sum(targets: Sequence[Audio], out: Audio | None = None) -> Audio:
    total = np.empty_like(targets[0]) if out is None else out
    if len(targets) == 1:
        total[...] = targets[0]
    else:
        np.add(targets[0], targets[1], out=total)
    for target in targets[2:]:
        total += target
    return total


def _without(
    step: Step, stack: Audio, names: tuple[str, ...], sample_rate: int, separate: Separate | None
) -> tuple[Audio, tuple[str, ...]]:
    """The targets that are left when one is taken out: by what it is, or by what a separator hears of it."""
    number = names.index(step["target"])
    others = np.delete(stack, number, axis=0)
    rest = tuple(name for name in names if name != step["target"])
    if step["by"] == "oracle":
        return others, rest
    if separate is None:
        raise RecipeError(
            f"recipe: field 'remove.by' is 'separator' (target '{step['target']}'), and the renderer has none; "
            "give it one, or write 'by: oracle'"
        )
    heard = np.asarray(separate(_sum(list(stack)), sample_rate), np.float32)
    if heard.shape != stack.shape[1:]:
        raise RecipeError(
            f"separator: gave shape {heard.shape} for '{step['target']}', expected that of the mixture, "
            f"{stack.shape[1:]}"
        )
    left: Audio = np.concatenate([others, (stack[number] - heard)[None]])
    return left, (*rest, "residual")
