"""What a song does over its time: levels of its stems, voice, residue, drawn as lanes under its pictures.

`curves/<song_id>.npz` of a curated corpus holds float32 arrays of one value per second: `rms_<stem>` (full scale
+-1), `voice_<stem>` (0 to 1), `residue_db` and `grade` (0 is A, 3 is D). Where there is no such file, the levels
are those that the spectrograms saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import TableError
from manifests.paths import resolve

MAX_POINTS = 600
"""Points of a line; longer curves are drawn by their largest values."""

LEVEL_RANGE_DB = 60.0
_SILENT = 1e-6
_MAX_BYTES = 1 << 26
_PLACES = 1
_GRADE_COLOURS = ("--grade-a", "--grade-b", "--grade-c", "--grade-d")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Values over a song's time, all of one length.

    Attributes
    ----------
    step_s : float
        Seconds per value.
    rms : mapping of str to np.ndarray
        Stem to level, at least 0.
    voice : mapping of str to np.ndarray
        Stem to how much of a voice is heard in it, 0 to 1.
    residue_db : np.ndarray or None
        How much of the accompaniment is left in the vocals; NaN where that cannot be told.
    grade : np.ndarray or None
        From 0 (A) to 3 (D).
    """

    step_s: float
    rms: Mapping[str, Floats]
    voice: Mapping[str, Floats] = field(default_factory=dict)
    residue_db: Floats | None = None
    grade: Floats | None = None


@dataclass(frozen=True)
class Lane:
    """A strip of the drawing: its name, its range in words, lines and areas as paths by CSS variable of the colour.

    Paths are in a box of 1000 x 100 that is stretched to the width of the pictures above it.
    """

    name: str
    scale: str
    lines: tuple[tuple[str, str], ...]
    areas: tuple[tuple[str, str], ...] = ()


def read_curves(build: Path, song_id: str) -> Curves | None:
    """Read the curves of a song.

    Parameters
    ----------
    build : Path
        The build's folder.
    song_id : str
        As in the stems table.

    Returns
    -------
    Curves or None
        None when the build has none for this song.

    Raises
    ------
    TableError
        When the file is damaged, or the song's name leads out of the folder.
    """
    path = resolve(build, f"curves/{song_id}.npz")
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            num_bytes = sum(entry.file_size for entry in file.zip.infolist())
            if num_bytes > _MAX_BYTES:
                raise ValueError(f"{num_bytes} bytes, at most {_MAX_BYTES} are read")
            arrays = {name: np.asarray(file[name], np.float64) for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds over a damaged file
        raise TableError(f"{path}: cannot be read ({error}); run the same build command again") from error
    lengths = {array.shape for array in arrays.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1 or next(iter(lengths)) == (0,):
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise TableError(f"{path}: holds {found}, not arrays of one length; run the same build command again")
    return Curves(
        1.0,
        {name.removeprefix("rms_"): np.abs(a) for name, a in arrays.items() if name.startswith("rms_")},
        {name.removeprefix("voice_"): a for name, a in arrays.items() if name.startswith("voice_")},
        arrays.get("residue_db"),
        arrays.get("grade"),
    )


def lanes(curves: Curves, colours: Mapping[str, str]) -> list[Lane]:
    """Draw curves.

    Parameters
    ----------
    curves : Curves
        Those of a song.
    colours : mapping of str to str
        CSS variable of each stem; a stem without one is not drawn.

    Returns
    -------
    list of Lane
        Grade, level, voice and residue, as far as there is something to draw.
    """
    drawn = []
    if curves.grade is not None and (curves.grade > 0).any():
        shares = [np.where(np.rint(curves.grade) == number, 1.0, np.nan) for number in range(len(_GRADE_COLOURS))]
        areas = tuple((colour, _path(s, closed=True)) for colour, s in zip(_GRADE_COLOURS, shares, strict=True))
        drawn.append(Lane("grade", "A to D", (), areas))
    levels = {s: 20 * np.log10(np.maximum(rms, _SILENT)) for s, rms in curves.rms.items() if s in colours}
    top = max((float(np.nanmax(db)) for db in levels.values() if np.isfinite(db).any()), default=None)
    if top is not None:
        top = 5 * float(np.ceil(top / 5))
        bottom = top - LEVEL_RANGE_DB
        paths = tuple((colours[stem], _path((db - bottom) / LEVEL_RANGE_DB)) for stem, db in levels.items())
        drawn.append(Lane("level", f"{_db(bottom)} to {_db(top)} dB", paths))
    voices = {stem: voice for stem, voice in curves.voice.items() if stem in colours}
    if voices:
        paths = tuple((colours[stem], _path(voice)) for stem, voice in voices.items())
        areas = tuple((colours[stem], _path(voice, closed=True)) for stem, voice in voices.items())
        drawn.append(Lane("voice", "0 to 1", paths, areas))
    residue = curves.residue_db
    if residue is not None and np.isfinite(residue).any():
        bottom = min(-40.0, 10 * float(np.floor(np.nanmin(residue[np.isfinite(residue)]) / 10)))
        bottom = max(bottom, -LEVEL_RANGE_DB)
        top = max(0.0, 10 * float(np.ceil(np.nanmax(residue[np.isfinite(residue)]) / 10)))
        share = (residue - bottom) / (top - bottom)
        drawn.append(
            Lane(
                "residue",
                f"{_db(bottom)} to {_db(top)} dB",
                (("--bad", _path(share)),),
                (("--bad", _path(share, closed=True)),),
            )
        )
    return drawn


def _path(shares: Floats, *, closed: bool = False) -> str:
    """A line in a box of 1000 x 100 through values from 0 (bottom) to 1; broken where there is no value."""
    shares = _thinned(np.clip(shares, 0, 1))
    width = 1000 / len(shares)
    parts = []
    for run in _runs(np.isfinite(shares)):
        # a value holds for its whole second, so the line has steps
        corners = [(index + side, shares[index]) for index in run for side in (0, 1)]
        points = [f"{x * width:.{_PLACES}f} {100 - 100 * y:.{_PLACES}f}" for x, y in corners]
        if closed:
            points = [f"{run[0] * width:.{_PLACES}f} 100", *points, f"{(run[-1] + 1) * width:.{_PLACES}f} 100"]
        parts.append("M" + "L".join(points) + ("Z" if closed else ""))
    return "".join(parts)


def _thinned(values: Floats) -> Floats:
    if len(values) <= MAX_POINTS:
        return values
    starts = np.linspace(0, len(values), MAX_POINTS, endpoint=False).astype(int)
    largest = np.fmax.reduceat(values, starts)
    return np.asarray(largest)


def _runs(mask: npt.NDArray[np.bool_]) -> Iterable[range]:
    """Stretches of True, as ranges of indices."""
    borders = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [range(int(start), int(end)) for start, end in borders.reshape(-1, 2)]


def _db(value: float) -> str:
    return f"{value:.0f}".replace("-", "−")
