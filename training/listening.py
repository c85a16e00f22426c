"""Listening tests of dialogue enhancement: what a listener would hear of each separator, as a MUSHRA experiment.

A separator's dialogue ``x`` leaves the background ``b``, the mixture less the dialogue; what is heard is
``y = x + mu b``, the background attenuated. Separators leak, so that one ``mu`` for all would make the leaky ones
louder in the background: each gets the ``mu`` that makes its background as loud as the reference's where nobody
speaks, and then all conditions are brought to one loudness. Loudness is that of BS.1770 without its gates.

The conditions of an item are the hidden reference (the true parts, the background attenuated by 12 dB), the
separators, the unprocessed mixture, and an anchor: the reference below 3.5 kHz.

What is written is an experiment of webMUSHRA: its configuration, and WAV files where it looks for them. Copy the
folder's content into webMUSHRA's and open ``?config=<test_id>.yaml``.

References
----------
- M. Strauss et al., "A Hands-on Comparison of DNNs for Dialog Separation Using Transfer Learning from Music Source
  Separation", Interspeech 2021, section 4.2, and equation 2.
- ITU-R BS.1534-3: MUSHRA, its hidden reference and its anchors.
- https://github.com/audiolabs/webMUSHRA, doc/experimenter.md: the configuration.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.signal
import yaml

from manifests.audio import Audio, write
from manifests.errors import AudioError, RecipeError
from manifests.files import replacing
from manifests.loudness import k_weighting

__all__ = [
    "ListeningItem",
    "RemixSettings",
    "conditions",
    "dialogue_free",
    "low_pass_anchor",
    "ungated_lufs",
    "write_listening_test",
]

REFERENCE, MIXTURE, ANCHOR = "reference", "mixture", "anchor35"
"""Conditions that every item has."""

_STEP_S = 0.1
_QUIET_DB = -50.0
# BS.1534-3 asks of the anchor 0.1 dB up to 3.5 kHz, 25 dB less at 4 kHz, 50 dB less at 4.5 kHz
_TRANSITION = 1 / 7
_STOP_DB = 60.0
_BUFFER_FRAMES = 2048
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_MAX_CHANNELS = 2

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemixSettings:
    """How conditions are made.

    Attributes
    ----------
    attenuation_db : float
        Of the background in the reference, at least 0.
    most_change_db : float
        The most that a separator's background is attenuated or raised to be as loud.
    loudness_lufs : float
        Of all conditions, without gates.
    anchor_hz : float
        Where the anchor ends.
    with_anchor : bool
        Write the anchor; without it, webMUSHRA makes one of its own while it loads.

    Raises
    ------
    RecipeError
        A value is impossible.
    """

    attenuation_db: float = 12.0
    most_change_db: float = 120.0
    loudness_lufs: float = -23.0
    anchor_hz: float = 3500.0
    with_anchor: bool = True

    def __post_init__(self) -> None:
        for name in ("attenuation_db", "most_change_db"):
            if not getattr(self, name) >= 0.0:
                raise RecipeError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if not (math.isfinite(self.loudness_lufs) and self.loudness_lufs < 0.0):
            raise RecipeError(f"loudness_lufs is {self.loudness_lufs}: it must be below 0, such as -23")
        if not self.anchor_hz > 0.0:
            raise RecipeError(f"anchor_hz is {self.anchor_hz}: it must be positive")


@dataclasses.dataclass(frozen=True, eq=False)
class ListeningItem:
    """What one trial is made of.

    Attributes
    ----------
    name : str
        Letters, digits, ``_``, ``.`` and ``-``: files are named by it.
    sample_rate : int
        In Hz.
    mixture, dialogue : np.ndarray of float32 [shape=(channels, frames)]
        The mixture, and the true dialogue in it.
    estimates : mapping of str to np.ndarray of float32 [shape=(channels, frames)]
        The dialogue that each separator found, by names as `name`.
    """

    name: str
    sample_rate: int
    mixture: Audio
    dialogue: Audio
    estimates: Mapping[str, Audio]


def dialogue_free(dialogue: Audio, sample_rate: int) -> Mask:
    """Where nobody speaks: steps of 0.1 s at least 50 dB below the loudest, with both neighbours as quiet.

    Parameters
    ----------
    dialogue : np.ndarray [shape=(channels, frames)]
    sample_rate : int
        In Hz.

    Returns
    -------
    np.ndarray of bool [shape=(frames,)]
    """
    frames = dialogue.shape[1]
    step = max(1, round(_STEP_S * sample_rate))
    energy = np.square(dialogue, dtype=np.float64).sum(axis=0)
    starts = np.arange(0, frames, step)
    powers = np.add.reduceat(energy, starts) / np.diff([*starts, frames])
    quiet = powers <= powers.max() * 10.0 ** (_QUIET_DB / 10.0)
    # the end of a word is quiet long before it is over
    edges = np.pad(quiet, 1, constant_values=True)
    alone = edges[:-2] & quiet & edges[2:]
    return np.repeat(alone, step)[:frames]


def ungated_lufs(audio: Audio, sample_rate: int, where: Mask | None = None) -> float:
    """Loudness as BS.1770 weighs it, without its gates.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
        One or two channels.
    sample_rate : int
        In Hz.
    where : np.ndarray of bool [shape=(frames,)], optional
        Count these frames only.

    Returns
    -------
    float
        Minus infinity for silence, and where there are no frames to count.
    """
    weighted = scipy.signal.sosfilt(k_weighting(sample_rate), audio.astype(np.float64), axis=1)
    power = np.square(weighted if where is None else weighted[:, where]).sum(axis=0)
    mean = float(power.mean()) if power.size else 0.0
    return -0.691 + 10.0 * math.log10(mean) if mean > 0.0 else -math.inf


def low_pass_anchor(audio: Audio, sample_rate: int, cutoff_hz: float = 3500.0) -> Audio:
    """Audio below a frequency, as the anchors of MUSHRA are.

    Parameters
    ----------
    audio : np.ndarray [shape=(channels, frames)]
    sample_rate : int
        In Hz.
    cutoff_hz : float
        The pass band's end; a seventh above it, 60 dB are gone. Nothing is shifted in time.

    Returns
    -------
    np.ndarray of float32 [shape=(channels, frames)]

    Raises
    ------
    AudioError
        The rate is too low to have anything above.
    """
    width_hz = cutoff_hz * _TRANSITION
    if cutoff_hz + width_hz >= sample_rate / 2:
        raise AudioError(f"an anchor of {cutoff_hz:g} Hz cannot be made at {sample_rate} Hz; lower anchor_hz")
    taps, beta = scipy.signal.kaiserord(_STOP_DB, width_hz / (sample_rate / 2))
    window = ("kaiser", beta)
    response = scipy.signal.firwin(taps | 1, cutoff_hz + width_hz / 2, window=window, fs=sample_rate)
    filtered = scipy.signal.oaconvolve(audio, response[None], axes=1)
    start = len(response) // 2
    return np.asarray(filtered[:, start : start + audio.shape[1]], np.float32)


def conditions(item: ListeningItem, settings: RemixSettings | None = None) -> dict[str, Audio]:
    """What listeners hear of an item.

    Parameters
    ----------
    item : ListeningItem
    settings : RemixSettings, optional

    Returns
    -------
    dict of str to np.ndarray of float32 [shape=(channels, frames)]
        ``reference``, ``mixture``, ``anchor35`` if asked for, then the separators; all of one loudness. Samples may
        be beyond full scale.

    Raises
    ------
    AudioError
        Shapes differ, there are more than two channels, somebody speaks all the time, or there is only silence
        where nobody speaks.
    RecipeError
        A separator has the name of another condition.
    """
    settings = settings or RemixSettings()
    _check(item)
    rate = item.sample_rate
    free = dialogue_free(item.dialogue, rate)
    background = item.mixture - item.dialogue
    wanted = ungated_lufs(background, rate, free) - settings.attenuation_db
    if not math.isfinite(wanted):
        raise AudioError(
            f"item '{item.name}': there is no background to hear where nobody speaks, so that separators cannot be "
            "made equally loud; take a part with pauses and background"
        )
    found = {REFERENCE: _remixed(item.dialogue, background, -settings.attenuation_db), MIXTURE: item.mixture}
    if settings.with_anchor:
        found[ANCHOR] = low_pass_anchor(found[REFERENCE], rate, settings.anchor_hz)
    for name, estimate in item.estimates.items():
        left = item.mixture - estimate
        level = ungated_lufs(left, rate, free)
        # no gain makes silence loud
        change = wanted - level if math.isfinite(level) else 0.0
        limit = settings.most_change_db
        found[name] = _remixed(estimate, left, min(limit, max(-limit, change)))
    return {name: _levelled(audio, rate, settings, f"{item.name}, {name}") for name, audio in found.items()}


def write_listening_test(
    folder: Path,
    test_id: str,
    items: Sequence[ListeningItem],
    settings: RemixSettings | None = None,
    *,
    title: str = "",
) -> Path:
    """Write a webMUSHRA experiment.

    Parameters
    ----------
    folder : Path
        Gets ``configs/<test_id>.yaml``, and WAV files in ``configs/resources/<test_id>``.
    test_id : str
        Named as `ListeningItem.name`.
    items : sequence of ListeningItem
        A page each, in an order that is random for each listener.
    settings : RemixSettings, optional
    title : str
        What participants see above; `test_id` by default.

    Returns
    -------
    Path
        The configuration, which is written last.

    Raises
    ------
    RecipeError
        There are no items, two have one name, or a name is none for a file.
    AudioError
        As `conditions`; or a condition exceeds full scale.
    BuildError
        The disk refuses.
    """
    settings = settings or RemixSettings()
    names = [item.name for item in items]
    for name in (test_id, *names, *(name for item in items for name in item.estimates)):
        if not _NAME.fullmatch(name):
            raise RecipeError(f"'{name}' cannot name a file; use letters, digits, '_', '.' and '-'")
    if not items or len(set(names)) != len(names):
        raise RecipeError(f"items are {names}: give at least one, each of another name")
    pages: list[dict[str, Any]] = []
    for item in items:
        paths = {}
        for name, audio in conditions(item, settings).items():
            paths[name] = f"configs/resources/{test_id}/{item.name}/{name}.wav"
            peak = float(np.abs(audio).max())
            if peak > 1.0:
                raise AudioError(
                    f"item '{item.name}', condition '{name}': {20 * math.log10(peak):.1f} dB beyond full scale at "
                    f"{settings.loudness_lufs:g} LUFS; lower loudness_lufs"
                )
            write(folder / paths[name], audio, item.sample_rate)
        pages.append(_page(item.name, paths, settings))
    config = {
        "testname": title or test_id,
        "testId": test_id,
        "bufferSize": _BUFFER_FRAMES,
        "stopOnErrors": True,
        "showButtonPreviousPage": True,
        "remoteService": "service/write.php",
        "pages": [
            ["random", *pages],
            {
                "type": "finish",
                "name": "Thank you",
                "content": "Thank you for listening!",
                "showResults": False,
                "writeResults": True,
            },
        ],
    }
    path = folder / "configs" / f"{test_id}.yaml"
    with replacing(path) as file:
        file.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    return path


def _page(name: str, paths: Mapping[str, str], settings: RemixSettings) -> dict[str, Any]:
    # webMUSHRA hides the reference among the stimuli by itself
    return {
        "type": "mushra",
        "id": name,
        "name": name,
        "content": "Rate the overall quality of each version, compared with the reference.",
        "showWaveform": True,
        "enableLooping": True,
        "reference": paths[REFERENCE],
        "createAnchor35": not settings.with_anchor,
        "createAnchor70": False,
        "stimuli": {name: path for name, path in paths.items() if name != REFERENCE},
    }


def _remixed(dialogue: Audio, background: Audio, gain_db: float) -> Audio:
    return dialogue + np.float32(10.0 ** (gain_db / 20.0)) * background


def _levelled(audio: Audio, sample_rate: int, settings: RemixSettings, what: str) -> Audio:
    found = ungated_lufs(audio, sample_rate)
    if not math.isfinite(found):
        raise AudioError(f"{what}: is silent; leave it out")
    return np.asarray(audio * 10.0 ** ((settings.loudness_lufs - found) / 20.0), np.float32)


def _check(item: ListeningItem) -> None:
    shape = item.mixture.shape
    if len(shape) != 2 or not 1 <= shape[0] <= _MAX_CHANNELS or not shape[1]:
        raise AudioError(f"item '{item.name}' has the shape {shape}: take one or two channels, and some frames")
    for name, audio in {"dialogue": item.dialogue, **item.estimates}.items():
        if audio.shape != shape:
            raise AudioError(f"item '{item.name}': '{name}' has the shape {audio.shape}, and the mixture {shape}")
    for name in item.estimates:
        if name in (REFERENCE, MIXTURE, ANCHOR):
            raise RecipeError(
                f"item '{item.name}': a separator is called '{name}', as another condition; rename it"
            )
