"""The page about a cleaned corpus: what the limits were, what was found, and stems to see and to hear."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.clean import CleanBuilder
from builders.report import charts, cleanings, songs, words, write_report
from curation.cleaning import FAINTEST_DB
from manifests.corpus import Corpus
from manifests.errors import TableError
from manifests.tables import empty_table, find_table, read_table, write_table
from tests.builders.report.test_page import HOSTILE, Page
from tests.builders.small_corpora import RATE, write_corpus
from tests.builders.test_clean import STEP, clean, music, sides, song, with_voice

SONGS = {
    "pure": music(0),
    "tainted": with_voice(music(1), 3, 6, level=0.005),
    "ruined": with_voice(music(2, level=0.001), 1, 10, level=0.1),
    "partly": with_voice(with_voice(music(3, level=0.02), 2, 4, level=0.001), 6, 8, level=0.1),
    "loud": music(4, level=0.9),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    source = write_corpus(folder / "corpus", [(name, song(stem)) for name, stem in SONGS.items()])
    CleanBuilder(folder / "clean", *clean(sides(fault="nan"))).build(source.folder)
    write_report(folder / "clean")
    return folder / "clean"


@pytest.fixture
def build(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build to change, its page without charts and other songs, which take most of the time."""
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")
    monkeypatch.setattr(songs, "PICTURED", 0)
    return Path(shutil.copytree(whole, tmp_path / "clean"))


def change_record(build: Path, name: str, **fields: Any) -> None:
    path = build / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def cards(page: Page) -> dict[str, str]:
    """The part of the page about each stem, by song; songs of the section about songs are others."""
    section = page.source[page.source.index('id="cleaning"') : page.source.index('id="distributions"')]
    return {re.search(r"<b [^>]*>(.*?)</b>", card)[1]: card for card in section.split('<figure class="song">')[1:]}


def pictured(card: str) -> list[str]:
    return re.findall(r'alt="Spectrogram: (\w+)"', card)


def test_the_limits_are_told_in_words_and_units(whole: Path) -> None:
    page = Page(whole / "report.html")
    words = " ".join(page.text.split())
    assert f"cleaned corpus of {whole.parent / 'corpus'}" in words
    assert page.row("Separator")[1] == "sides, its sources that are voices by their names"
    assert page.row("A voice must be heard in")[1] == "neither: the separator's level alone decides"
    assert page.row("A stem is dropped")[1] == "with more than 50 % of it damaged"
    assert page.row("Voices are left in")[1] == "below −30.0 dB, relative to the stem"
    assert page.row("Pauses are cleaned too")[1] == "up to 0 steps of 0.32 s"
    assert page.row("Fades")[1] == "50 ms"


def test_stems_are_counted_by_verdict(whole: Path) -> None:
    page = Page(whole / "report.html")
    table = read_table(whole, "cleaned")
    heard = table.loc[table["voice_db"] > FAINTEST_DB, "voice_db"]
    assert len(heard) == 3
    assert page.row("music") == ["music", "1", "2", "1", words.number(heard.median())]


def test_what_was_found_is_a_sentence_before_the_table_of_stems_and_that_of_settings(whole: Path) -> None:
    page = Page(whole / "report.html")
    said = "2 of 4 stems were cleaned, 1 was dropped; 1 stayed as it was."
    places = [page.text.index(words) for words in (said, "Voices, median dB", "Stems that should have no voices")]
    assert places == sorted(places)
    table = read_table(whole, "cleaned")
    assert cleanings.summary(table[table["verdict"] == "kept"].iloc[[0, 0]]) == (
        "0 of 2 stems were cleaned, 0 were dropped; 2 stayed as they were."
    )
    assert cleanings.summary(table.iloc[:0]) == ""


def test_levels_and_damage_are_drawn_by_verdict(whole: Path) -> None:
    (level, share, damage) = cleanings.distributions(read_table(whole, "cleaned"))
    assert [found.title for found in (level, share, damage)] == ["Voice over stem, dB", "Cleaned, %", "Damaged, %"]
    for found in (level, share, damage):
        assert "n\u00a0=\u00a03" in found.summary
        assert {"var(--chosen)", "var(--bad)"} <= set(re.findall(r"var\(--\w+\)", found.svg))
    assert damage.summary.startswith("median 20.0")  # 0, 20 and 90 % of ten steps
    assert 'id="cleaning"' in (whole / "report.html").read_text()


def test_a_cleaned_stem_is_shown_before_after_and_what_was_removed(whole: Path) -> None:
    page = Page(whole / "report.html")
    card = cards(page)["tainted"]
    assert pictured(card) == ["before", "cleaned", "removed"]
    assert card.count("<audio") == 3
    assert re.findall(r'href="(.*?)"', card) == ["audio/tainted/music.flac", "removed/tainted/music.flac"]
    assert "30 % cleaned" in card
    assert "damaged</li>" not in card
    assert 'd="M300 0H600V100H300Z"' in card  # three steps of ten
    assert "var(--bad)" not in card
    assert "where most was removed" in card


def test_damaged_parts_have_a_mark_of_their_own(whole: Path) -> None:
    card = cards(Page(whole / "report.html"))["partly"]
    assert 'style="fill: var(--chosen)" d="M200 0H400V100H200ZM600 0H800V100H600Z"' in card
    assert 'style="fill: var(--bad)" d="M600 0H800V100H600Z"' in card


def test_what_was_kept_and_what_was_left_out_is_shown_with_its_reason(whole: Path) -> None:
    found = cards(Page(whole / "report.html"))
    assert list(found) == ["partly", "tainted", "pure", "loud", "ruined"]
    assert pictured(found["pure"]) == ["music"]
    assert pictured(found["ruined"]) == ["before"]
    assert "too much voice: what is left would be damaged: 90 % of it" in found["ruined"]
    assert pictured(found["loud"]) == ["before"]
    assert "not cleaned: " in found["loud"]
    assert "gives NaN or infinity" in found["loud"]


def test_the_most_cleaned_are_few_and_come_first(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanings, "MOST_CLEANED", 1)
    monkeypatch.setattr(cleanings, "AT_RANDOM", 1)
    groups = {heading: [c.song_id for c in found] for heading, _, found in cleanings.choices(Corpus.open(build))}
    # partly: 0.4 of it at 0 dB; tainted: 0.3 of it far below
    assert groups["Most cleaned"] == ["partly"]
    assert len(groups["Dropped"]) == 1
    page = Page(write_report(build))
    assert "1 of 2 cleaned stems" in page.text
    assert "1 of 2 stems left out, at random" in page.text


def test_without_the_source_the_rest_is_shown(build: Path) -> None:
    change_record(build, "recipe.json", source=str(build / "gone"))
    page = Page(write_report(build))
    found = cards(page)
    assert pictured(found["tainted"]) == ["cleaned", "removed"]
    assert pictured(found["ruined"]) == []
    assert "Its audio is not there any more" in found["ruined"]
    assert f"is not at {build / 'gone'} any more" in " ".join(page.text.split())
    (build / "recipe.json").unlink()
    assert pictured(cards(Page(write_report(build)))["tainted"]) == ["cleaned", "removed"]


def test_a_source_that_has_changed_costs_pictures_only(build: Path, whole: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(whole.parent / "corpus", tmp_path / "corpus"))
    change_record(build, "recipe.json", source=str(source))
    stems = read_table(source, "stems")
    write_table(source, "stems", stems[stems["song_id"] != "ruined"])
    Corpus.open(source).path_of(Corpus.open(source).song("tainted")["music"]).write_bytes(b"no audio")
    found = cards(Page(write_report(build)))
    assert pictured(found["ruined"]) == []
    assert pictured(found["tainted"]) == ["cleaned", "removed"]
    assert 'class="error"' in found["tainted"]
    find_table(source, "stems").write_bytes(b"no table")
    assert pictured(cards(Page(write_report(build)))["partly"]) == ["cleaned", "removed"]


def test_tables_may_be_jsonl_or_empty(build: Path) -> None:
    before = cards(Page(write_report(build)))
    for name in ("cleaned", "rejected", "stems"):
        table = read_table(build, name)
        find_table(build, name).unlink()
        write_table(build, name, table, "jsonl")
    assert cards(Page(write_report(build))) == before
    (build / "cleaned.jsonl").unlink()
    for name in ("cleaned", "rejected"):
        write_table(build, name, empty_table(name), "jsonl")
    page = Page(write_report(build))
    assert cards(page) == {}
    assert "No stem was heard" in page.text
    (build / "cleaned.jsonl").unlink()
    assert 'id="cleaning"' not in Page(write_report(build)).source


@pytest.mark.parametrize("spans", ['{"a": 1}', "3", "[1, 2]", '[["x", 2], [1]]', "[[1, Infinity]]"])
def test_places_that_are_none_are_refused(build: Path, spans: str) -> None:
    rows = read_table(build, "cleaned").assign(cleaned=spans)
    (build / "cleaned.parquet").unlink()
    rows.to_json(build / "cleaned.jsonl", orient="records", lines=True)
    with pytest.raises(TableError, match="column 'cleaned' has 4 values that are not a JSON list"):
        write_report(build)


def test_places_beyond_the_stem_end_with_it(build: Path) -> None:
    write_table(build, "cleaned", read_table(build, "cleaned").assign(cleaned="[[-5, 1000000000]]", damaged="[]"))
    found = cards(Page(write_report(build)))["tainted"]
    assert set(re.findall(r' d="(.*?)"', found)) == {"M0 0H1000V100H0Z"}


@pytest.mark.parametrize("wrong", [None, [], "x", {"voiced": "much", "stems": 3, "witness": []}])
def test_a_recipe_that_is_not_what_it_should_be_is_no_error(wrong: Any) -> None:
    titles = dict(cleanings.settings({"builder": "clean", "recipe": wrong, "separator": wrong}))
    assert "Separator" in titles
    assert "A voice is heard" not in titles


def test_names_of_strangers_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")
    stem = with_voice(music(1), 3, 6, level=0.005)
    source = write_corpus(tmp_path / "corpus", [("a", song(stem))])
    out = tmp_path / "clean"
    CleanBuilder(out, *clean(sides(name=HOSTILE))).build(source.folder)
    for name in ("cleaned", "stems"):
        write_table(out, name, read_table(out, name).assign(song_id=HOSTILE))
    change_record(out, "recipe.json", source=HOSTILE)
    page = Page(write_report(out))
    assert page.all("script") == []
    assert page.text.count("alert(1)") >= 3
    assert all("onerror" not in image for image in page.all("img"))


def test_marks_are_no_thinner_than_can_be_seen() -> None:
    minute = 60 * RATE
    assert cleanings._marked([(0, 1)], minute) == "M0 0H2V100H0Z"
    assert cleanings._marked([(minute - 1, minute)], minute) == "M998 0H1000V100H998Z"
    assert cleanings._marked([(0, STEP), (STEP + 1, 2 * STEP)], minute) == "M0 0H11V100H0Z"
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 100 * minute, 20_000))
    assert len(cleanings._marked([(int(s), int(s) + 50) for s in starts], 100 * minute)) < 15_000


def test_the_same_build_gives_the_same_bytes(whole: Path) -> None:
    before = (whole / "report.html").read_bytes()
    assert write_report(whole).read_bytes() == before


def test_where_much_else_is_pictured_fewer_songs_are(whole: Path) -> None:
    listed = songs.list_songs(Corpus.open(whole), empty_table("tracks"), empty_table("pairs"))
    assert [len(side) for side in songs.ends(listed)] == [2, 1]
    assert [len(side) for side in songs.ends(listed, songs.PICTURED_STEMS - 6)] == [1, 1]
    assert [len(side) for side in songs.ends(listed, 10 * songs.PICTURED_STEMS)] == [1, 1]
