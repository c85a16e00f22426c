"""The page of a study: its numbers are the tables', nothing of a name is markup, what is missing is said."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from builders.report import plots
from builders.report.study import write_study_page
from builders.report.words import number
from manifests.errors import BuildError, TableError
from tests.training.small_study import BREAKING, SWAP, ran, small_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which one variant breaks."""
    folder = tmp_path_factory.mktemp("study")
    tests = [{"name": "songs", "corpus": "songs", "sweep_lufs": [-30, -20]}]
    variants = [{"name": "baseline"}, SWAP, BREAKING]
    ran(small_study(folder, variants=variants, tests=tests, about="<b>why</b>"), folder / "out")
    return folder / "out"


def test_the_page_has_the_tables_numbers_and_says_what_is_missing(folder: Path) -> None:
    page = write_study_page(folder).read_text()
    summary = pd.read_parquet(folder / "summary.parquet")
    for median in summary["median"]:
        assert f">{number(median, 2)}</span>" in page
    compared = pd.read_parquet(folder / "comparisons.parquet")
    assert {*compared["variant"]} == {"swap"}
    assert "Incomplete: 2 of 6 runs are missing" in page
    assert re.search(r"breaking, seed 1: .*the loss is", page)
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    assert "<b>why" not in page
    assert "<script" not in page
    for part in ("p-values", "Learning curves", "Loudness"):
        assert part in page
    assert page == write_study_page(folder).read_text()


def test_the_markdown_has_a_row_for_each_variant(folder: Path) -> None:
    write_study_page(folder)
    text = (folder / "study.md").read_text()
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 1 + 3  # scores; vocals, accompaniment and their mean less the baseline's
    assert [line.split(" | ")[0].strip("| ") for line in tables[0][2:]] == ["baseline", "swap"]
    assert all(len({line.count(" | ") for line in table[2:]}) == 1 for table in tables)
    assert "Missing: breaking, seed 0" in text


def test_pictures_are_files_of_their_own(folder: Path) -> None:
    write_study_page(folder)
    names = {path.stem for path in (folder / "pictures").iterdir()}
    assert {"p-values-songs-vocals", "differences-songs-mean", "curves-loss", "loudness-songs-vocals"} <= names
    for path in (folder / "pictures").iterdir():
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        used = set(re.findall(r"var\((--[\w-]+)\)", path.read_text()))
        assert used <= set(re.findall(r"(--[\w-]+):", path.read_text()))


def test_a_folder_without_a_study_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        write_study_page(tmp_path)
    (tmp_path / "study.json").write_bytes((folder / "study.json").read_bytes())
    (tmp_path / "songs.parquet").write_bytes(b"no table")
    with pytest.raises(TableError, match=r"songs\.parquet: cannot be read"):
        write_study_page(tmp_path)


def test_a_matrix_has_a_cell_for_each_pair() -> None:
    cell = (".01", "--chosen", 0.5)
    svg = plots.matrix(["a<", "b"], [[None, cell], [cell, None]], "p-values", "note")
    root = ET.fromstring(svg)
    assert len(root.findall("rect")) == 2
    assert [text.text for text in root.iter("text")].count("a<") == 2
    assert plots.matrix([], [], "", "") == ""


def test_intervals_are_drawn_around_zero() -> None:
    nan = float("nan")
    rows = [
        plots.Difference("a", "--chosen", 1.0, 0.5, 1.5, (-0.5, 2.5)),
        plots.Difference("b", "--bad", -1.0, nan, nan, None),
        plots.Difference("c", "--bad", nan, nan, nan, (nan, nan)),
    ]
    root = ET.fromstring(plots.intervals(rows, "differences", "dB"))
    assert len(root.findall("circle")) == 2
    labels = [text.text for text in root.findall("text")]
    assert {"a", "b", "c", "0", "dB"} <= {*labels}
    assert plots.intervals(rows[2:], "differences", "dB") == ""
