"""All transforms by name, and steps: one drawn application, as a plan stores it.

A step is a mapping: the `name` of a rule and the parameters that it drew. A chain of steps is applied in its
order; as a step may need more frames than it returns, lengths are worked out from the last step to the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from augment.transforms.bandwidth import Bandwidth
from augment.transforms.channels import ShuffleChannels, Sign, Swap
from augment.transforms.codec import Codec
from augment.transforms.equalizer import Equalizer
from augment.transforms.fade import Fade
from augment.transforms.filtering import Filter
from augment.transforms.foreign import Audiomentations
from augment.transforms.gain import Gain, Remix, Scale
from augment.transforms.limiter import Limiter
from augment.transforms.loudness import Loudness, Peak
from augment.transforms.repitch import Repitch, Tempo
from augment.transforms.reverb import Reverb
from augment.transforms.rule import Rule, Stack
from augment.transforms.stereo import MonoToStereo
from augment.transforms.warping import Shift, Stretch
from manifests.errors import RecipeError, did_you_mean
from manifests.recipes import wrong_fields

__all__ = [
    "COMBINED",
    "RULES",
    "apply_step",
    "apply_steps",
    "frames_needed",
    "name_of",
    "rule_of",
    "rule_type",
    "step_input_frames",
]

RULES: dict[str, type[Rule]] = {
    "audiomentations": Audiomentations,
    "bandwidth": Bandwidth,
    "codec": Codec,
    "equalizer": Equalizer,
    "fade": Fade,
    "filter": Filter,
    "gain": Gain,
    "limiter": Limiter,
    "loudness": Loudness,
    "mono_to_stereo": MonoToStereo,
    "peak": Peak,
    "remix": Remix,
    "repitch": Repitch,
    "reverb": Reverb,
    "scale": Scale,
    "shift": Shift,
    "shuffle_channels": ShuffleChannels,
    "sign": Sign,
    "stretch": Stretch,
    "swap": Swap,
    "tempo": Tempo,
}

COMBINED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("swap", {"p": 0.5}),
    ("shift", {"factor": (0.7, 1.3)}),
    ("stretch", {"factor": (0.7, 1.3)}),
    ("remix", {"gain_db": (-9.0, 9.0)}),
)
"""The combination of the singing-voice study (Pretet et al., ICASSP 2019, section 4.1): names and settings."""

_NAMES = {kind: name for name, kind in RULES.items()}


def rule_type(name: str) -> type[Rule]:
    """The rule of this name.

    Parameters
    ----------
    name : str
        A key of `RULES`.

    Returns
    -------
    type of Rule

    Raises
    ------
    RecipeError
        If there is none; the nearest name is said.
    """
    if name not in RULES:
        raise RecipeError(
            f"transform '{name}' is unknown{did_you_mean(name, RULES)}; known are {', '.join(sorted(RULES))}"
        )
    return RULES[name]


def rule_of(name: str, settings: Mapping[str, Any]) -> Rule:
    """A rule with its settings, as a recipe names them.

    Parameters
    ----------
    name : str
        A key of `RULES`.
    settings : mapping
        By field; those left out keep their defaults.

    Returns
    -------
    Rule

    Raises
    ------
    RecipeError
        If there is no such rule, or a setting is unknown or out of its range.
    """
    kind = rule_type(name)
    try:
        return kind.model_validate(dict(settings))
    except ValidationError as error:
        raise RecipeError("\n".join(f"transform '{name}': {line}" for line in wrong_fields(error))) from error


def name_of(rule: Rule) -> str:
    """The name of a rule's kind.

    Parameters
    ----------
    rule : Rule
        Of a kind in `RULES`.

    Returns
    -------
    str
    """
    return _NAMES[type(rule)]


def apply_step(step: Mapping[str, Any], stack: Stack, sample_rate: int, num_frames: int | None = None) -> Stack:
    """Apply one step.

    Parameters
    ----------
    step : mapping
        ``{"name": ..., **parameters}``.
    stack : np.ndarray of float32 [shape=(targets, channels, frames)]
        May be overwritten.
    sample_rate : int
        In Hz.
    num_frames : int, optional
        Length to return: what is more is cut at the end, what is missing is silence. By default what the transform
        returns.

    Returns
    -------
    np.ndarray of float32 [shape=(targets, channels, frames)]

    Raises
    ------
    RecipeError
        If there is no such transform.
    """
    out = rule_type(step["name"]).apply(stack, sample_rate, **_parameters(step))
    if num_frames is None or out.shape[-1] == num_frames:
        return out
    missing = max(0, num_frames - out.shape[-1])
    return np.pad(out[..., :num_frames], ((0, 0), (0, 0), (0, missing)))


def apply_steps(
    steps: Sequence[Mapping[str, Any]], stack: Stack, sample_rate: int, num_frames: int | None = None
) -> Stack:
    """Apply steps one after the other.

    Parameters
    ----------
    steps : sequence of mapping
        Each ``{"name": ..., **parameters}``.
    stack : np.ndarray of float32 [shape=(targets, channels, frames)]
        May be overwritten. To be full, the result needs as many frames as `step_input_frames` says, worked out from
        the last step to the first.
    sample_rate : int
        In Hz.
    num_frames : int, optional
        Length to return, as for `apply_step`; by default what comes out.

    Returns
    -------
    np.ndarray of float32 [shape=(targets, channels, frames)]

    Raises
    ------
    RecipeError
        If there is no such transform.
    """
    lengths: list[int | None] = [num_frames] * len(steps)
    if num_frames is not None:
        lengths = [frames_needed(steps[number + 1 :], num_frames) for number in range(len(steps))]
    for step, length in zip(steps, lengths, strict=True):
        stack = apply_step(step, stack, sample_rate, length)
    return stack


def step_input_frames(step: Mapping[str, Any], num_frames: int) -> int:
    """Frames that a step needs in order to return `num_frames` that are full of sound.

    Parameters
    ----------
    step : mapping
        ``{"name": ..., **parameters}``.
    num_frames : int
        At least 1.

    Returns
    -------
    int

    Raises
    ------
    RecipeError
        If there is no such transform.
    """
    return rule_type(step["name"]).input_frames(num_frames, **_parameters(step))


def frames_needed(steps: Sequence[Mapping[str, Any]], num_frames: int) -> int:
    """Frames that must go into some steps so that `num_frames` come out.

    Parameters
    ----------
    steps : sequence of mapping
        In the order of their application.
    num_frames : int
        At least 1.

    Returns
    -------
    int

    Raises
    ------
    RecipeError
        If there is no such transform.
    """
    for step in reversed(steps):
        num_frames = step_input_frames(step, num_frames)
    return num_frames


def _parameters(step: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "name"}
