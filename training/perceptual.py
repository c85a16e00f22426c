"""The 2f-model: how listeners would rate a separation, from two values that PEAQ measures.

PEAQ (ITU-R BS.1387) compares audio as the ear hears it, and gives model output variables; the 2f-model maps two
of its basic version's, AvgModDiff1 (differences of modulation) and ADB (average distorted block), on the scale of a
MUSHRA test. We do not measure PEAQ: its implementations under a permissive licence are not in package registries,
and the good ones are free under licences of their own (GstPEAQ: LGPL). So it is a protocol, `PeaqBackend`, and
`PeaqProgram` runs any program that prints the two, such as GstPEAQ's element with `GSTPEAQ_COMMAND`.

Implementations differ from the standard's test values and from each other: compare scores of one backend only, and
name it beside them.

References
----------
- T. Kastner, J. Herre, "An Efficient Model for Estimating Subjective Quality of Separated Audio Source Signals",
  WASPAA 2019: the formula, and that it correlates best with listeners of what was tried.
- ITU-R BS.1387-1: PEAQ, defined at 48 kHz.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import soxr

from manifests.audio import Audio, write
from manifests.errors import AudioError, RecipeError

__all__ = ["GSTPEAQ_COMMAND", "PEAQ_RATE", "PeaqBackend", "PeaqMovs", "PeaqProgram", "two_f_model", "two_f_scores"]

PEAQ_RATE = 48_000
"""In Hz: PEAQ is defined for no other."""

_SOURCE = "filesrc location={%s} ! wavparse ! audioconvert ! audioresample ! peaq.%s"
GSTPEAQ_COMMAND: tuple[str, ...] = (
    "gst-launch-1.0",
    *(_SOURCE % ("reference", "ref")).split(),
    *(_SOURCE % ("estimate", "test")).split(),
    "peaq",
    "name=peaq",
    "console-output=true",
)
"""GstPEAQ's element by GStreamer's launcher, which finds it where ``GST_PLUGIN_PATH`` says. (The program ``peaq``
that comes with it prints the grade alone.)"""

_MAX_CHANNELS = 2
_TAIL_CHARS = 500
_PLACEHOLDERS = ("{reference}", "{estimate}")
# GstPEAQ and PQevalAudio mark the variables of the basic version with a B
_LINE = re.compile(r"^\s*\"?(AvgModDiff1|ADB)B?\"?\s*[:=]\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*,?\s*$", re.MULTILINE)

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class PeaqMovs:
    """The two of PEAQ's model output variables that the 2f-model takes.

    Attributes
    ----------
    avg_mod_diff_1 : float
        AvgModDiff1 of the basic version; 0 without a difference.
    adb : float
        Average distorted block.
    """

    avg_mod_diff_1: float
    adb: float


@runtime_checkable
class PeaqBackend(Protocol):
    """Something that measures PEAQ."""

    @property
    def name(self) -> str:
        """What it is, with its version: scores of other backends are other scores."""
        ...

    def __call__(self, reference: Audio, estimate: Audio) -> PeaqMovs:
        """Compare an estimate with its reference.

        Parameters
        ----------
        reference, estimate : np.ndarray of float32 [shape=(channels, frames)]
            At `PEAQ_RATE`, within +-1, of one or two channels.

        Returns
        -------
        PeaqMovs
        """
        ...


def two_f_model(avg_mod_diff_1: float, adb: float) -> float:
    """The rating that listeners would give.

    Parameters
    ----------
    avg_mod_diff_1, adb : float
        Of PEAQ's basic version.

    Returns
    -------
    float
        0 (bad) to 100 (no difference to hear).

    Examples
    --------
    >>> round(two_f_model(30.0, 1.5), 2)
    59.95
    """
    rating = 56.1345 / (1.0 + (-0.0282 * avg_mod_diff_1 - 0.8628) ** 2) - 27.1451 * adb + 86.3515
    return min(100.0, max(0.0, rating))


def two_f_scores(references: Audio, estimates: Audio, sample_rate: int, backend: PeaqBackend) -> Floats:
    """The rating of each estimate.

    Parameters
    ----------
    references, estimates : np.ndarray of float32 [shape=(sources, channels, frames)]
        Of one or two channels. What exceeds full scale is brought within it by one gain for an estimate and its
        reference.
    sample_rate : int
        In Hz; other rates than `PEAQ_RATE` are resampled to it.
    backend : PeaqBackend

    Returns
    -------
    np.ndarray of float64 [shape=(sources,)]
        0 to 100; NaN where the reference is silent.

    Raises
    ------
    ValueError
        If the shapes are not of three equal axes.
    AudioError
        If there are more than two channels, or the backend fails.
    """
    if references.ndim != 3 or references.shape != estimates.shape:
        raise ValueError(
            f"references have shape {references.shape}, estimates {estimates.shape}; expected both "
            "(sources, channels, frames)"
        )
    if references.shape[1] > _MAX_CHANNELS:
        raise AudioError(f"2f-model: {references.shape[1]} channels; PEAQ compares one or two: downmix first")
    scores = np.full(len(references), np.nan)
    for source, pair in enumerate(zip(references, estimates, strict=True)):
        if not np.any(pair[0]):
            continue
        wanted, found = (_at_peaq_rate(audio, sample_rate) for audio in pair)
        gain = np.float32(1.0 / max(1.0, np.abs(wanted).max(), np.abs(found).max()))
        movs = backend(wanted * gain, found * gain)
        scores[source] = two_f_model(movs.avg_mod_diff_1, movs.adb)
    return scores


@dataclasses.dataclass(frozen=True)
class PeaqProgram:
    """PEAQ by a program of its own.

    Attributes
    ----------
    command : sequence of str
        The program and its arguments; ``{reference}`` and ``{estimate}`` in them become paths of WAV files of 16
        bits. No shell reads it. The program writes to its standard output either a JSON object with the numbers
        ``AvgModDiff1`` and ``ADB``, or lines such as ``AvgModDiff1B: 12.3``, as GstPEAQ and PQevalAudio do.
    name : str
        By default the program's.
    timeout_s : float
        For one comparison.

    Raises
    ------
    RecipeError
        A placeholder is missing from the command.
    """

    command: Sequence[str] = GSTPEAQ_COMMAND
    name: str = ""
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        for placeholder in _PLACEHOLDERS:
            if not any(placeholder in argument for argument in self.command):
                raise RecipeError(
                    f"PEAQ's command {' '.join(self.command)!r} has no {placeholder}: say where its path goes"
                )
        if not self.name:
            object.__setattr__(self, "name", Path(self.command[0]).name)

    def __call__(self, reference: Audio, estimate: Audio) -> PeaqMovs:
        """Write the two, run the program, read what it prints.

        Parameters
        ----------
        reference, estimate : np.ndarray of float32 [shape=(channels, frames)]
            At `PEAQ_RATE`, within +-1.

        Returns
        -------
        PeaqMovs

        Raises
        ------
        RecipeError
            The program cannot be started.
        AudioError
            It fails, takes too long, or does not print both numbers.
        """
        with tempfile.TemporaryDirectory(prefix="stemloom-peaq-") as folder:
            paths = {"reference": Path(folder, "reference.wav"), "estimate": Path(folder, "estimate.wav")}
            for path, audio in zip(paths.values(), (reference, estimate), strict=True):
                write(path, audio, PEAQ_RATE, bit_depth=16)
            command = list(self.command)
            for name, path in paths.items():
                command = [argument.replace(f"{{{name}}}", str(path)) for argument in command]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=self.timeout_s, check=False
                )
            except OSError as error:
                raise RecipeError(
                    f"{command[0]}: cannot be started ({error.strerror}); install it, or give its path"
                ) from error
            except subprocess.TimeoutExpired as error:
                raise AudioError(
                    f"{command[0]}: took longer than {self.timeout_s:g} s; raise timeout_s, or compare excerpts"
                ) from error
        if done.returncode != 0:
            told = (done.stderr or done.stdout).strip()[-_TAIL_CHARS:]
            raise AudioError(f"{command[0]}: exit status {done.returncode}: {told or 'it says nothing'}")
        return _movs_of(done.stdout, command[0])


def _at_peaq_rate(audio: Audio, sample_rate: int) -> Audio:
    if sample_rate == PEAQ_RATE:
        return np.asarray(audio, np.float32)
    return np.ascontiguousarray(soxr.resample(audio.T, sample_rate, PEAQ_RATE).T, np.float32)


def _movs_of(text: str, program: str) -> PeaqMovs:
    try:
        values = json.loads(text)
    except ValueError:
        values = dict(_LINE.findall(text))
    try:
        movs = PeaqMovs(float(values["AvgModDiff1"]), float(values["ADB"]))
    except (KeyError, TypeError, ValueError):
        movs = PeaqMovs(np.nan, np.nan)
    if not np.isfinite([movs.avg_mod_diff_1, movs.adb]).all():
        raise AudioError(
            f"{program}: prints no numbers AvgModDiff1 and ADB, but {text.strip()[-_TAIL_CHARS:]!r}; choose the "
            "program's option that prints PEAQ's model output variables of the basic version"
        )
    return movs
