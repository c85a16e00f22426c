"""The page says what the tables say, is whole without a network, and shows tags as text whatever they hold."""

from __future__ import annotations

import base64
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from builders import report as report_module
from builders.charts import COLUMNS, LOWEST_HZ, ROWS, histogram, spectrogram, spectrogram_png
from builders.report import write_report
from manifests.audio import write
from manifests.errors import AudioError, BuildError, TableError
from tests.builders.small_build import FRAMES, RATE, edit, make_build
from tests.synthesis import tone

HOSTILE = "\"'></b><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;"
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text of each table row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_style = False
        self._in_cell = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in_style = tag == "style"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def tiles(self) -> dict[str, tuple[str, str]]:
        """The headline numbers, and what stands below each."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small>(.*?)</small>", self.source)
        return {name: (value, note) for name, value, note in found}

    def row(self, first: str) -> list[str]:
        """The table row whose first cell starts so, its cells without outer space."""
        (found,) = (row for row in self.rows if row and row[0].strip().startswith(first))
        return [" ".join(cell.split()) for cell in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_build(tmp_path_factory.mktemp("whole") / "build")
    write_report(build)
    return build


@pytest.fixture
def build(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build to change; its pages come without charts, which take most of the time."""
    monkeypatch.setattr(report_module, "histogram", lambda series, label: "")
    return Path(shutil.copytree(whole, tmp_path / "build"))


def test_the_page_says_what_the_tables_say(whole: Path) -> None:
    page = Page(whole / "report.html")
    words = " ".join(page.text.split())
    assert page.tiles() == {
        "Songs": ("2", "of 4 tracks"),
        "Hours": ("0.00", "of 0.50 in the catalogue"),
        "Pairs chosen": ("2", "0 alternative, 1 refused"),
        "Files rejected": ("1", "1 unreadable"),
        "Wall time": ("1:16 min", "of the last run"),
    }
    assert page.row("survey")[:3] == ["survey", "5 in, 4 kept, 1 rejected", "1:15 min"]
    assert page.row("derive")[:3] == ["derive", "–", "0.5 s"]
    assert page.row("Title 0")[1:6] == ["original / instrumental", "0.5 s", "−30.0", "0.990", "1"]
    assert page.row("Title 1")[1:6] == ["original / instrumental", "0.5 s", "−29.0", "0.990", "1"]
    assert page.row("fingerprints differ") == ["fingerprints differ (bit error rate …)", "1"]
    assert page.row("song0.flacinst1.flac")[3] == "fingerprints differ (bit error rate 0.47)"
    assert page.row("a/cut.mp3") == ["a/cut.mp3", "cut short"]
    assert page.row("bit_depth") == ["bit_depth", "24"]
    assert page.row("python") == ["python", "3.11.7"]
    assert "scan: unreadable" in words


def test_distributions_are_in_seconds_and_of_the_pairs_that_they_name(whole: Path) -> None:
    source = (whole / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    charts = re.findall(r"<figure>\s*<figcaption><b>(.*?)</b>.*?<figcaption>(.*?)</figcaption>", source, re.DOTALL)
    assert dict(charts) == {
        "Lag, s": "median 0.15, 5–95 % 0.11 to 0.20, n = 2",
        "Drift, ppm": "median 1.50, 5–95 % 1.50 to 1.50, n = 2",
        "Residual, dB": "median −29.5, 5–95 % −29.9 to −29.1, n = 2",
        "Confidence": "median 0.99, 5–95 % 0.99 to 0.99, n = 3",
        "Bit error rate": "median 0.10, 5–95 % 0.10 to 0.10, n = 3",
        "Duration, s": "median 0.50, 5–95 % 0.50 to 0.50, n = 2",
    }


def test_songs_are_sorted_by_residual_and_those_without_one_come_last(build: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["residual_db"] = None if row["song_id"] == "song0" else -10.0

    edit(build, "stems", change)
    page = Page(write_report(build))
    titles = [row[0] for row in page.rows if row and row[0].startswith("Title")]
    assert [title.split("Artist")[0].strip() for title in titles] == ["Title 1", "Title 0"]
    assert page.row("Title 0")[3] == "–"


def test_the_page_needs_no_network_and_runs_no_script(whole: Path) -> None:
    page = Page(whole / "report.html")
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert not re.search(r"https?://(?!www\.w3\.org/)", page.source)
    assert "url(#" in page.source
    assert not re.search(r"url\((?!#)", page.source)
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))


def test_players_point_at_the_stems_relative_to_the_page(whole: Path) -> None:
    sources = {str(player["src"]) for player in Page(whole / "report.html").all("audio")}
    assert len(sources) == 6
    assert all((whole / source).is_file() for source in sources)


def test_a_path_of_odd_characters_is_still_found_from_the_page(build: Path) -> None:
    odd = "audio/song0/javascript:a b#?%41\"'<&é.flac"
    shutil.move(build / "audio/song0/vocals.flac", build / odd)
    edit(build, "stems", lambda rows: rows[2].update(path=odd))
    sources = [urlsplit(str(player["src"])) for player in Page(write_report(build)).all("audio")]
    assert all(not (source.scheme or source.netloc or source.query or source.fragment) for source in sources)
    assert odd in {unquote(source.path) for source in sources}


def test_a_stem_outside_of_the_build_is_named_and_not_played(build: Path) -> None:
    edit(build, "stems", lambda rows: rows[2].update(root="films"))
    page = Page(write_report(build))
    assert "audio/song0/vocals.flac" not in {player["src"] for player in page.all("audio")}
    assert "root 'films' of path 'audio/song0/vocals.flac' is none of '.'" in page.text


def test_the_pictures_are_of_the_best_and_worst_songs_once_each(tmp_path: Path) -> None:
    make_build(tmp_path, songs=7)
    page = Page(write_report(tmp_path))
    headers = re.findall(r'<figure class="song">\s*<header><b [^>]*>(.*?)</b>', page.source)
    assert headers == ["Title 0", "Title 1", "Title 2", "Title 6", "Title 5", "Title 4"]
    assert len(page.all("img")) == 18
    assert len(page.all("audio")) == 18 + 21


def test_text_from_tags_files_and_records_is_shown_and_never_run(tmp_path: Path) -> None:
    plain = make_build(tmp_path / "plain")
    calm = Page(write_report(plain))
    build = make_build(tmp_path / "<b onclick=1>", song_title=HOSTILE)

    def spoil_pairs(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(reason=HOSTILE, evidence=HOSTILE, mixture_path=HOSTILE, instrumental_path=HOSTILE)

    edit(build, "tracks", lambda rows: [row.update(version=HOSTILE) for row in rows])
    edit(build, "pairs", spoil_pairs)
    edit(build, "stems", lambda rows: [row.update(artist=HOSTILE) for row in rows])
    edit(
        build, "rejected", lambda rows: rows[0].update(path=HOSTILE, reason=HOSTILE, detail=HOSTILE, stage=HOSTILE)
    )
    run = json.loads((build / "run.json").read_text())
    run.update(catalog=HOSTILE, builder=HOSTILE, versions={HOSTILE: HOSTILE}, recipe={HOSTILE: HOSTILE})
    run.update(counts={HOSTILE: {HOSTILE: 1}}, wall_s={HOSTILE: 1})
    (build / "run.json").write_text(json.dumps(run))
    page = Page(write_report(build))
    assert page.text.count(HOSTILE) >= 20
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in calm.tags}
    named = {(tag, key) for tag, attributes in page.tags for key in attributes}
    assert named <= {(tag, key) for tag, attributes in calm.tags for key in attributes}
    assert "'><script" not in page.source


def test_a_song_that_cannot_be_read_shows_why_instead_of_a_picture(build: Path) -> None:
    path = build / "audio/song1/vocals.flac"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    page = Page(write_report(build))
    assert len(page.all("img")) == 5
    assert str(path) in page.text


def test_a_build_without_songs_or_pairs_has_a_page_that_says_so(tmp_path: Path) -> None:
    make_build(tmp_path, songs=0)
    for name in ("tracks", "pairs", "rejected"):
        (tmp_path / f"{name}.parquet").unlink()
    page = Page(write_report(tmp_path))
    assert "No pair was found." in page.text
    assert page.text.count("no values") == 6
    assert page.all("audio") == page.all("img") == []


def test_a_run_record_with_fields_missing_still_gives_a_page(build: Path) -> None:
    (build / "run.json").write_text(json.dumps({"counts": {"survey": 3}, "hours": [1], "wall_s": {"x": "y"}}))
    page = Page(write_report(build))
    assert page.row("x")[1:3] == ["–", "–"]
    assert page.row("Title 0")[2] == "0.5 s"


def test_a_long_table_is_cut_and_says_how_much_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_build(tmp_path, songs=7)
    monkeypatch.setattr(report_module, "SHOWN_ROWS", 4)
    monkeypatch.setattr(report_module, "PICTURED", 0)
    page = Page(write_report(tmp_path))
    assert [row[0].split("Artist")[0].strip() for row in page.rows if row and row[0].startswith("Title")] == [
        "Title 0",
        "Title 1",
        "Title 5",
        "Title 6",
    ]
    assert page.row("3 songs between are in the stems table")


def test_the_same_build_gives_the_same_page(whole: Path) -> None:
    first = (whole / "report.html").read_bytes()
    assert write_report(whole).read_bytes() == first


def test_what_is_no_finished_build_is_refused_with_what_to_do(build: Path) -> None:
    with pytest.raises(BuildError, match=r"nowhere: is no folder; give the one"):
        write_report(build / "nowhere")
    (build / "run.json").write_text("{")
    with pytest.raises(BuildError, match=r"run\.json: is not JSON .*; remove it and run the same build"):
        write_report(build)
    shutil.copy(build / "recipe.json", build / "run.json")
    (build / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"pairs\.parquet: cannot be read as Parquet"):
        write_report(build)
    (build / "stems.parquet").unlink()
    with pytest.raises(BuildError, match="its build has not finished: run the same"):
        write_report(build)


def decoded(png: bytes) -> tuple[int, int, np.ndarray[Any, Any]]:
    """Width, height and palette numbers of a PNG as `spectrogram_png` writes it."""
    width, height = struct.unpack(">II", png[16:24])
    at = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[at - 4 : at])
    pixels = np.frombuffer(zlib.decompress(png[at + 4 : at + 4 + length]), np.uint8).reshape(height, -1)
    return width, height, pixels[:, 1:]


def test_a_tone_is_a_bright_line_at_its_frequency(tmp_path: Path) -> None:
    frames = COLUMNS * 2500
    write(tmp_path / "tone.wav", tone(1000.0, frames, RATE), RATE)
    levels = spectrogram(tmp_path / "tone.wav", frames, RATE)
    assert levels.shape[0] == ROWS
    assert levels.shape[1] == COLUMNS
    edges = np.geomspace(LOWEST_HZ, RATE / 2, ROWS + 1)
    band = ROWS - int(np.searchsorted(edges, 1000.0))
    # a window of 2048 frames resolves 11 Hz, and this band is 70 Hz wide
    assert set(levels.argmax(axis=0)) <= {band - 1, band, band + 1}
    width, height, pixels = decoded(spectrogram_png(levels, float(levels.max())))
    assert (width, height) == (levels.shape[1], ROWS)
    assert pixels.max() == 63
    assert np.count_nonzero(pixels.max(axis=1)) < 12


def test_a_spectrogram_of_a_short_file_is_as_wide_as_its_sound(tmp_path: Path) -> None:
    write(tmp_path / "click.wav", np.full((1, 300), 0.5, np.float32), RATE)
    assert spectrogram(tmp_path / "click.wav", 300, RATE).shape == (ROWS, 2)
    with pytest.raises(AudioError, match="gone"):
        spectrogram(tmp_path / "gone.wav", FRAMES, RATE)


def test_a_png_is_read_by_another_decoder(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "ramp.png"
    path.write_bytes(spectrogram_png(np.linspace(-65, 0, 64)[None].repeat(3, axis=0), 0.0))
    pixels = image.imread(path)
    assert pixels.shape[:2] == (3, 64)
    assert pixels[0, 0, :3].sum() < 0.05
    assert pixels[0, -1, :3].sum() > 2.4


def area(corners: list[tuple[float, float]]) -> float:
    x, y = np.array(corners).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def test_a_histogram_takes_its_colours_from_the_page_and_counts_every_value() -> None:
    svg = histogram({"--chosen": [1.0, 1.0, 2.0], "--refused": [2.0]}, "Histogram: Lag, s")
    colours = set(re.findall(r"#[0-9a-fA-F]{6}", svg))
    assert colours <= {"#ffffff", "#000000"}
    areas = {
        name: area([(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)])
        for path, name in re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--(chosen|refused)\)', svg)
    }
    assert areas["chosen"] == pytest.approx(3 * areas["refused"], rel=1e-4)
    assert areas["refused"] > 100
    assert 'aria-label="Histogram: Lag, s"' in svg
    assert " width=" not in svg[: svg.index(">")]


def test_a_histogram_of_one_value_or_none_is_drawn_or_empty() -> None:
    assert histogram({"--chosen": [], "--refused": []}, "x") == ""
    assert "<svg" in histogram({"--chosen": [0.0]}, "x")
    assert "<svg" in histogram({"--chosen": [1e9, 1e9]}, "x")


def test_matplotlib_is_imported_for_a_report_only() -> None:
    script = "import sys, builders.report; sys.exit('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "matplotlib is imported with builders.report"


def test_base64_pictures_are_pngs(whole: Path) -> None:
    for image in Page(whole / "report.html").all("img"):
        data = base64.b64decode(str(image["src"]).partition(",")[2], validate=True)
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
