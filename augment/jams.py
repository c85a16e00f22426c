"""Plans out of JAMS files, and JAMS files out of plans. JAMS is JSON: the package `jams` is not needed.

    plan = plan_of_jams(Path("soundscape.jams"), roots)     # what scaper wrote
    mixture = render(plan, CropReader(roots))               # sounds as scaper's own

    write_jams(Path("mixture.jams"), jams_of_plan(plan, roots))

A file that we write has the layout of scaper 1.6.5 (namespace `scaper`): scaper's `generate_from_jams` renders it,
and what reads scaper's annotations reads ours. What scaper has no field for is in the file's own sandbox, under
`stemloom`: the plan's rows in the `mixtures` table, out of which `plan_of_jams` gives the plan back; what is known
of each event (tags, transcript ...); and `not_in_scaper`, what scaper leaves out when it renders the file.

References
----------
E. J. Humphrey, J. Salamon, O. Nieto, J. Forsyth, R. M. Bittner, J. P. Bello, "JAMS: a JSON annotated music
specification for reproducible MIR research", ISMIR 2014. For scaper see `augment.soundscape`.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from augment.annotation import Label, annotation_of
from augment.plan import Event, MixturePlan, plans_of
from augment.soundscape import Soundscape, events_of, soundscape_of
from manifests.crops import CropReader
from manifests.errors import RecipeError, TableError
from manifests.files import replacing
from manifests.plain import json_of
from manifests.tables import frame_of

__all__ = ["Targets", "jams_of_plan", "jams_roots", "plan_of_jams", "write_jams"]

log = logging.getLogger(__name__)

Targets: TypeAlias = Literal["label", "role", "event"] | Mapping[str, str]
"""What the targets of a soundscape are: its labels; background and foreground; each event on its own, named as
scaper names the files of isolated events; or the target of each label."""

# a soundscape of an hour takes a hundredth of it
_MAX_BYTES = 1 << 26
_JAMS_VERSION = "0.3.5"
_KNOWN = ("artist", "genre", "language", "tags", "transcript", "license")


def plan_of_jams(
    jam: Path | Mapping[str, Any],
    roots: Mapping[str, Path],
    *,
    targets: Targets = "label",
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
) -> MixturePlan:
    """The plan of a soundscape of scaper, or the plan that `jams_of_plan` put into a file.

    Source files are read, since scaper's levels follow from the loudness of each; the plan holds the gains.

    Parameters
    ----------
    jam : Path or mapping
        A `.jams` or `.jamz` file, or what is in it.
    roots : mapping of str to Path
        Folders that hold the source files, by the names that events get in `root`. `background` and `foreground`
        also stand for scaper's two folders where these have moved; `jams_roots` gives those that the file names.
    targets : {'label', 'role', 'event'} or mapping of str to str
        What the targets are. With labels, those that could have been drawn are targets too, silent ones.
    seed, epoch, index : int
        The plan's number.

    Returns
    -------
    MixturePlan
        Of a file with a plan in it, that plan as it is; `targets` and the number are not used.

    Raises
    ------
    AudioError
        When a source file cannot be read.
    RecipeError
        When `targets` has no target for a label.
    TableError
        When the file is no JAMS of scaper's, was trimmed, or names files outside of the roots.
    """
    origin, content = _content(jam)
    soundscape = soundscape_of(origin, _annotation(origin, content))
    if (stored := _stored(origin, content)) is not None:
        plans = plans_of(frame_of("mixtures", stored["mixtures"]))
        if len(plans) != 1:
            raise TableError(f"{origin}: sandbox.stemloom holds {len(plans)} mixtures, not one; write it again")
        return plans[0]
    names, all_names = _targets(soundscape, targets)
    events: list[Event] = []
    with CropReader(roots) as reader:
        for number, name in enumerate(names):
            events += events_of(soundscape, number, name, roots, reader)
    if not all_names:
        raise TableError(f"{origin}: holds no events, so there are no targets; leave this file out")
    return MixturePlan(
        seed,
        epoch,
        index,
        0,
        soundscape.sample_rate,
        soundscape.channels,
        soundscape.num_frames,
        all_names,
        tuple(sorted(events, key=lambda event: all_names.index(event.target))),
        soundscape.transforms(),
    )


def jams_roots(jam: Path | Mapping[str, Any]) -> dict[str, Path]:
    """The folders that scaper took its sounds from.

    Parameters
    ----------
    jam : Path or mapping
        A `.jams` or `.jamz` file, or what is in it.

    Returns
    -------
    dict of str to Path
        `background` and `foreground`; for a file that `jams_of_plan` made, the roots of its plan.

    Raises
    ------
    TableError
        When the file is no JAMS of scaper's.
    """
    origin, content = _content(jam)
    soundscape = soundscape_of(origin, _annotation(origin, content))
    if (stored := _stored(origin, content)) is not None:
        return {name: Path(folder) for name, folder in stored["roots"].items()}
    return {role: Path(soundscape.setting(f"{role[0]}g_path")) for role in ("background", "foreground")}


def _content(jam: Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(jam, Mapping):
        return "JAMS", jam
    path = Path(jam)
    try:
        with gzip.open(path) if path.suffix == ".jamz" else path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        content = json_of(data)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise TableError(f"{path}: cannot be read as JAMS ({error}); write it again") from error
    if not isinstance(content, dict):
        raise TableError(f"{path}: is JSON, but no JAMS: it holds no object; write it again")
    return str(path), content


def _annotation(origin: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    annotations = content.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(found, Mapping) for found in annotations):
        raise TableError(f"{origin}: field 'annotations' is no list of objects; write it again")
    for annotation in annotations:
        if annotation.get("namespace") == "scaper":
            return dict(annotation)
    found = ", ".join(sorted({str(annotation.get("namespace")) for annotation in annotations})) or "none"
    raise TableError(
        f"{origin}: no annotation of the namespace 'scaper' (there are: {found}); give one of scaper's"
    )


def _stored(origin: str, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What `jams_of_plan` put into a file's own sandbox; None in one of scaper's."""
    sandbox = content.get("sandbox") or {}
    stored = sandbox.get("stemloom") if isinstance(sandbox, Mapping) else None
    if stored is None:
        return None
    rows, roots = (stored.get("mixtures"), stored.get("roots")) if isinstance(stored, Mapping) else (None, None)
    if (
        not (isinstance(rows, list) and isinstance(roots, Mapping))
        or not all(isinstance(row, Mapping) for row in rows)
        or not all(isinstance(folder, str) for folder in roots.values())
    ):
        raise TableError(f"{origin}: field 'sandbox.stemloom' is not as it was written; write it again")
    return {"mixtures": rows, "roots": roots}


def _targets(soundscape: Soundscape, targets: Targets) -> tuple[list[str], tuple[str, ...]]:
    """The target of each event, and all targets in their order."""
    labels = [value["label"] for value in soundscape.values]
    if isinstance(targets, str) and targets not in ("label", "role", "event"):
        raise RecipeError(f"targets is '{targets}'; it is 'label', 'role', 'event', or a target for each label")
    if targets == "role":
        return [value["role"] for value in soundscape.values], ("background", "foreground")
    if targets == "event":
        return (names := soundscape.target_names()), tuple(names)
    if targets == "label":
        allowed = [label for key in ("bg_labels", "fg_labels") for label in soundscape.settings.get(key) or []]
        return labels, tuple(dict.fromkeys([*allowed, *labels]))
    missing = [label for label in labels if label not in targets]
    if missing:
        raise RecipeError(f"targets: label '{missing[0]}' of {soundscape.origin} has no target; add it")
    return [targets[label] for label in labels], tuple(dict.fromkeys(targets.values()))


def jams_of_plan(
    plan: MixturePlan,
    roots: Mapping[str, Path],
    *,
    label: Label = "stem",
    background: Collection[str] = (),
    stems: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """A plan as JAMS, in the layout of scaper.

    Source files are read, since scaper's levels are loudnesses.

    Parameters
    ----------
    plan : MixturePlan
    roots : mapping of str to Path
        Knows the roots that the events name.
    label : {'stem', 'target', 'source', 'tags'}
        What events are called; `tags` is their stem where there are none.
    background : collection of str
        Targets that are background: the first event of one that lasts from the mixture's start to its end (or the
        first file that is repeated until then) gets the role `background`, and its loudness is `ref_db`, to which
        each `snr` refers. All others are `foreground`. Without one `ref_db` is 0, and `snr` the loudness in LUFS.
    stems : pd.DataFrame, optional
        The `stems` table, of which artist, genre, language, tags, transcript and license of each event are taken.

    Returns
    -------
    dict
        JSON values; `write_jams` writes them.

    Raises
    ------
    AudioError
        When a source file cannot be read, or a transform cannot deal with what it gets.
    TableError
        When an event's root is unknown.
    """
    known = _known(stems)
    facts = [known.get((event.song_id, event.stem), {}) for event in plan.events]
    labels = [
        fact.get("tags") or event.stem if label == "tags" else str(getattr(event, label))
        for event, fact in zip(plan.events, facts, strict=True)
    ]
    annotation, levels, left_out = annotation_of(plan, roots, labels, background)
    if left_out:
        log.info("mixture %s: scaper would leave out: %s", plan.mixture_id, "; ".join(left_out))
    stored = {
        "mixtures": plan.rows(),
        "roots": {name: os.path.abspath(folder) for name, folder in roots.items()},
        "events": [
            {"song_id": event.song_id, "stem": event.stem, "target": event.target, "loudness_lufs": level, **fact}
            for event, level, fact in zip(plan.events, levels, facts, strict=True)
        ],
        "not_in_scaper": left_out,
    }
    metadata = {
        "title": plan.mixture_id,
        "artist": "",
        "release": "",
        "duration": annotation["duration"],
        "identifiers": {},
        "jams_version": _JAMS_VERSION,
    }
    return {"annotations": [annotation], "file_metadata": metadata, "sandbox": {"stemloom": stored}}


def write_jams(path: Path, jam: Mapping[str, Any]) -> None:
    """Write a JAMS file, whole or not at all.

    Parameters
    ----------
    path : Path
        It ends in `.jams`.
    jam : mapping
        As `jams_of_plan` gives it.

    Raises
    ------
    BuildError
        When the file system refuses.
    RecipeError
        When the path ends otherwise: the package jams would not read it.
    """
    if path.suffix != ".jams":
        raise RecipeError(f"{path}: ends in '{path.suffix}'; a JAMS file ends in '.jams'")
    text = json.dumps(jam, ensure_ascii=False, allow_nan=False, indent=2)
    with replacing(path) as file:
        file.write(text.encode())


def _known(stems: pd.DataFrame | None) -> dict[tuple[str, str], dict[str, str]]:
    if stems is None:
        return {}
    columns = [column for column in _KNOWN if column in stems]
    rows = stems[["song_id", "stem", *columns]].itertuples(index=False, name=None)
    return {
        (song_id, stem): {
            column: str(value) for column, value in zip(columns, values, strict=True) if pd.notna(value)
        }
        for song_id, stem, *values in rows
    }
