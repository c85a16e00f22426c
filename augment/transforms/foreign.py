"""The waveform transforms of the package audiomentations, by class name and with its arguments.

    {audiomentations: {transform: TanhDistortion, min_distortion: 0.1, max_distortion: 0.5}}

audiomentations draws from the global generators of `random` and NumPy, when it is applied. Here they are seeded
from the step's seed and put back afterwards, so that a step is a function of its parameters and the audio, and
nothing else is disturbed (within a thread; two threads must not do this at once). What a transform draws without
looking at the audio's content is drawn with the plan and stored there; if it depends on the length, it holds for
that length. What depends on the content (a signal-to-noise ratio, for example) is drawn again from the seed, with
the audio.

Each target is transformed by itself with the same draw, and each channel too where a class takes mono only. So a
transform that adds something (noise, other sounds) belongs to a source, not to a mixture, each of whose targets
would get it. Classes that change the length are refused.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, model_validator

from augment.transforms.rule import Rule, Scene, Stack, draw_seed
from manifests.errors import RecipeError, did_you_mean

__all__ = ["Audiomentations"]

_CHANGE_LENGTH = {"AdjustDuration", "Resample", "Trim"}
_NEED_CODE = {"Lambda"}

Audio = npt.NDArray[np.float32]


class Audiomentations(Rule):
    """A transform of audiomentations. All settings but `transform` and `p` are its arguments."""

    model_config = ConfigDict(extra="allow")

    transform: str
    """Name of the class, such as `TanhDistortion`."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        # The fields of the class are not ours to know: it says itself what it does not take.
        return values

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        _built(self.transform, self.arguments)
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is made with."""
        return dict(self.model_extra or {})

    def draw(self, rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
        """Draw `seed`, and `drawn`, the transform's own parameters, where they do not depend on the audio."""
        seed = draw_seed(rng)
        step: dict[str, Any] = {"transform": self.transform, "arguments": self.arguments, "seed": seed}
        num_frames = max(2, scene.num_frames)
        drawn = _drawn(self.transform, self.arguments, seed, scene, num_frames, 0.1)
        if drawn is None or drawn == _drawn(self.transform, self.arguments, seed, scene, num_frames // 2 + 1, 0.5):
            return step if drawn is None else {**step, "drawn": drawn}
        if drawn == _drawn(self.transform, self.arguments, seed, scene, num_frames, 0.5):
            return {**step, "drawn": drawn, "drawn_for_frames": num_frames}
        return step

    @staticmethod
    def apply(
        stack: Stack,
        sample_rate: int,
        *,
        transform: str,
        arguments: Mapping[str, Any],
        seed: int,
        drawn: Mapping[str, Any] | None = None,
        drawn_for_frames: int | None = None,
    ) -> Stack:
        """Transform each target.

        Raises
        ------
        RecipeError
            If the transform fails, or returns another length.
        """
        if drawn_for_frames not in (None, stack.shape[-1]):
            drawn = None
        for target, audio in enumerate(stack):
            made = _built(transform, arguments)
            parts = [audio] if len(audio) > 1 and made.supports_multichannel else list(audio[:, None])
            outs = []
            for part in parts:
                made = _built(transform, arguments)
                if drawn is not None:
                    made.parameters = copy.deepcopy(dict(drawn))
                    made.freeze_parameters()
                outs.append(_transformed(made, part, sample_rate, seed))
            stack[target] = np.concatenate(outs)
        return stack


def _built(transform: str, arguments: Mapping[str, Any]) -> Any:
    """A transform that is always applied."""
    # It loads librosa: recipes without it should not wait.
    import audiomentations
    from audiomentations.core.transforms_interface import BaseWaveformTransform

    known = {
        name
        for name, kind in vars(audiomentations).items()
        if inspect.isclass(kind) and issubclass(kind, BaseWaveformTransform)
    } - _NEED_CODE
    if transform not in known:
        raise RecipeError(
            f"audiomentations: there is no transform '{transform}'{did_you_mean(transform, known)}; "
            f"known are {', '.join(sorted(known))}"
        )
    if transform in _CHANGE_LENGTH:
        raise RecipeError(f"audiomentations: {transform} changes the length of audio; choose another transform")
    try:
        made = getattr(audiomentations, transform)(**{**arguments, "p": 1.0})
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        expected = inspect.signature(getattr(audiomentations, transform).__init__).parameters
        names = ", ".join(name for name in expected if name not in ("self", "p"))
        raise RecipeError(
            f"audiomentations: {transform} does not take {dict(arguments)} ({error}); its arguments are {names}"
        ) from error
    if getattr(made, "leave_length_unchanged", True) is not True:
        raise RecipeError(f"audiomentations: {transform} changes the length; add leave_length_unchanged: true")
    if transform == "RepeatPart" and made.mode != "replace":
        raise RecipeError(f"audiomentations: {transform} changes the length; add mode: replace")
    return made


def _drawn(
    transform: str, arguments: Mapping[str, Any], seed: int, scene: Scene, num_frames: int, level: float
) -> dict[str, Any] | None:
    """What a transform draws for some audio, as JSON values; None if they are not all that it keeps."""
    made = _built(transform, arguments)
    probe = np.full((scene.channels, num_frames), level, np.float32)
    probe[:, ::2] *= -0.5
    if scene.channels == 1 or not made.supports_multichannel:
        probe = probe[0]
    before = {name: value for name, value in vars(made).items() if name != "parameters"}
    with _seeded(seed):
        try:
            made.randomize_parameters(probe, scene.sample_rate)
        except ImportError as error:
            raise RecipeError(_missing(transform, error)) from error
        except Exception:
            # It may be about the probe, such as its length: applying it says so if it is not.
            return None
    after = {name: value for name, value in vars(made).items() if name != "parameters"}
    if after.keys() != before.keys() or any(after[name] is not before[name] for name in after):
        return None
    try:
        plain: dict[str, Any] = json.loads(json.dumps(made.parameters, default=_plain, allow_nan=False))
    except (TypeError, ValueError):
        return None
    return plain


def _missing(transform: str, error: ImportError) -> str:
    return f"audiomentations: {transform} needs a package that is not there ({error}); install it"


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _transformed(made: Any, audio: Audio, sample_rate: int, seed: int) -> Audio:
    samples = np.array(audio[0] if len(audio) == 1 and made.supports_mono else audio)
    with _seeded(seed):
        try:
            out = made(samples, sample_rate)
        except ImportError as error:
            raise RecipeError(_missing(type(made).__name__, error)) from error
        except Exception as error:
            raise RecipeError(
                f"audiomentations: {type(made).__name__} fails on {audio.shape[-1]} frames of {audio.shape[0]} "
                f"channels at {sample_rate} Hz ({type(error).__name__}: {error}); change its arguments"
            ) from error
    out = np.array(out, np.float32, ndmin=2)
    if out.shape != audio.shape:
        raise RecipeError(
            f"audiomentations: {type(made).__name__} made shape {out.shape} of {audio.shape}; "
            "choose a transform, or arguments, that keep the length"
        )
    return out


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which audiomentations draws from, and put their states back."""
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002
