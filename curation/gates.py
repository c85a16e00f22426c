"""Gates: which rows of a table of measures pass, why the others do not, and the distribution that each gate cuts.

Conventions
-----------
A table of measures has a row per song, stem or segment, and columns such as those of `curation.measures.Measures`.
A `Gate` reads the column of its measure: ``rms_dialogue`` in a wide table, as `clips`; ``rms`` of the rows whose
`stem` is ``dialogue`` in a long one, as `stems`. A null fails every gate.

A person writes a gate as ``STEM.MEASURE >= NUMBER`` or ``<=``: ``vocals.rms >= 0.01``, ``*.dc_offset <= 0.01`` for
every stem, ``salient_fraction >= 0.6`` for a measure of the row as a whole; or the name of one of `GATES`. What
lies on the limit passes.

References
----------
S. Uhlich et al., "The Sound Demixing Challenge 2023 - Cinematic Demixing Track", TISMIR 7(1), 2024: ``'cdxdb23'``.
Y. Luo, J. Yu, "Music Source Separation with Band-split RNN", IEEE/ACM TASLP 31, 2023: ``'bsrnn'``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from curation.measures import Measures
from manifests.errors import RecipeError, TableError, did_you_mean

__all__ = [
    "EVERY_STEM",
    "GATES",
    "MEASURES",
    "Gate",
    "GateReport",
    "Gated",
    "apply_gates",
    "parse_gate",
    "parse_gates",
]

EVERY_STEM = "*"
"""What a gate on all stems has as its stem."""

MEASURES = (
    *(field.name for field in dataclasses.fields(Measures)),
    *("active_fraction", "residual_db", "salient_fraction", "voiced_fraction"),
)
"""Measures that a gate in writing may name, unless told otherwise."""

_FORM = f"'STEM.MEASURE >= NUMBER' or '<=', such as 'vocals.rms >= 0.01' or '{EVERY_STEM}.dc_offset <= 0.01'"
_GATE = re.compile(
    r"\s*(?:(?P<stem>[^\s<>=]+)\.)?(?P<measure>[^\W\d]\w*)\s*(?P<sign><=|>=|≤|≥)\s*(?P<number>.*?)\s*"
)

_FINEST = 1e-6
_NUM_BINS = 50
# A linear axis would put every quiet stem into the first bin.
_LOGARITHMIC = frozenset({"rms", "peak", "dc_offset"})
_LOWEST_RATIO = 1e-6

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Gate:
    """A limit on one measure of one stem. ``str(gate)`` is what `parse_gate` reads.

    Attributes
    ----------
    measure : str
        A field of `curation.measures.Measures`, or any other numeric column, such as ``active_fraction``.
    stem : str, optional
        The stem or class that the measure is of; `EVERY_STEM` for each of them; None for a measure of the row as a
        whole (which in a long table is each of them, too).
    minimum, maximum : float, optional
        The value that passes just so. One of the two, and finite.

    Raises
    ------
    RecipeError
        If there is no limit, there are two, or it is not finite.
    """

    measure: str
    stem: str | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if (self.minimum is None) == (self.maximum is None) or not math.isfinite(self.threshold):
            raise RecipeError(
                f"gate on '{self.name}': minimum is {self.minimum}, maximum {self.maximum}; give one finite number "
                "(for a range, use two gates)"
            )

    def __str__(self) -> str:
        return f"{self.name} {'<=' if self.minimum is None else '>='} {_number(self.threshold)}"

    @property
    def threshold(self) -> float:
        """The minimum, or the maximum."""
        limit = self.maximum if self.minimum is None else self.minimum
        return math.nan if limit is None else limit

    @property
    def name(self) -> str:
        """What the gate is on, as a person writes it: ``dialogue.rms``."""
        return self.measure if self.stem is None else f"{self.stem}.{self.measure}"

    @property
    def reason(self) -> str:
        """Why a row is dropped: ``dialogue.rms below 0.022``."""
        return f"{self.name} {'above' if self.minimum is None else 'below'} {_number(self.threshold)}"

    def passes(self, values: Floats) -> Bools:
        """Which values pass; NaN does not."""
        return np.asarray(values <= self.threshold if self.minimum is None else values >= self.threshold)


GATES: Mapping[str, tuple[Gate, ...]] = MappingProxyType(
    {
        "cdxdb23": (
            Gate("rms", "dialogue", minimum=0.022),
            Gate("rms", "effects", minimum=0.005),
            Gate("rms", "music", minimum=0.003),
        ),
        "bsrnn": (Gate("salient_fraction", minimum=0.6),),
        "lossless": (Gate("cutoff_hz", "mixture", minimum=20_700.0),),
    }
)
"""Gates by name.

``'cdxdb23'``: a segment of about 11 s is dropped unless all three classes reach these levels, as
`curation.clips.clip_rms` measures them. ``'bsrnn'``: of a segment's ten chunks more than half, so at least six, are
salient (`curation.activity.Salience.fractions`). ``'lossless'``: the mixture has no cut-off of a lossy codec;
`curation.measures` says what that can tell.
"""


def parse_gate(text: str, *, measures: Collection[str] = MEASURES) -> Gate:
    """Read a gate as a person writes it.

    Parameters
    ----------
    text : str
        ``STEM.MEASURE >= NUMBER``, or ``<=``. The stem may be `EVERY_STEM`, or left out.
    measures : collection of str
        Measures that there are.

    Returns
    -------
    Gate

    Raises
    ------
    RecipeError
        If the text is not of this form, the measure is not known, or the number is not finite.

    Examples
    --------
    >>> parse_gate("vocals.rms >= 0.01")
    Gate(measure='rms', stem='vocals', minimum=0.01, maximum=None)
    """
    found = _GATE.fullmatch(text)
    if found is None:
        hint = did_you_mean(text.strip(), GATES)
        raise RecipeError(f"gate {text!r}{hint}: expected {_FORM}, or one of {', '.join(GATES)}")
    measure, number = found["measure"], found["number"]
    if measure not in measures:
        hint = did_you_mean(measure, measures)
        raise RecipeError(
            f"gate {text!r}: measure '{measure}' is not known{hint}; measures are {', '.join(measures)}"
        )
    try:
        limit = float(number)
    except ValueError as error:
        raise RecipeError(f"gate {text!r}: '{number}' is no number; write {_FORM}") from error
    return Gate(measure, found["stem"], **{"minimum" if found["sign"] in (">=", "≥") else "maximum": limit})


def parse_gates(texts: Iterable[str], *, measures: Collection[str] = MEASURES) -> tuple[Gate, ...]:
    """Read gates and names of gates as a person lists them.

    Parameters
    ----------
    texts : iterable of str
        Each a key of `GATES`, or a gate as `parse_gate` reads it.
    measures : collection of str
        As for `parse_gate`.

    Returns
    -------
    tuple of Gate
        In their order, each once.

    Raises
    ------
    RecipeError
        As `parse_gate`.

    Examples
    --------
    >>> [str(gate) for gate in parse_gates(["bsrnn", "mixture.clipped_fraction <= 0.001"])]
    ['salient_fraction >= 0.6', 'mixture.clipped_fraction <= 0.001']
    """
    if isinstance(texts, str):
        raise ValueError(f"texts is {texts!r}, expected several; for one gate there is 'parse_gate'")
    read = [GATES[text] if text in GATES else (parse_gate(text, measures=measures),) for text in texts]
    return tuple(dict.fromkeys(gate for gates in read for gate in gates))


@dataclass(frozen=True, eq=False)
class GateReport:
    """The distribution that a gate cuts, over the rows that it concerns.

    Attributes
    ----------
    gate : Gate
    edges : np.ndarray of float64 [shape=(bins + 1,)]
        Ascending; the threshold is one of them. Evenly spaced on either side of it, logarithmically for levels
        (where smaller values than the first edge are counted in the first bin). Empty when there are no values.
    counts : np.ndarray of int64 [shape=(bins,)]
        Values per bin; a value at the threshold is counted on the side that passes.
    threshold : float
    kept, dropped : int
        Rows that this gate alone keeps and drops.
    unknown : int
        Of those dropped, rows without a value.
    """

    gate: Gate
    edges: Floats
    counts: Ints
    threshold: float
    kept: int
    dropped: int
    unknown: int


@dataclass(frozen=True, eq=False)
class Gated:
    """What became of each row of a table.

    Attributes
    ----------
    kept : pd.Series of bool
        Whether a row passes all gates that concern it; the table's index.
    reasons : pd.Series of str
        Why not: a JSON list of `Gate.reason`, as in the stems table; null where kept. A row without a value has
        the reason ``dialogue.rms unknown``.
    reports : tuple of GateReport
        One per gate.
    """

    kept: pd.Series[Any]
    reasons: pd.Series[Any]
    reports: tuple[GateReport, ...]


def apply_gates(table: pd.DataFrame, gates: Sequence[Gate]) -> Gated:
    """Decide which rows of a table of measures pass all gates.

    Parameters
    ----------
    table : pd.DataFrame
        A long table if it has a column `stem`, else a wide one; see the module's text.
    gates : sequence of Gate
        None keeps everything.

    Returns
    -------
    Gated

    Raises
    ------
    TableError
        If a gate's column is missing or not numeric, or holds an infinity, or a gate's stem is not in the table.

    Examples
    --------
    >>> clips = pd.DataFrame({"rms_music": [0.1, 0.001], "rms_effects": [0.01, 0.004]})
    >>> gated = apply_gates(clips, parse_gates(["music.rms >= 0.003", "effects.rms >= 0.005"]))
    >>> gated.kept.tolist(), gated.reasons[1]
    ([True, False], '["music.rms below 0.003", "effects.rms below 0.005"]')
    """
    texts = np.full(len(table), "", dtype=object)
    reports = []
    for gate in gates:
        rows, values = _values(table, gate)
        unknown = np.isnan(values)
        concerned, wrong, lost = (np.zeros(len(table), np.bool_) for _ in range(3))
        concerned[rows], wrong[rows[~gate.passes(values) & ~unknown]], lost[rows[unknown]] = True, True, True
        for failed, reason in ((wrong, gate.reason), (lost, f"{gate.name} unknown")):
            texts[failed] += f", {json.dumps(reason, ensure_ascii=False)}"
        edges, counts = _histogram(gate, values[~unknown])
        dropped = int(np.count_nonzero(wrong | lost))
        kept = int(np.count_nonzero(concerned)) - dropped
        num_unknown = int(np.count_nonzero(lost))
        reports.append(GateReport(gate, edges, counts, gate.threshold, kept, dropped, num_unknown))
    reasons = [f"[{text[2:]}]" if text else None for text in texts]
    return Gated(
        kept=pd.Series(texts == "", index=table.index, dtype=bool, name="kept"),
        reasons=pd.Series(pd.array(reasons, dtype=pd.StringDtype()), index=table.index, name="reasons"),
        reports=tuple(reports),
    )


def _number(value: float) -> str:
    """A number as short as it can be written without changing it."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _values(table: pd.DataFrame, gate: Gate) -> tuple[Ints, Floats]:
    """Positions of the rows that a gate concerns, and its measure there, NaN for null.

    With every stem of a wide table, a position for each of its columns.
    """
    if "stem" in table.columns:
        values = _numbers(table, gate, gate.measure)
        if gate.stem in (None, EVERY_STEM):
            return np.arange(len(table)), values
        rows = np.flatnonzero((table["stem"] == gate.stem).to_numpy(dtype=bool, na_value=False))
        if not rows.size and len(table):
            stems = sorted(map(str, table["stem"].dropna().unique()))
            hint = did_you_mean(str(gate.stem), stems)
            raise TableError(
                f"gate on '{gate.name}': no row has stem '{gate.stem}'{hint}; stems are {', '.join(stems)}"
            )
        return rows, values[rows]
    if gate.stem != EVERY_STEM:
        names = [gate.measure if gate.stem is None else f"{gate.measure}_{gate.stem}"]
    else:
        names = [str(name) for name in table.columns if str(name).startswith(f"{gate.measure}_")]
        if not names:
            raise TableError(
                f"gate on '{gate.name}': the table has no column '{gate.measure}_STEM' of any stem; measure them"
            )
    values = np.concatenate([_numbers(table, gate, name) for name in names])
    return np.tile(np.arange(len(table)), len(names)), values


def _numbers(table: pd.DataFrame, gate: Gate, name: str) -> Floats:
    if name not in table.columns:
        hint = did_you_mean(name, map(str, table.columns))
        raise TableError(f"gate on '{gate.name}': the table has no column '{name}'{hint}; measure it first")
    column = table[name]
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        raise TableError(
            f"gate on '{gate.name}': column '{name}' is {column.dtype}, expected numbers; correct the table"
        )
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise TableError(f"gate on '{gate.name}': column '{name}' is {values[row]} in row {row}; write null for it")
    return values


def _histogram(gate: Gate, values: Floats) -> tuple[Floats, Ints]:
    if not values.size:
        return np.zeros(0), np.zeros(0, np.int64)
    edges = _edges(gate.threshold, float(values.min()), float(values.max()), gate.measure in _LOGARITHMIC)
    # A value that lies on an edge belongs to the bin on the side that passes.
    bins = np.searchsorted(edges, values, side="left" if gate.minimum is None else "right") - 1
    return edges, np.bincount(np.clip(bins, 0, len(edges) - 2), minlength=len(edges) - 1)


def _edges(threshold: float, low: float, high: float, logarithmic: bool) -> Floats:
    """Edges from the lowest to the highest value, with the threshold among them and bins on either side."""
    logarithmic = logarithmic and threshold > 0.0
    if logarithmic:
        low, high = max(low, _LOWEST_RATIO * threshold), max(high, _LOWEST_RATIO * threshold)
        low, high, middle = math.log10(low), math.log10(high), math.log10(threshold)
    else:
        middle = threshold
    # values that differ by a rounding alone would have edges that do not differ at all
    finest = _FINEST * (1.0 if logarithmic else abs(middle))
    width = max(max(high, middle) - min(low, middle), finest) or 1.0
    # At least one bin on either side, also where nothing lies.
    low, high = min(low, middle - width / _NUM_BINS), max(high, middle + width / _NUM_BINS)
    num_below = min(max(1, round(_NUM_BINS * (middle - low) / (high - low))), _NUM_BINS - 1)
    below = np.linspace(low, middle, num_below + 1)[:-1]
    edges = np.concatenate([below, np.linspace(middle, high, _NUM_BINS - num_below + 1)])
    if logarithmic:
        edges = 10.0**edges
        edges[num_below] = threshold
    return np.asarray(edges)
