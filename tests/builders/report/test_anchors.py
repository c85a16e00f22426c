"""The page about anchors: labels, how sure they are, and a few of them to hear."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
import soundfile

from builders.report import anchors, charts, write_report
from manifests.corpus import Corpus
from manifests.tables import read_table, write_table
from tests.builders.report.test_page import HOSTILE, Page
from tests.builders.test_anchors import library, mine, sound


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    sounds = {
        "one": (sound({"High tone": (2.0, 4.0)}), "High tone"),
        "two": (sound({"High tone": (1.0, 2.0)}, seed=1), "High tone"),
        "three": (sound({"Low tone": (0.0, 0.8)}, 0.8), "Low tone"),
    }
    build = mine(library(folder / "corpus", sounds), folder / "anchors").folder
    write_report(build)
    return build


@pytest.fixture
def build(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build to change, its page without charts, which take most of the time."""
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")
    return Path(shutil.copytree(whole, tmp_path / "anchors"))


def test_labels_are_counted_the_most_frequent_first(whole: Path) -> None:
    page = Page(whole / "report.html")
    assert f"corpus of anchors of {whole.parent / 'corpus'}" in " ".join(page.text.split())
    clips = Corpus.open(whole).clips
    means = clips.groupby("label")["label_probability"].mean()
    rows = [row[:4] for row in page.rows if row and row[0] in means.index]
    assert rows == [
        ["High tone", "2", "66.7 %", f"{means['High tone']:.2f}"],
        ["Low tone", "1", "33.3 %", f"{means['Low tone']:.2f}"],
    ]
    assert 'aria-label="Histogram: Probability"' in page.source


def test_the_surest_and_the_least_sure_are_heard_and_no_more_than_the_anchor(whole: Path) -> None:
    corpus = Corpus.open(whole)
    (high, low), more = anchors.labels(corpus, corpus.clips, 64.0)
    assert more == 0
    chances = corpus.clips.loc[corpus.clips["label"] == "High tone", "label_probability"]
    assert [excerpt.title for excerpt in high.excerpts] == [f"{chances.max():.2f}", f"{chances.min():.2f}"]
    lengths = []
    for excerpt in (*high.excerpts, *low.excerpts):
        audio, rate = soundfile.read(io.BytesIO(base64.b64decode(excerpt.clip.partition(",")[2])))
        lengths.append(len(audio) / rate)
    assert lengths == pytest.approx([2.0, 2.0, 0.8], abs=0.01)


def test_what_is_beyond_the_page_is_counted(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "MOST_LABELS", 1)
    assert "1 more labels" in Page(write_report(build)).text


def test_audio_that_cannot_be_read_is_told_in_its_place(build: Path) -> None:
    corpus = Corpus.open(build)
    path = corpus.path_of(corpus.song("three")["effects"])
    path.unlink()
    page = Page(write_report(build))
    assert str(path) in page.row("Low tone")[5]


def test_a_label_is_text(build: Path) -> None:
    write_table(build, "clips", read_table(build, "clips").assign(label=HOSTILE))
    page = Page(write_report(build))
    assert page.all("script") == []
    assert page.row(HOSTILE[:10])[1] == "3"


def test_clips_of_another_build_are_no_anchors(build: Path) -> None:
    write_table(build, "clips", read_table(build, "clips").assign(label=None, label_probability=None))
    assert 'id="anchors"' not in Page(write_report(build)).source
