"""What a mixture is made of, decided before any audio is read: the plan, and its rows in the `mixtures` table.

A plan holds everything that rendering needs and nothing else decides: the same plan gives the same audio, on the
fly or in a static set. In the table a row is one source event; a target without any is one row without a path.

Conventions
-----------
`source_start_frame` and `num_frames` count frames of the file, at its own rate; `offset_frame`, `length_frames` and
`mixture_frames` count frames of the mixture. A step is a mapping: a transform's `name` and its drawn parameters.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import pandas as pd

from manifests.decoders import MAX_CHANNELS
from manifests.errors import TableError
from manifests.tables import frame_of

__all__ = ["Event", "MixturePlan", "Step", "mixture_id_of", "plans_of", "plans_table"]

Step: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Event:
    """One source of a mixture: a crop of a stem, where it goes, and what happens to it on the way.

    Attributes
    ----------
    source : str
        The recipe's source that it was drawn for.
    target : str
        The target that it is added to.
    song_id, stem : str
        What it is.
    root, path : str
        Where its audio is.
    source_start_frame, num_frames : int
        The crop, in frames of the file.
    source_rate : int
        Of the file, in Hz.
    offset_frame : int
        Where it starts in the mixture (before the mixture's own transforms).
    length_frames : int
        How long it is there.
    gain_db : float
        Applied last.
    transforms : tuple of Step
        Applied in this order, after resampling and before the gain.
    """

    source: str
    target: str
    song_id: str
    stem: str
    root: str
    path: str
    source_start_frame: int
    num_frames: int
    source_rate: int
    offset_frame: int
    length_frames: int
    gain_db: float = 0.0
    transforms: tuple[Step, ...] = ()


@dataclasses.dataclass(frozen=True)
class MixturePlan:
    """A mixture that is decided, and not rendered yet.

    Attributes
    ----------
    seed, epoch, index : int
        What it was drawn from, and all that it depends on besides the recipe and the corpora.
    attempt : int
        How many draws before it met a file that cannot be read.
    sample_rate, channels, num_frames : int
        Of the mixture.
    targets : tuple of str
        In their order; those without an event are silent.
    events : tuple of Event
    transforms : tuple of Step
        Applied to all targets alike, in this order.
    """

    seed: int
    epoch: int
    index: int
    attempt: int
    sample_rate: int
    channels: int
    num_frames: int
    targets: tuple[str, ...]
    events: tuple[Event, ...]
    transforms: tuple[Step, ...] = ()

    @property
    def mixture_id(self) -> str:
        """Of its seed, epoch and index; it sorts as they do."""
        return mixture_id_of(self.seed, self.epoch, self.index)

    def rows(self) -> list[dict[str, Any]]:
        """Its rows in the `mixtures` table: targets in their order, each with its events or with a silent row.

        Returns
        -------
        list of dict
        """
        common = {
            "mixture_id": self.mixture_id,
            "seed": self.seed,
            "epoch": self.epoch,
            "index": self.index,
            "attempt": self.attempt,
            "mixture_rate": self.sample_rate,
            "mixture_channels": self.channels,
            "mixture_frames": self.num_frames,
            "mixture_transforms": json.dumps(list(map(dict, self.transforms))),
        }
        rows = []
        for target in self.targets:
            events = [event for event in self.events if event.target == target]
            rows += [common | _event_row(event) for event in events] or [common | {"target": target}]
        return rows


def mixture_id_of(seed: int, epoch: int, index: int) -> str:
    """The id of the mixture with these numbers.

    Parameters
    ----------
    seed, epoch, index : int

    Returns
    -------
    str
    """
    return f"{seed}-{epoch:04d}-{index:08d}"


def _event_row(event: Event) -> dict[str, Any]:
    row = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return row | {"transforms": json.dumps(list(map(dict, event.transforms)))}


def plans_table(plans: Iterable[MixturePlan]) -> pd.DataFrame:
    """The `mixtures` table of some plans.

    Parameters
    ----------
    plans : iterable of MixturePlan

    Returns
    -------
    pd.DataFrame
        Their rows, validated.
    """
    return frame_of("mixtures", [row for plan in plans for row in plan.rows()])


def plans_of(mixtures: pd.DataFrame) -> list[MixturePlan]:
    """The plans that a `mixtures` table holds, in the table's order.

    Parameters
    ----------
    mixtures : pd.DataFrame
        As `manifests.tables.read_table` or `pandas.read_parquet` gives it.

    Returns
    -------
    list of MixturePlan
        Equal to those that the table was made of, but that events come sorted by target.

    Raises
    ------
    TableError
        When rows of one mixture disagree about it.
    """
    frame = mixtures.astype(object)
    rows = frame.where(frame.notna(), None).to_dict("records")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["mixture_id"], []).append({str(key): value for key, value in row.items()})
    return [_plan_of(mixture_id, group) for mixture_id, group in groups.items()]


_OF_MIXTURE = {
    "seed": "seed",
    "epoch": "epoch",
    "index": "index",
    "attempt": "attempt",
    "mixture_rate": "sample_rate",
    "mixture_channels": "channels",
    "mixture_frames": "num_frames",
}
_OF_EVENT = [field.name for field in dataclasses.fields(Event) if field.name != "transforms"]


def _plan_of(mixture_id: str, rows: list[dict[str, Any]]) -> MixturePlan:
    for column in (*_OF_MIXTURE, "mixture_transforms"):
        found = {row[column] for row in rows}
        if len(found) > 1 or None in found:
            raise TableError(
                f"mixtures: rows of '{mixture_id}' say {column} {sorted(map(str, found))}; every row of a mixture "
                "holds the same: write the table again"
            )
    first = rows[0]
    rate, channels, length = (first[name] for name in ("mixture_rate", "mixture_channels", "mixture_frames"))
    if rate > _MAX_RATE or channels > MAX_CHANNELS or length > _LONGEST_S * rate:
        raise TableError(
            f"mixtures: '{mixture_id}' has {length} frames of {channels} channels at {rate} Hz; a mixture is at "
            f"most {_LONGEST_S} s long, has at most {MAX_CHANNELS} channels and {_MAX_RATE} Hz: correct the rows"
        )
    for row in rows:
        missing = [name for name in _OF_EVENT if row[name] is None]
        if row["path"] is not None and missing:
            raise TableError(
                f"mixtures: a row of '{mixture_id}' has a path ({row['path']!r}) and no {missing[0]}; correct it"
            )
    events = [
        Event(**{name: _plain(row[name], name) for name in _OF_EVENT}, transforms=_steps(row["transforms"]))
        for row in rows
        if row["path"] is not None
    ]
    return MixturePlan(
        **{field: int(first[column]) for column, field in _OF_MIXTURE.items()},
        targets=tuple(dict.fromkeys(row["target"] for row in rows)),
        events=tuple(events),
        transforms=_steps(first["mixture_transforms"]),
    )


# Nobody means more, and a mixture is made in memory.
_LONGEST_S, _MAX_RATE = 86_400, 1_000_000
_WHOLE = {"source_start_frame", "num_frames", "source_rate", "offset_frame", "length_frames"}


def _plain(value: Any, name: str) -> Any:
    """A value as a plan holds it: a column with nulls may have come as floats."""
    return int(value) if name in _WHOLE else value


def _steps(text: str | None) -> tuple[Step, ...]:
    return tuple(json.loads(text or "[]"))
