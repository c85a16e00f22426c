"""The page of examples: every mixture with its files, what it is made of, and names of strangers as text."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from augment.plan import Event
from builders.listen import Anchor, _label_of, write_examples
from manifests.corpus import Corpus
from manifests.errors import BuildError, RecipeError
from manifests.tables import frame_of, read_table, write_table
from tests.builders.browser import CHROMIUM, Browser
from tests.builders.report.test_page import HOSTILE, Page
from tests.builders.small_mixtures import RATE, mix_recipe, plans_in, sound_corpus, sound_rows, split_corpus
from tests.manifests.exports.small_corpus import files_of, write_tables


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_corpus(tmp_path_factory.mktemp("corpora") / "sounds").folder


def write_tracks(folder: Path, known: dict[str, dict[str, Any]]) -> None:
    """A tracks table with what is known of songs."""
    facts = {"root": "music", "codec": "flac", "version": "original", "sample_rate": 8000, "channels": 2}
    rows = [
        {"track_id": song_id, "path": f"found/{number}.flac", "num_frames": 1, **facts, **row}
        for number, (song_id, row) in enumerate(known.items())
    ]
    write_table(folder, "tracks", frame_of("tracks", rows))


@pytest.fixture(scope="module")
def page(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples of a recipe; not to be changed."""
    out = tmp_path_factory.mktemp("page") / "listen"
    mix = mix_recipe(about="For <tests> & more")
    return write_examples(mix, [sounds], out, name="tests", num=3, seed=2, jobs=0)


def headers(page: Page) -> list[str]:
    return re.findall(r'<figure class="song">\s*<header><b>(.*?)</b>', page.source)


def test_the_page_has_every_example_and_what_it_is_made_of(page: Path) -> None:
    plans = plans_in(page.parent)
    shown = Page(page)
    assert page.name == "listen.html"
    assert headers(shown) == [f"2-0000-{index:08d}" for index in range(3)] == [plan.mixture_id for plan in plans]
    table = read_table(page.parent, "mixtures")
    events = table[table["path"].notna()]
    assert len(shown.all("i")) == len(events) + len(Corpus.open(page.parent).stems)  # bars, and a colour each
    for event in events.itertuples():
        assert f"{event.stem} of {event.stem}.flac: " in shown.text  # no tracks table knows a title
        assert event.path in shown.text
        level = "" if event.loudness_lufs != event.loudness_lufs else f", {event.loudness_lufs:.1f} LUFS"
        assert f"{event.gain_db:.1f} dB{level}".replace("-", "−") in shown.text
    assert shown.tiles()["Examples"] == ("3", "seed 2")
    assert shown.tiles()["Songs heard"][0] == str(events["song_id"].nunique())
    assert "For <tests> & more · 8,000 Hz, stereo · targets speech, music, effects" in shown.text


def test_bars_are_where_events_are(page: Path) -> None:
    shown = Page(page)
    bars = re.findall(r'<i style="left: ([\d.]+)%; width: ([\d.]+)%;.*?title="(.*?)"', shown.source)
    stems = ["speech", "music", "effects"]  # as the recipe has them
    wanted = [
        (100 * event.offset_frame / 4000, 100 * event.length_frames / 4000, f"{event.stem} of {event.stem}.flac")
        for plan in plans_in(page.parent)
        for event in sorted(plan.events, key=lambda event: stems.index(event.target))
    ]
    assert len(bars) == len(wanted)
    for (left, width, title), (wanted_left, wanted_width, wanted_title) in zip(bars, wanted, strict=True):
        assert title == wanted_title
        assert float(left) == pytest.approx(wanted_left, abs=0.01)
        assert float(width) == pytest.approx(wanted_width, abs=0.01)


def test_targets_are_in_the_order_of_the_recipe(page: Path) -> None:
    first = Page(page).source.split('<figure class="song">')[1]
    assert re.findall(r'alt="Spectrogram of the (\w+)"', first) == ["mixture", "speech", "music", "effects"]


def test_songs_have_their_titles_where_a_tracks_table_knows_them(tmp_path: Path) -> None:
    for kind in ("speech", "music", "effects"):
        write_tables(tmp_path / kind, sound_rows(tmp_path / kind, kind, 1))
    known = {"title": "Rain (Live)", "song_title": "Rain", "artist": "Band"}
    write_tracks(tmp_path / "music", {"music0": known, "another": {"title": "Snow"}})
    write_tracks(tmp_path / "effects", {"effects0": {"path": "dogs/bark 03.wav", "artist": "Nobody"}})
    sources = {kind: {"stems": kind} for kind in ("speech", "music", "effects")}
    folders = [tmp_path / kind for kind in sources]
    shown = Page(write_examples(mix_recipe(sources=sources), folders, tmp_path / "out", num=1, jobs=0))
    titles = re.findall(r'<i style="left.*?title="(.*?)"', shown.source)
    assert titles == ["speech of speech.flac", "music of Rain by Band", "effects of bark 03.wav"]


def test_labels_of_the_clips_that_sources_were_drawn_from_are_told(tmp_path: Path) -> None:
    write_tables(tmp_path / "in", sound_rows(tmp_path / "in", "effects", 1))
    clips = [("dog", 0, 1000, "Dog", 0.934), ("cat", 2000, 3000, "Cat <3", None), ("none", 5000, 1000, None, None)]
    rows = [
        {"clip_id": name, "song_id": "effects0", "start_frame": start, "num_frames": length}
        | {"label": label, "label_probability": probability}
        for name, start, length, label, probability in clips
    ]
    write_table(tmp_path / "in", "clips", frame_of("clips", rows))
    sources = {"effects": {"stems": "effects", "within": "clips", "place": "scatter", "length_s": 0.1}}
    out = tmp_path / "out"
    shown = Page(write_examples(mix_recipe(sources=sources), [tmp_path / "in"], out, num=12, jobs=0))
    labels = ["Dog (0.93), ", "Cat <3, ", ""]
    wanted = [
        f"{labels[np.searchsorted([2000, 5000], event.source_start_frame, 'right')]}effects of effects.flac: "
        for plan in plans_in(out)
        for event in plan.events
    ]
    assert set(wanted) == {f"{label}effects of effects.flac: " for label in labels}
    items = [item.partition(": ")[0] + ": " for item in re.findall(r"<li><b>(.*?)</li>", shown.source)]
    assert [html.unescape(item.replace("</b>", "")) for item in items] == wanted


def test_a_crop_has_the_label_of_the_clip_that_holds_it() -> None:
    clips = [Anchor(0, 4000, "A"), Anchor(1000, 2000, "B"), Anchor(1000, 4000, "C")]

    def label(start: int, length: int) -> str | None:
        event = Event("effects", "effects", "a", "effects", ".", "a.flac", start, length, RATE, 0, length)
        return _label_of(event, clips)

    assert label(0, 4000) == label(999, 100) == "A"
    assert label(1000, 2000) == "B / C"  # the plan does not say which
    assert label(1000, 4000) == "C"
    assert label(4000, 1001) is None  # ends after every clip


def test_every_stem_has_its_file_and_picture(page: Path) -> None:
    shown = Page(page)
    sources = [unquote(source) for source in shown.players("file")]
    assert sorted(sources) == sorted(f"audio/{name}" for name in files_of(page.parent / "audio"))
    assert all((page.parent / source).is_file() for source in sources)
    assert len(shown.all("img")) == len(sources) == 12
    assert shown.all("script") == shown.all("link") == []


def test_names_from_files_are_text(tmp_path: Path) -> None:
    rows = sound_rows(tmp_path / "in", "speech", 1)
    rows[0]["song_id"] = HOSTILE
    write_tables(tmp_path / "in", rows)
    write_tracks(tmp_path / "in", {HOSTILE: {"title": HOSTILE}})
    mix = mix_recipe(sources={"speech": {"stems": "speech"}}, about=HOSTILE)
    shown = Page(write_examples(mix, [tmp_path / "in"], tmp_path / "out", name=HOSTILE, num=1, jobs=0))
    assert shown.all("script") == []
    assert all("onerror" not in image for image in shown.all("img"))
    assert f"speech of {HOSTILE}" in shown.text
    assert shown.text.count(HOSTILE) == 4  # the title, the heading, what it is about, the event


def test_transforms_are_told(sounds: Path, tmp_path: Path) -> None:
    sources: dict[str, Any] = {
        "speech": {"stems": "speech", "lufs": -25, "transforms": [{"gain": {"gain_db": -3}}]}
    }
    mix = mix_recipe(sources=sources, transforms=[{"peak": {"peak_db": -2}}])
    shown = Page(write_examples(mix, [sounds], tmp_path / "out", num=1, jobs=0))
    assert "gain (gain 0.7079)" in shown.text  # -3 dB
    assert "loudness (lufs −25)" in shown.text
    assert re.search(r'<ul class="reasons"><li>peak \(peak_db −2.*?\)</li></ul>', shown.source)


def test_a_gain_that_keeps_files_within_full_scale_is_told(page: Path, sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(sources={"speech": {"stems": "speech", "gain_db": 40}})
    shown = Page(write_examples(mix, [sounds], tmp_path / "out", num=1, jobs=0))
    gain_db = Corpus.open(tmp_path / "out").stems["gain_db"].iloc[0]
    assert gain_db < -1
    assert f"−{-gain_db:.1f} dB, to stay within full scale" in shown.text
    assert "full scale" not in Page(page).text


def test_silent_examples_have_a_page_too(sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(sources={"speech": {"stems": "speech", "silence": 1.0}}, min_sources=0)
    shown = Page(write_examples(mix, [sounds], tmp_path / "out", num=1, jobs=0))
    assert shown.text.count("silent") == 2
    assert shown.tiles()["Songs heard"][0] == "0"


def test_a_cascade_shows_what_is_left(sounds: Path, tmp_path: Path) -> None:
    mix = mix_recipe(remove={"target": "speech"})
    shown = Page(write_examples(mix, [sounds], tmp_path / "out", num=1, jobs=0))
    assert "speech of " not in shown.text
    assert "remove (target speech, by oracle)" in shown.text


def test_examples_of_one_split(tmp_path: Path) -> None:
    corpora = split_corpus(tmp_path / "sounds").folder
    write_examples(mix_recipe(), [corpora], tmp_path / "out", num=4, split="test", jobs=0)
    assert {song[-1] for song in read_table(tmp_path / "out", "mixtures")["song_id"].dropna()} <= set("34")


def test_the_same_examples_are_written_again_and_others_are_refused(page: Path, sounds: Path) -> None:
    before = page.read_bytes()
    mix = mix_recipe(about="For <tests> & more")
    assert write_examples(mix, [sounds], page.parent, name="tests", num=3, seed=2, jobs=0).read_bytes() == before
    with pytest.raises(BuildError, match="built with num 3, and this is 4"):
        write_examples(mix, [sounds], page.parent, num=4, seed=2, jobs=0)
    with pytest.raises(RecipeError, match="split"):
        write_examples(mix, [sounds], page.parent, num=3, seed=2, split="train", jobs=0)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_it_and_plays_the_files(page: Path, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        durations = browser.run(
            "Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise((done, fail) => {"
            "audio.onloadedmetadata = () => done(audio.duration); audio.onerror = () => fail(audio.src);"
            "audio.preload = 'metadata'; audio.load(); })))"
        )
        assert durations == pytest.approx([0.5] * 12, abs=0.01)
        bar = "document.querySelector('.bars i').getBoundingClientRect()"
        assert browser.run(f"{bar}.width") > 1
