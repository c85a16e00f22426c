"""The page says what the tables say, is whole without a network, and shows tags as text whatever they hold."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from builders.report import charts, sections, songs, write_report
from manifests.errors import BuildError, TableError
from tests.builders.small_build import edit, make_build
from tests.builders.small_curated import make_curated

HOSTILE = "\"'></b><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;"
ROOT = Path(__file__).parents[3]


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

    def players(self, kind: str) -> list[str]:
        """Sources of the players: 'clip' or 'file'."""
        sources = [str(player["src"]) for player in self.all("audio")]
        return [source for source in sources if source.startswith("data:") == (kind == "clip")]

    def tiles(self) -> dict[str, tuple[str, str]]:
        """The headline numbers, and what stands below each."""
        found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small>(.*?)</small>", self.source)
        return {name: (value, note) for name, value, note in found}

    def row(self, first: str) -> list[str]:
        """The table row whose first cell is this, or else starts so, its cells without outer space."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.rows if row]
        exact = [row for row in rows if row[0] == first]
        (found,) = exact or [row for row in rows if row[0].startswith(first)]
        return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_build(tmp_path_factory.mktemp("whole") / "build")
    write_report(build)
    return build


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, which take most of the time."""
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")


@pytest.fixture
def build(whole: Path, tmp_path: Path, no_charts: None) -> Path:
    """A build to change."""
    return Path(shutil.copytree(whole, tmp_path / "build"))


def test_the_page_says_what_the_tables_say(whole: Path) -> None:
    page = Page(whole / "report.html")
    words = " ".join(page.text.split())
    assert page.tiles() == {
        "Songs": ("2", "of 4 tracks"),
        "Hours": ("0.00", "of 0.50 that came in"),
        "Pairs chosen": ("2", "0 alternative, 1 refused"),
        "Left out": ("1", "1 unreadable"),
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
    assert all(re.match(r"data:audio/(ogg|flac);base64,", source) for source in page.players("clip"))


def test_players_point_at_the_stems_relative_to_the_page(whole: Path) -> None:
    page = Page(whole / "report.html")
    sources = set(page.players("file"))
    assert len(sources) == 6
    assert all((whole / source).is_file() for source in sources)
    links = {str(link["href"]) for link in page.all("a")}
    assert sources <= links


def test_a_path_of_odd_characters_is_still_found_from_the_page(build: Path) -> None:
    odd = "audio/song0/javascript:a b#?%41\"'<&é.flac"
    shutil.move(build / "audio/song0/vocals.flac", build / odd)
    edit(build, "stems", lambda rows: rows[2].update(path=odd))
    sources = [urlsplit(source) for source in Page(write_report(build)).players("file")]
    assert all(not (source.scheme or source.netloc or source.query or source.fragment) for source in sources)
    assert odd in {unquote(source.path) for source in sources}


def test_a_stem_outside_of_the_build_is_named_and_not_played(build: Path) -> None:
    edit(build, "stems", lambda rows: rows[2].update(root="films"))
    page = Page(write_report(build))
    assert "audio/song0/vocals.flac" not in page.players("file")
    assert "root 'films' of path 'audio/song0/vocals.flac' is none of '.'" in page.text


def test_the_pictures_are_of_the_best_and_worst_songs_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(songs, "PICTURED", 3)
    make_build(tmp_path, songs=7)
    page = Page(write_report(tmp_path))
    assert headers(page) == ["Title 0", "Title 1", "Title 2", "Title 6", "Title 5", "Title 4"]
    assert len(page.all("img")) == 18
    assert (len(page.players("clip")), len(page.players("file"))) == (18, 21)


def test_songs_of_many_stems_have_fewer_pictures(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songs, "PICTURED_STEMS", 6)
    make_build(build, songs=4)
    assert headers(Page(write_report(build))) == ["Title 0", "Title 3"]


def headers(page: Page) -> list[str]:
    """Titles of the pictured songs, in order."""
    return re.findall(r'<figure class="song">\s*<header>.*?<b [^>]*>(.*?)</b>', page.source)


def test_a_curated_corpus_is_shown_with_grades_gates_genres_splits_and_licences(tmp_path: Path) -> None:
    page = Page(write_report(make_curated(tmp_path / "set")))
    words = " ".join(page.text.split())
    tiles = page.tiles()
    assert tiles["Songs"] == ("4", "of 6 that came in")
    assert tiles["Leaks"] == ("0", "0 within, 0 unseen")
    assert tiles["Clips"][0] == "4"
    assert page.row("A")[1:] == ["2", "0.00", "2", "–"]
    assert page.row("C")[1:4] == ["1", "0.00", "1"]
    assert "1 × residue of … dB" in page.row("C")[4]
    assert page.row("D")[1:4] == ["0", "0.00", "1"]
    assert page.row("rock")[1:6] == ["3.00", "1.00", "75.0 %", "50.0 %", "50.0 %"]
    assert page.row("validation")[1:5] == ["1", "0.25", "1", "25.0 %"]
    assert page.row("CC-BY-4.0")[1:3] == ["derived", "2"]
    assert page.row("unknown")[2] == "1"
    assert "vocals.rms ≥ 0.01" in words
    assert "6 pass, 2 do not" in words
    assert "1 of 4 songs have no licence: you may not redistribute" in words
    assert "curated corpus of corpora/songs" in words
    assert "grade: grade D 1, 0.12 h" in words
    assert "gate: rms_vocals 1" in words
    assert "voice in the instrumental in 3 of 60 s" in words


@pytest.mark.usefixtures("no_charts")
def test_the_best_and_worst_are_by_grade_then_by_residual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songs, "PICTURED", 2)
    make_curated(tmp_path, songs=6)  # grades A, A, B, C, A, A and residuals that rise
    assert headers(Page(write_report(tmp_path))) == ["Title 0", "Title 1", "Title 3", "Title 2"]


@pytest.mark.usefixtures("no_charts")
def test_curves_and_the_reason_for_the_excerpt_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songs, "PICTURED", 1)
    make_curated(tmp_path)
    page = Page(write_report(tmp_path))
    assert len(page.all("path")) > 10
    assert (
        re.findall(r"<span>(level|voice|residue)</span>", page.source)
        == [
            "level",
            "voice",
            "residue",
        ]
        * 2
    )
    assert "the loudest vocals" in page.text
    assert "around the strongest residue" in page.text


@pytest.mark.usefixtures("no_charts")
def test_damaged_curves_are_told_where_they_would_be(tmp_path: Path) -> None:
    make_curated(tmp_path)
    (tmp_path / "curves/song2.npz").write_bytes(b"PK")
    page = Page(write_report(tmp_path))
    assert "curves/song2.npz: cannot be read" in page.text
    assert len(page.all("img")) == 12


@pytest.mark.usefixtures("no_charts")
def test_without_curves_gates_and_grades_their_sections_are_left_out(tmp_path: Path) -> None:
    make_curated(tmp_path)
    shutil.rmtree(tmp_path / "curves")
    run = json.loads((tmp_path / "run.json").read_text())
    for field in ("gates", "genres", "splits", "grades", "leaks", "hours"):
        run[field] = {"gates": 3, "genres": None, "splits": [1], "grades": "A", "leaks": {"within": "x"}}.get(field)
    (tmp_path / "run.json").write_text(json.dumps(run))
    edit(tmp_path, "stems", lambda rows: [row.update(grade=None, reasons=None, split=None) for row in rows])
    page = Page(write_report(tmp_path))
    targets = {str(link["href"]) for link in page.all("a") if str(link["href"]).startswith("#")}
    assert not targets & {"#gates", "#genres", "#grades", "#splits"}
    assert targets <= {f"#{heading['id']}" for heading in page.all("h2")}
    assert "residue" not in re.findall(r"<span>(level|voice|residue)</span>", page.source)
    assert page.source.count("<span>level</span>") == 4


@pytest.mark.usefixtures("no_charts")
def test_a_leak_is_loud(tmp_path: Path) -> None:
    make_curated(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    run["leaks"] = {"within": 3, "unseen": 1}
    (tmp_path / "run.json").write_text(json.dumps(run))
    words = " ".join(Page(write_report(tmp_path)).text.split())
    assert "Leaks, within: 3. The same music is in two splits." in words
    assert "Leaks, unseen: 1. Music of the unseen set is in this corpus" in words


@pytest.mark.parametrize(
    "gate",
    [
        {},
        {"measure": "rms", "edges": [1, 2], "counts": [1, 2]},
        {"measure": "rms", "edges": [2, 1], "counts": [1], "minimum": "x"},
        {"measure": "rms", "edges": "abc", "counts": None, "kept": None},
        {"measure": "rms", "edges": [0, None], "counts": [1]},
    ],
)
@pytest.mark.usefixtures("no_charts")
def test_a_gate_that_cannot_be_drawn_is_named(tmp_path: Path, gate: dict[str, Any]) -> None:
    make_curated(tmp_path, songs=1)
    run = json.loads((tmp_path / "run.json").read_text())
    run["gates"] = [gate]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert "no values" in Page(write_report(tmp_path)).text


@pytest.mark.usefixtures("no_charts")
def test_an_imported_corpus_has_no_pairs_to_tell_of(tmp_path: Path) -> None:
    make_build(tmp_path)
    (tmp_path / "pairs.parquet").unlink()
    (tmp_path / "tracks.parquet").unlink()
    run = {
        "builder": "import",
        "recipe": {"layout": "musdb18"},
        "counts": {"take": {"in": 3, "kept": 2, "rejected": 1}},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    page = Page(write_report(tmp_path))
    assert "Refused candidates" not in page.text
    assert page.tiles()["Songs"] == ("2", "of 3 that came in")
    assert page.row("song0")[1:] == ["0.5 s", "−30.0", "listen mixture instrumental vocals"]


def test_songs_without_a_residual_are_shown_at_random_and_nothing_is_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")
    monkeypatch.setattr(songs, "PICTURED", 3)
    make_build(tmp_path, songs=7)
    edit(tmp_path, "stems", lambda rows: [row.update(residual_db=None) for row in rows])
    page = Page(write_report(tmp_path))
    shown = headers(page)
    assert len(set(shown)) == 3
    assert shown == sorted(shown) != ["Title 0", "Title 1", "Title 2"]
    assert re.findall(r"<h3>(\w+)<small>(.*?)</small>", page.source) == [("Songs", "3 of 7 songs, at random")]
    assert "Residual" not in page.text
    assert "Sorted by" not in page.text
    assert " dB</span></header>" not in page.source
    assert len(page.row("Title 0")) == 6


@pytest.mark.usefixtures("no_charts")
def test_songs_with_grades_alone_are_still_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(songs, "PICTURED", 1)
    make_curated(tmp_path, songs=4)  # grades A, A, B, C
    edit(tmp_path, "stems", lambda rows: [row.update(residual_db=None) for row in rows])
    page = Page(write_report(tmp_path))
    assert headers(page) == ["Title 0", "Title 3"]
    assert "Sorted by grade. " in page.text
    assert "Residual, dB" not in page.text


@pytest.mark.usefixtures("no_charts")
def test_text_from_tags_files_and_records_is_shown_and_never_run(tmp_path: Path) -> None:
    plain = make_curated(tmp_path / "plain")
    calm = Page(write_report(plain))
    build = make_build(tmp_path / "<b onclick=1>", song_title=HOSTILE)

    def spoil_pairs(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(reason=HOSTILE, evidence=HOSTILE, mixture_path=HOSTILE, instrumental_path=HOSTILE)

    edit(build, "tracks", lambda rows: [row.update(version=HOSTILE) for row in rows])
    edit(build, "pairs", spoil_pairs)
    reasons = json.dumps([HOSTILE])
    told = {"artist": HOSTILE, "genre": HOSTILE, "split": HOSTILE, "license": HOSTILE, "method": HOSTILE}
    edit(build, "stems", lambda rows: [row.update(**told, grade="D", reasons=reasons) for row in rows])
    edit(build, "stems", lambda rows: [row.update(stem=f"{row['stem']} {HOSTILE}") for row in rows])
    edit(
        build, "rejected", lambda rows: rows[0].update(path=HOSTILE, reason=HOSTILE, detail=HOSTILE, stage=HOSTILE)
    )
    run = json.loads((build / "run.json").read_text())
    run.update(catalog=HOSTILE, builder=HOSTILE, versions={HOSTILE: HOSTILE}, recipe={HOSTILE: HOSTILE})
    run.update(counts={HOSTILE: {HOSTILE: 1}}, wall_s={HOSTILE: 1})
    run.update(
        corpus=HOSTILE,
        grades={HOSTILE: 1},
        splits={HOSTILE: {"songs": 1, "hours": 1, "artists": 1}},
        genres={"before": {HOSTILE: 1}, "after": {HOSTILE: 1}, "reference": {HOSTILE: 1}},
        leaks={HOSTILE: 1},
        gates=[
            {"name": HOSTILE, "measure": HOSTILE, "stem": HOSTILE, "edges": [0, 1], "counts": [1], "minimum": 0.5}
        ],
    )
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
    assert page.text.count("no values") == 2  # durations: heading and summary
    assert page.all("audio") == page.all("img") == []


def test_a_run_record_with_fields_missing_still_gives_a_page(build: Path) -> None:
    (build / "run.json").write_text(json.dumps({"counts": {"survey": 3}, "hours": [1], "wall_s": {"x": "y"}}))
    page = Page(write_report(build))
    assert page.row("x")[1:3] == ["–", "–"]
    assert page.row("Title 0")[2] == "0.5 s"


def test_a_long_table_is_cut_and_says_how_much_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_build(tmp_path, songs=7)
    monkeypatch.setattr(sections, "SHOWN_ROWS", 4)
    monkeypatch.setattr(songs, "PICTURED", 0)
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
    with pytest.raises(BuildError, match=r"run\.json: is not JSON .*; remove it and run the same 'stemloom build"):
        write_report(build)
    shutil.copy(build / "recipe.json", build / "run.json")
    (build / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"pairs\.parquet: cannot be read as Parquet"):
        write_report(build)
    (build / "stems.parquet").unlink()
    with pytest.raises(BuildError, match="its build has not finished: run the same"):
        write_report(build)


def test_matplotlib_is_imported_for_a_report_only() -> None:
    script = "import sys, builders.report; sys.exit('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "matplotlib is imported with builders.report"


def test_base64_pictures_are_pngs(whole: Path) -> None:
    for image in Page(whole / "report.html").all("img"):
        data = base64.b64decode(str(image["src"]).partition(",")[2], validate=True)
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
