"""Curves over a song's time: read as they were written, drawn to scale."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.report.curves import MAX_POINTS, Curves, lanes, read_curves
from manifests.errors import TableError
from tests.builders.small_curated import write_curves

COLOURS = {"mixture": "--mixture", "vocals": "--vocals", "instrumental": "--one"}


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_curves_are_read_by_stem(tmp_path: Path) -> None:
    write_curves(tmp_path, "song0", worst_second=2)
    curves = read_curves(tmp_path, "song0")
    assert curves is not None
    assert set(curves.rms) == {"mixture", "instrumental", "vocals"}
    assert set(curves.voice) == {"vocals", "instrumental"}
    assert curves.residue_db is not None
    assert curves.residue_db.tolist() == [-35, -35, -8, -35, -35]
    assert curves.step_s == 1.0
    assert read_curves(tmp_path, "song1") is None


@pytest.mark.parametrize("song_id", ["../song0", "/etc/passwd"])
def test_a_song_whose_name_leaves_the_folder_is_refused(tmp_path: Path, song_id: str) -> None:
    with pytest.raises(TableError):
        read_curves(tmp_path, f"{song_id}/../x" if song_id[0] == "/" else song_id)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"rms_vocals": np.zeros(0)},
        {"rms_vocals": np.zeros(3), "residue_db": np.zeros(4)},
        {"rms_vocals": np.zeros((3, 2))},
        {"rms_vocals": np.array(["a", "b"])},
        {"rms_vocals": np.array([{}], dtype=object)},
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    (tmp_path / "curves").mkdir()
    np.savez(tmp_path / "curves/song0.npz", **arrays)
    with pytest.raises(TableError, match=r"curves/song0\.npz: .*run the same build command again"):
        read_curves(tmp_path, "song0")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    np.savez_compressed(tmp_path / "curves/song0.npz", rms_vocals=np.zeros(1 << 23))
    with pytest.raises(TableError, match=r"67108992 bytes, at most 67108864 are read"):
        read_curves(tmp_path, "song0")


def saved(save: Callable[..., None], array: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        pickle.dumps([1.0]),
        saved(np.save, np.arange(50)),
        saved(np.savez, np.arange(50))[:-9],
        (lambda whole: whole[:60] + b"\xff" * 20 + whole[80:])(saved(np.savez_compressed, np.arange(50))),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves/song0.npz").write_bytes(data)
    with pytest.raises(TableError, match="cannot be read"):
        read_curves(tmp_path, "song0")


def test_levels_voice_and_residue_are_drawn_to_scale() -> None:
    curves = Curves(
        1.0,
        {"mixture": np.array([1.0, 0.1]), "vocals": np.array([0.0, 0.01])},
        {"vocals": np.array([0.25, 1.0])},
        np.array([-40.0, -10.0]),
    )
    level, voice, residue = lanes(curves, COLOURS)
    assert (level.name, level.scale) == ("level", "−60 to 0 dB")
    drawn = dict(level.lines)
    assert points(drawn["--mixture"]) == [
        (0, 0),
        (500, 0),
        (500, pytest.approx(33.3, abs=0.1)),
        (1000, pytest.approx(33.3, abs=0.1)),
    ]
    assert points(drawn["--vocals"])[0] == (0, 100)
    assert points(voice.lines[0][1]) == [(0, 75), (500, 75), (500, 0), (1000, 0)]
    assert residue.scale == "−40 to 0 dB"
    assert [y for _, y in points(residue.lines[0][1])] == [100, 100, 25, 25]
    assert residue.areas[0][1].endswith("Z")


def test_a_gap_breaks_the_line() -> None:
    curves = Curves(1.0, {}, {}, np.array([-10.0, np.nan, -10.0]))
    (residue,) = lanes(curves, COLOURS)
    assert residue.lines[0][1].count("M") == 2
    assert "nan" not in residue.lines[0][1]


def test_nothing_is_drawn_of_nothing() -> None:
    assert lanes(Curves(1.0, {}, {}, np.full(3, np.nan)), COLOURS) == []
    assert lanes(Curves(1.0, {"drums": np.ones(3)}), COLOURS) == []
    (level,) = lanes(Curves(1.0, {"vocals": np.full(3, np.nan), "mixture": np.ones(3)}), COLOURS)
    assert dict(level.lines)["--vocals"] == ""


def test_a_long_curve_keeps_its_peaks() -> None:
    residue = np.full(10_000, -40.0)
    residue[7777] = -10.0
    residue[:16] = np.nan
    (lane,) = lanes(Curves(1.0, {}, {}, residue), COLOURS)
    found = points(lane.lines[0][1])
    assert len(found) <= 2 * MAX_POINTS
    assert min(y for _, y in found) == 25
    assert found[0][0] > 0


def test_the_grade_of_each_second_is_a_block_in_its_colour() -> None:
    (lane,) = lanes(Curves(1.0, {}, grade=np.array([0.0, 0.0, 3.0, 0.0])), COLOURS)
    drawn = dict(lane.areas)
    assert points(drawn["--grade-d"]) == [(500, 100), (500, 0), (750, 0), (750, 100)]
    assert drawn["--grade-a"].count("M") == 2
    assert drawn["--grade-b"] == drawn["--grade-c"] == ""
    assert lanes(Curves(1.0, {}, grade=np.zeros(4)), COLOURS) == []
