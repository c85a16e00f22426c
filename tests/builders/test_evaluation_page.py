"""The page of an evaluation: its numbers are the tables', its names are text, and a browser shows it."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from builders.report.evaluation import write_evaluation_page
from builders.report.plots import Series, lines, points, strips
from manifests.audio import Audio
from manifests.corpus import Corpus
from manifests.errors import BuildError, TableError
from tests.builders.browser import CHROMIUM, Browser
from tests.builders.report.test_page import HOSTILE, Page
from tests.manifests.exports.small_corpus import sounds, write_song, write_tables
from tests.training.small_separators import Clipping, Gains
from training.evaluation import Evaluation, EvaluationSettings, evaluate

GAINS = {"vocals": 0.5, "accompaniment": 0.7}


def corpus_of(folder: Path, names: list[str], **facts: Any) -> Corpus:
    rows = []
    for seed, name in enumerate(names):
        stems: dict[str, Audio] = sounds(seed, ("vocals", "bass", "drums"), frames=4000)
        stems["vocals"] = stems["vocals"] * np.float32(0.25 * seed)
        stems["mixture"] = stems["vocals"] + stems["bass"] + stems["drums"]
        made = write_song(folder, name, stems, **facts)
        rows += [{**row, "song_id": name} for row in made]
    return write_tables(folder, rows)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """An evaluation of five songs, one without vocals; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluation")
    corpus = corpus_of(folder / "corpus", [f"song {n}" for n in range(5)], artist="Band", split="test")
    settings = EvaluationSettings(
        oracles=("ideal ratio mask", "scaled identity"), sweep_lufs=(-40.0, -20.0), excerpt_s=0.2
    )
    others = [Gains("nothing", {"vocals": 0.0, "accompaniment": 1.0})]
    evaluation = evaluate(Clipping("clipping", GAINS), corpus, folder / "out", settings, beside=others)
    write_evaluation_page(evaluation.folder)
    return evaluation


@pytest.fixture(scope="module")
def page(found: Evaluation) -> Page:
    return Page(found.folder / "evaluation.html")


def words(value: float) -> str:
    return f"{value:.2f}".replace("-", "−").replace("−0.00", "0.00")


def test_the_scores_are_those_of_the_summary(found: Evaluation, page: Page) -> None:
    tables = re.findall(r'<table class="scores">(.*?)</table>', page.source, re.DOTALL)
    assert len(tables) == 3
    summary = found.summary.set_index(["method", "target", "score"])
    for table, target in zip(tables, ("mean", "vocals", "accompaniment"), strict=True):
        (sdr,) = re.findall(r'<tr><td class="name">SDR</td>(.*?)</tr>', table)
        cells = re.findall(r"<b>(.*?)</b><small>(.*?)</small>", sdr)
        assert len(cells) == 4
        for method, (median, spread) in zip(found.songs["method"].unique(), cells, strict=True):
            row = summary.loc[(method, target, "sdr_db")]
            assert median == words(row["median"])
            assert spread == f"{words(row['mean'])} ± {words(row['std'])}"
        assert ("1 without a value" in sdr) == (target == "vocals")
    assert page.tiles()["SDR"] == (
        f"{words(summary.loc[('clipping', 'mean', 'sdr_db')]['median'])} dB",
        "median of the mean of the targets",
    )
    assert page.tiles()["Songs"][0] == "5"
    assert page.source.count("knows the references") == 3


def test_infinite_values_are_shown_as_such(found: Evaluation, page: Page) -> None:
    # the mixture of the song without vocals is its accompaniment
    row = found.summary.set_index(["method", "target", "score"]).loc[("nothing", "accompaniment", "si_sdr_db")]
    assert row["infinite"] == 1
    assert "1 infinite" in page.source


def test_songs_are_sorted_with_the_worst_first(found: Evaluation, page: Page) -> None:
    own = found.songs[found.songs["method"] == "clipping"]
    means = own.groupby("song_id")["sdr_db"].mean().sort_values()
    rows = [row for row in page.rows if row and row[0].startswith("song ")]
    assert [row[0].removesuffix("Band · test") for row in rows] == list(means.index)
    for row in rows:
        values = own[own["song_id"] == row[0].removesuffix("Band · test")].set_index("target")
        vocals = values.loc["vocals"]
        assert row[2] == words(values["sdr_db"].mean())
        assert row[3:5] == [
            "–" if np.isnan(vocals[name]) else words(vocals[name]) for name in ("sdr_db", "sdr_improvement_db")
        ]


def test_pictures_have_a_point_for_each_value(found: Evaluation, page: Page) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    by_label = {re.findall(r'aria-label="(.*?)"', svg)[0]: svg for svg in pictures}
    values = found.songs[found.songs["target"] == "vocals"]["sdr_db"]
    assert by_label["SDR of the vocals by method"].count("<circle") == (values.abs() <= 60).sum() == 16
    accompaniment = found.songs[found.songs["target"] == "accompaniment"]["sdr_db"]
    beyond = int((accompaniment.abs() > 60).sum())
    assert beyond > 0
    assert f"{beyond} beyond ±60 dB not drawn" in page.text
    assert by_label["SDR by loudness: clipping"].count("<circle") == 4
    assert set(by_label) == {
        "SDR of the vocals by method",
        "SDR of the accompaniment by method",
        "SDR improvement against the SDR of the mixture",
        "SDR by loudness: clipping",
        "SDR by loudness: nothing",
    }


def test_excerpts_are_heard_and_seen(found: Evaluation, page: Page) -> None:
    record = json.loads((found.folder / "evaluation.json").read_text())
    assert len(page.players("clip")) == len(page.all("img")) == 3 * 7
    assert [item["rank"] for item in record["excerpts"]] == ["best", "median", "worst"]
    hrefs = [str(link["href"]) for link in page.all("a") if str(link["href"]).endswith(".flac")]
    assert len(hrefs) == 3 * 7
    rows = re.findall(r'<div class="heard">(.*?)</figure>', page.source, re.DOTALL)
    names = [re.findall("<b>(.*?)</b>", row) for row in rows]
    assert names == [["mixture", "reference", "clipping", "nothing"]] * 3
    assert all((found.folder / href).is_file() for href in hrefs)
    assert page.all("script") == page.all("link") == []


def test_excerpts_are_played_at_one_level(found: Evaluation, tmp_path: Path) -> None:
    record = json.loads((found.folder / "evaluation.json").read_text())
    found.songs.to_parquet(tmp_path / "songs.parquet")
    path = next(found.folder.glob("excerpts/*/00-mixture.flac"))
    (tmp_path / path.name).write_bytes(path.read_bytes())
    item = {**record["excerpts"][0], "folder": ".", "gain_db": -6.0}
    played = []
    for own_db in (0.0, -6.0):
        file = {"role": "estimate", "target": "vocals", "method": "a", "path": path.name, "gain_db": own_db}
        (tmp_path / "evaluation.json").write_text(json.dumps({**record, "excerpts": [{**item, "files": [file]}]}))
        (source,) = Page(write_evaluation_page(tmp_path)).players("clip")
        played.append(soundfile.read(io.BytesIO(base64.b64decode(source.partition(",")[2])))[0].std())
    assert 20 * np.log10(played[0] / played[1]) == pytest.approx(-6.0, abs=0.5)


def test_names_that_tables_have_are_the_pages(found: Evaluation, tmp_path: Path) -> None:
    corpus = Corpus.open(found.folder.parent / "corpus")
    settings = EvaluationSettings(excerpt_s=0.2, limit=4)
    separators = [Clipping("runs/long/best.safetensors", GAINS), Gains("nothing", dict.fromkeys(GAINS, 0.5))]
    evaluate(separators[0], corpus, tmp_path, settings, beside=separators[1:], names=["reference", "half of it"])
    page = Page(write_evaluation_page(tmp_path))
    assert "runs/long" not in page.source
    (heard,) = {tuple(re.findall("<b>(.*?)</b>", row)) for row in page.source.split('<div class="heard">')[1:4]}
    assert heard[:4] == ("mixture", "reference", "reference", "half of it")
    assert "of reference: what is gained over the mixture" in page.text


def test_songs_are_called_by_their_titles_and_hashes_are_short(found: Evaluation, tmp_path: Path) -> None:
    record = json.loads((found.folder / "evaluation.json").read_text())
    hashed = "0123456789abcdef" * 2
    songs = found.songs.replace({"song_id": {"song 1": hashed}})
    songs["title"] = songs["song_id"].map({"song 2": "Paper Lanterns"})
    (tmp_path / "evaluation.json").write_text(json.dumps({**record, "excerpts": []}))
    songs.to_parquet(tmp_path / "songs.parquet")
    page = Page(write_evaluation_page(tmp_path))
    titles = {row[0].removesuffix("Band · test") for row in page.rows if row and row[0].endswith("Band · test")}
    assert titles == {"song 0", "0123456789ab…", "Paper Lanterns", "song 3", "song 4"}
    assert f'title="{hashed}"' in page.source


def test_pictures_of_targets_share_their_axis_and_boxes_need_songs(found: Evaluation, page: Page) -> None:
    pictures = re.findall(r'<svg role="img" aria-label="SDR of the.*?</svg>', page.source, re.DOTALL)
    axes = [re.findall(r'<text x="([\d.]+)"[^>]*middle">(.*?)</text>', svg) for svg in pictures]
    assert len(axes) == 2
    assert axes[0] == axes[1]
    assert not any("<rect" in svg for svg in pictures)
    assert [strips([Series("a", "--one", range(n))], "x", "dB").count("<rect") for n in (7, 8)] == [0, 1]


def test_the_improvement_goes_with_the_input_for_each_target_alone(found: Evaluation, page: Page) -> None:
    own = found.songs[found.songs["method"] == "clipping"]
    slopes = []
    for target, rows in own.groupby("target", sort=False):
        gained = rows["sdr_improvement_db"]
        before = rows["sdr_db"] - gained
        kept = (before.abs() <= 60) & (gained.abs() <= 60)
        slopes.append(f"{target} {words(np.polyfit(before[kept], gained[kept], 1)[0])} dB")
    assert f"for each dB that the input is better: {', '.join(slopes)}" in page.text
    assert "of clipping: what is gained over the mixture" in page.text


def test_the_same_evaluation_gives_the_same_page(found: Evaluation) -> None:
    before = (found.folder / "evaluation.html").read_bytes()
    assert write_evaluation_page(found.folder).read_bytes() == before


def test_names_from_strangers_are_text(tmp_path: Path) -> None:
    rows = write_song(tmp_path / "in", "plain", sounds(1, ("vocals", "bass")), artist=HOSTILE, genre=HOSTILE)
    corpus = write_tables(tmp_path / "in", [{**row, "song_id": HOSTILE} for row in rows])
    separator = Gains(HOSTILE, {HOSTILE: 0.5})
    settings = EvaluationSettings(targets={HOSTILE: "vocals"}, sweep_lufs=(-30.0, -20.0))
    evaluate(separator, corpus, tmp_path / "out", settings)
    page = Page(write_evaluation_page(tmp_path / "out"))
    assert page.all("script") == []
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE) > 5


def test_what_lies_outside_of_the_folder_is_not_read(found: Evaluation, tmp_path: Path) -> None:
    record = json.loads((found.folder / "evaluation.json").read_text())
    secret = found.folder / record["excerpts"][0]["folder"] / record["excerpts"][0]["files"][0]["path"]
    record["excerpts"] = [{**record["excerpts"][0], "folder": str(secret.parent)}]
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    found.songs.to_parquet(tmp_path / "songs.parquet")
    page = Page(write_evaluation_page(tmp_path))
    assert page.players("clip") == []
    assert page.source.count('<div class="error">') == 7


def test_tables_may_be_csv_and_excerpts_missing(found: Evaluation, tmp_path: Path) -> None:
    record = json.loads((found.folder / "evaluation.json").read_text())
    (tmp_path / "evaluation.json").write_text(json.dumps({**record, "excerpts": []}))
    found.songs.assign(song_id=found.songs["song_id"].str.removeprefix("song ").radd("00")).to_csv(
        tmp_path / "songs.csv", index=False
    )
    page = Page(write_evaluation_page(tmp_path))
    assert page.row("000")
    assert page.players("clip") == []
    assert "Listen" not in page.text
    assert "Loudness" not in page.text


def test_folders_that_hold_no_evaluation_are_refused(found: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"evaluation\.json: is missing"):
        write_evaluation_page(tmp_path)
    (tmp_path / "evaluation.json").write_bytes((found.folder / "evaluation.json").read_bytes())
    with pytest.raises(TableError, match=r"no songs\.parquet"):
        write_evaluation_page(tmp_path)
    (tmp_path / "songs.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"songs\.parquet: cannot be read"):
        write_evaluation_page(tmp_path)
    pd.DataFrame({"method": ["a"]}).to_parquet(tmp_path / "songs.parquet")
    with pytest.raises(TableError, match="lacks duration_s, sdr_db, song_id, target"):
        write_evaluation_page(tmp_path)


def test_pictures_of_nothing_are_none_and_of_one_value_some() -> None:
    nothing = Series("a", "--one", [])
    assert strips([nothing], "x", "dB") == points([nothing], "x", "dB", "dB") == ""
    assert strips([nothing, Series("b", "--two", [3.0])], "x", "dB").count("<circle") == 1
    assert lines([Series("b", "--two", [3.0], [-20.0])], "x", "LUFS", "dB").count("<circle") == 1


def test_points_are_where_their_values_are() -> None:
    svg = points([Series("a", "--one", [0.0, 10.0], [-20.0, 20.0])], "<label>", "x & y", "dB")
    places = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    ticks = dict(re.findall(r'<text x="([\d.]+)" y="152.0".*?>(.*?)</text>', svg))
    assert [ticks[x] for x, _ in places] == ["−20", "20"]
    assert float(places[0][1]) > float(places[1][1])
    assert 'aria-label="&lt;label&gt;"' in svg
    assert "x &amp; y" in svg


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_it_and_plays_the_excerpts(found: Evaluation, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(found.folder / "evaluation.html")
        assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        durations = browser.run(
            "Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise((done, fail) => {"
            "audio.onloadedmetadata = () => done(audio.duration); audio.onerror = () => fail(audio.src);"
            "audio.preload = 'metadata'; audio.load(); })))"
        )
        assert durations == pytest.approx([0.2] * 21, abs=0.02)
        circle = "document.querySelector('circle')"
        assert browser.run(f"getComputedStyle({circle}).fill") not in ("rgb(0, 0, 0)", "none")
