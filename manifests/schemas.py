"""What each table of a corpus holds: its columns, their types, where nulls may be, what values must satisfy.

The order of the columns here is their order in every file. Types are pandas' nullable ones: `string`, `Int64`
and `float64`, where NaN is the null. A measure that does not exist (the loudness of silence) is null, never
infinite.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from manifests.errors import TableError, did_you_mean
from manifests.paths import is_portable
from manifests.plain import json_of

STRING, INTEGER, FLOAT = pd.StringDtype(), pd.Int64Dtype(), np.dtype("float64")


def _are_names(values: pd.Series[Any]) -> pd.Series[Any]:
    """Each name is looked at once: they repeat, and tables are long."""
    wrong = [value for value in values.unique() if not is_portable(value)]
    return ~values.isin(wrong)


def _is_spans(width: int) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            rows = json_of(value)
        except ValueError:
            return False
        return isinstance(rows, list) and all(isinstance(row, list) and _fits(row, width) for row in rows)

    return check


def _fits(row: list[object], width: int) -> bool:
    numbers = [item for item in row if isinstance(item, (int, float)) and not isinstance(item, bool)]
    return len(row) == len(numbers) == width and all(isinstance(item, int) for item in numbers[:2])


def _is_list_of(kind: type) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            items = json_of(value)
        except ValueError:
            return False
        return isinstance(items, list) and all(isinstance(item, kind) for item in items)

    return check


# Each check's `error` completes the sentence "has 3 values that are not ...".
_FINITE = pa.Check(lambda values: ~np.isinf(values), error="finite")
_FRACTION = pa.Check.in_range(0, 1, error="between 0 and 1")
_NOT_EMPTY = pa.Check.str_length(min_value=1, error="at least one character long")
_PORTABLE = pa.Check(is_portable, element_wise=True, error="a relative POSIX path that stays under its root")
_NAMES = pa.Check(_are_names, error="a name that can stand in a path: not absolute, without '..' and NUL")
_SEGMENTS = pa.Check(_is_spans(3), element_wise=True, error="a JSON list of [start_frame, end_frame, lag_frames]")
_SPANS = pa.Check(_is_spans(2), element_wise=True, error="a JSON list of [start_frame, end_frame]")
_TEXTS = pa.Check(_is_list_of(str), element_wise=True, error="a JSON list of texts")
_STEPS = pa.Check(_is_list_of(dict), element_wise=True, error="a JSON list of objects")


def _text(meaning: str, *checks: pa.Check, null: bool = False) -> pa.Column:
    return pa.Column(STRING, checks=list(checks), nullable=null, description=meaning)


def _choice(meaning: str, *values: str, null: bool = False) -> pa.Column:
    check = pa.Check.isin(values, error=f"one of {', '.join(values)}")
    return pa.Column(STRING, checks=[check], nullable=null, description=meaning)


def _count(meaning: str, *, at_least: int, null: bool = False) -> pa.Column:
    check = pa.Check.ge(at_least, error=f"at least {at_least}")
    return pa.Column(INTEGER, checks=[check], nullable=null, description=meaning)


def _number(meaning: str, *checks: pa.Check) -> pa.Column:
    """A measure: always nullable, since each of them can be undefined for some row."""
    return pa.Column(FLOAT, checks=[_FINITE, *checks], nullable=True, description=meaning)


def _rms(meaning: str) -> pa.Column:
    return _number(meaning, pa.Check.ge(0, error="at least 0"))


def _later(column: pa.Column) -> pa.Column:
    """A column that tables of earlier versions do not have: it is null in them."""
    column.required = False
    return column


def _schema(columns: dict[str, pa.Column], unique: list[str] | None = None) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, strict=True, unique=unique)


GRADES = ("A", "B", "C", "D")
"""From clean to defective; see `curation.defects`."""

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "tracks": _schema(
        {
            "track_id": _text("Content id: a hash of the file's bytes.", _NOT_EMPTY),
            "root": _text("Named folder that `path` is relative to.", _NOT_EMPTY),
            "path": _text("Of the file, under its root.", _PORTABLE),
            "codec": _text("Of the file, such as PCM_16 or MPEG_LAYER_III."),
            "num_frames": _count("Length, in frames of the file.", at_least=1),
            "sample_rate": _count("In Hz.", at_least=1),
            "channels": _count("Of the file.", at_least=1),
            "title": _text("As it is tagged, or as the file is called.", null=True),
            "song_title": _text("The title without what names a version, to compare by.", null=True),
            "version": _text("What title and file name call it: original, instrumental, acapella, live ..."),
            "artist": _text("As tagged, or as folders and names say.", null=True),
            "album_artist": _text("As tagged.", null=True),
            "album": _text("As tagged.", null=True),
            "genre": _text("As tagged.", null=True),
            "year": pa.Column(INTEGER, nullable=True, description="Of the release, as tagged."),
            "isrc": _text("International Standard Recording Code, as tagged.", null=True),
            "recording_mbid": _text("MusicBrainz' id of the recording.", null=True),
            "work_mbid": _text("MusicBrainz' id of the work.", null=True),
            "license": _text("As tagged.", null=True),
            "loudness_lufs": _number("Integrated loudness, ITU-R BS.1770-4; null for silence."),
            "peak_db": _number("Largest sample, in dB of full scale; null for silence."),
            "music_start_frame": _count("First audible frame.", at_least=0, null=True),
            "music_end_frame": _count("Frame after the last audible one.", at_least=0, null=True),
        },
        unique=["root", "path"],
    ),
    "pairs": _schema(
        {
            "pair_id": _text("Of the two files, in their roles.", _NOT_EMPTY),
            "mixture_id": _text("Track id of the mixture.", _NOT_EMPTY),
            "instrumental_id": _text("Track id of the instrumental.", _NOT_EMPTY),
            "mixture_path": _text("Of the mixture's file, under its root.", _PORTABLE),
            "instrumental_path": _text("Of the instrumental's file, under its root.", _PORTABLE),
            "evidence": _text("How the two were found to be candidates."),
            "votes": _count(
                "Equal sub-fingerprints at one offset; null where only metadata proposed the pair.",
                at_least=0,
                null=True,
            ),
            "bit_error_rate": _number("Share of differing bits of the aligned fingerprints.", _FRACTION),
            "lag_frames": _number(
                "Frame `t` of the mixture is at `lag_frames + t * (1 + drift_ppm * 1e-6)` in the instrumental."
            ),
            "drift_ppm": _number("By how much the instrumental's clock runs off, in parts per million."),
            "polarity": pa.Column(
                INTEGER,
                checks=pa.Check.isin([-1, 1], error="-1 or 1"),
                nullable=True,
                description="What the instrumental must be multiplied by, besides its gain.",
            ),
            "gain_db": _number("By which the instrumental must be made louder."),
            "coherence": _number("Squared coherence of mixture and instrumental, mean over the bands.", _FRACTION),
            "residual_db": _number(
                "What the instrumental cannot explain in the best twentieth of the time, over the mixture."
            ),
            "confidence": _number("1 is beyond doubt; for ordering.", _FRACTION),
            "status": _choice(
                "What became of the pair: taken, another true pair of a taken song, or no pair.",
                "chosen",
                "alternative",
                "refused",
            ),
            "segments": _text(
                "Common stretches, as a list of [start_frame, end_frame, lag_frames].", _SEGMENTS, null=True
            ),
            "containment": _number(
                "1 when only the mixture has something of its own, 0 when only the instrumental has.", _FRACTION
            ),
            "same_fraction": _number(
                "Share of the time in which the instrumental explains all of the mixture.", _FRACTION
            ),
            "reason": _text("For refusing the pair.", null=True),
            "song_id": _text("Of the song that the pair belongs to.", null=True),
        },
        unique=["pair_id"],
    ),
    "stems": _schema(
        {
            "song_id": _text("Of the song; stems with the same one sound together.", _NAMES),
            "stem": _text("What it is, such as mixture, vocals or music.", _NAMES),
            "root": _text("Named folder that `path` is relative to.", _NOT_EMPTY),
            "path": _text("Of the file, under its root.", _PORTABLE),
            "num_frames": _count("Length, in frames.", at_least=1),
            "sample_rate": _count("In Hz.", at_least=1),
            "channels": _count("Of the file.", at_least=1),
            "artist": _text("Of the song; keeps splits apart.", null=True),
            "genre": _text("Of the song.", null=True),
            "split": _text("Such as train, validation or test; null before it is split.", null=True),
            "provenance": _choice(
                "Where the audio comes from.", "recorded", "derived", "cleaned", "separated", "mixed"
            ),
            "method": _text("How it was made, where it was not recorded.", null=True),
            "parents": _text("Content ids of the files that it was made of.", null=True),
            "rms": _rms("sqrt(1/N sum over frames of the squares), channels summed."),
            "loudness_lufs": _number("Integrated loudness, ITU-R BS.1770-4; null for silence."),
            "active_fraction": _number("Share of the time above -60 dBFS.", _FRACTION),
            "residual_db": _number("Of the pair that it was derived from."),
            "license": _text("Of the recording.", null=True),
            "audit": _choice("What a person said who listened to it.", "unheard", "accepted", "rejected"),
            "gain_db": _number("That it was made louder by, such as to keep a sum below full scale."),
            "pair_id": _text("The pair that it was derived from.", null=True),
            "content_id": _text("A hash of the file's bytes.", null=True),
            "grade": _later(_choice("Of the song, from A (clean) to D (defective).", *GRADES, null=True)),
            "reasons": _later(_text("For the grade, as a list of texts.", _TEXTS, null=True)),
            "weight": _later(
                _number("How often to draw the song, relative to others.", pa.Check.ge(0, error="at least 0"))
            ),
            "language": _later(_text("Of speech or singing.", null=True)),
            "tags": _later(_text("Class names, parted by commas or semicolons.", null=True)),
            "transcript": _later(_text("Of what is said or sung.", null=True)),
        },
        unique=["song_id", "stem"],
    ),
    "clips": _schema(
        {
            "clip_id": _text("Of the clip.", _NOT_EMPTY),
            "song_id": _text("Of the song that it lies in.", _NOT_EMPTY),
            "start_frame": _count("First frame, in the song.", at_least=0),
            "num_frames": _count("Length, in frames.", at_least=1),
            "split": _text("Of the song.", null=True),
            "genre": _text("Of the song.", null=True),
            "artist": _text("Of the song.", null=True),
            "voiced_fraction": _later(_number("Share of the clip with a voice.", _FRACTION)),
            "label": _later(_text("What is heard in it, where that was looked for.", null=True)),
            "label_probability": _later(_number("That the label is heard, over the clip.", _FRACTION)),
            r"^rms_\w+$": pa.Column(
                FLOAT,
                checks=_rms("").checks,
                nullable=True,
                regex=True,
                required=False,
                description="RMS of each stem over the clip.",
            ),
        },
        unique=["clip_id"],
    ),
    "mixtures": _schema(
        {
            "mixture_id": _text("Of its seed, epoch and index.", _NOT_EMPTY),
            "seed": _count("That the mixture was drawn from.", at_least=0),
            "epoch": _count("That the mixture was drawn from.", at_least=0),
            "index": _count("That the mixture was drawn from.", at_least=0),
            "attempt": _count("Draws before it that met a file that cannot be read.", at_least=0),
            "mixture_rate": _count("In Hz.", at_least=1),
            "mixture_channels": _count("Of the mixture.", at_least=1),
            "mixture_frames": _count("Length of the mixture.", at_least=1),
            "mixture_transforms": _text("Drawn steps that all targets go through, in order.", _STEPS),
            "target": _text(
                "What the source is added to. If a target is silent, its row has no source.", _NOT_EMPTY
            ),
            # from here on null in the row of a target that is silent
            "source": _text("Name of the recipe's source that it was drawn for.", null=True),
            "song_id": _text("Of the song that it comes from.", null=True),
            "stem": _text("Of the song, that it comes from.", null=True),
            "root": _text("Named folder that `path` is relative to.", _NOT_EMPTY, null=True),
            "path": _text("Of the source's file, under its root.", _PORTABLE, null=True),
            "source_start_frame": _count("First frame of the crop, in the file.", at_least=0, null=True),
            "num_frames": _count("Length of the crop, in frames of the file.", at_least=1, null=True),
            "source_rate": _count("Of the file, in Hz.", at_least=1, null=True),
            "offset_frame": _count("Where it starts, in frames of the mixture.", at_least=0, null=True),
            "length_frames": _count("How long it is, in frames of the mixture.", at_least=1, null=True),
            "gain_db": _number("Applied last."),
            "transforms": _text("Drawn steps that the source goes through, in order.", _STEPS, null=True),
            # what a static set knows besides the plan
            "split": _later(_text("Of the rendered set.", null=True)),
            "loudness_lufs": _later(_number("Of the source as it came out; null for silence.")),
            "genre": _later(_text("Of the source.", null=True)),
            "language": _later(_text("Of the source.", null=True)),
            "tags": _later(_text("Of the source.", null=True)),
            "transcript": _later(_text("Of the source.", null=True)),
        }
    ),
    # what a cleaning found in each stem, and did to it
    "cleaned": _schema(
        {
            "song_id": _text("Of the song.", _NOT_EMPTY),
            "stem": _text("That was heard.", _NOT_EMPTY),
            "verdict": _choice("What became of the stem.", "kept", "cleaned", "dropped"),
            "voice_db": _number("Level of the voice over the stem, where a voice is heard."),
            "cleaned_fraction": _number("Share of the sounding time that was cleaned.", _FRACTION),
            "damaged_fraction": _number("Share of the sounding time that cannot be saved.", _FRACTION),
            "cleaned": _text("Where, as a list of [start_frame, end_frame].", _SPANS),
            "damaged": _text("Where, as a list of [start_frame, end_frame].", _SPANS),
            "removed_path": _text("Of the file with what was taken out.", _PORTABLE, null=True),
        },
        unique=["song_id", "stem"],
    ),
    "rejected": _schema(
        {
            "id": _text("Of the song or track, where it has one.", null=True),
            "path": _text("Of the file, or of what there is instead."),
            "stage": _text("Step of the build that refused it.", _NOT_EMPTY),
            "reason": _text("In a few words, to count by.", _NOT_EMPTY),
            "detail": _text("With the numbers."),
        }
    ),
}
"""What each table holds, by its name; read-only by convention.

`rms_<stem>` in `clips` stands for one column for each stem.
"""

# What a message calls a row by, besides its number.
LABELS = {
    "tracks": "path",
    "pairs": "pair_id",
    "stems": "path",
    "clips": "clip_id",
    "mixtures": "mixture_id",
    "cleaned": "song_id",
    "rejected": "path",
}


def schema_of(name: str) -> pa.DataFrameSchema:
    """The schema of a table.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.

    Returns
    -------
    pa.DataFrameSchema
        Columns, types and checks.

    Raises
    ------
    TableError
        When there is no such table.
    """
    if name not in SCHEMAS:
        raise TableError(
            f"there is no table '{name}'{did_you_mean(name, SCHEMAS)}; tables are {', '.join(SCHEMAS)}"
        )
    return SCHEMAS[name]


def columns_of(name: str, present: Iterable[str]) -> dict[str, pa.Column]:
    """The columns of a table, in order.

    Parameters
    ----------
    name : str
        A key of `SCHEMAS`.
    present : iterable of str
        The columns that a frame has. A column of the schema that stands for many (`rms_<stem>`) gives way to
        those of them that are present, sorted.

    Returns
    -------
    dict of str to pa.Column
        By name.
    """
    columns: dict[str, pa.Column] = {}
    for key, column in schema_of(name).columns.items():
        if not column.regex:
            columns[key] = column
            continue
        for match in sorted(c for c in present if re.fullmatch(key.strip("^$"), str(c))):
            columns[match] = column
    return columns


def dtype_of(column: pa.Column) -> Any:
    """The type of a column in memory: `STRING`, `INTEGER` or `FLOAT`."""
    # pandera writes one string type for pandas' two, the one whose null is NaN.
    dtype = column.dtype.type
    return STRING if isinstance(dtype, pd.StringDtype) else dtype
