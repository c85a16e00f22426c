"""The page about a set of mixtures: what came out beside what the recipe says, in the words of mixtures."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from augment.recipe import MixRecipe, load_mix, mix_names
from builders.report import charts, mixtures, write_report
from manifests.corpus import Corpus
from tests.builders.report.test_page import HOSTILE, Page, headers
from tests.builders.small_mixtures import build_mixtures, mix_recipe, run_of, sound_corpus, split_corpus

SOURCES: dict[str, Any] = {
    "speech": {"stems": "speech", "lufs": [-32, -28]},
    "music": {"stems": "music", "count": [0, 2], "gain_db": [-10, 0]},
    "effects": {"stems": "effects", "place": "scatter", "length_s": [0.1, 0.4], "count": 2},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    mix = mix_recipe(sources=SOURCES, about="Small & <plain>")
    corpora = split_corpus(folder / "sounds").folder
    build = build_mixtures(folder / "set", corpora, mix, kind="cinematic", splits={"train": 4, "test": 2}).folder
    write_report(build)
    return build


@pytest.fixture
def build(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set to change, its page without charts, which take most of the time."""
    monkeypatch.setattr(charts, "_drawn", lambda *args, **kwargs: "")
    return Path(shutil.copytree(whole, tmp_path / "set"))


def change_run(build: Path, **fields: Any) -> None:
    (build / "run.json").write_text(json.dumps(run_of(build) | fields))


def test_the_page_speaks_of_mixtures(whole: Path) -> None:
    page = Page(whole / "report.html")
    words = " ".join(page.text.split())
    assert f"set of cinematic mixtures of {whole.parent / 'sounds'}" in words
    tiles = page.tiles()
    assert tiles["Mixtures"] == ("6", "of 6 that were drawn")
    assert tiles["Hours"] == ("0.00", "of mixtures")
    assert "Songs" not in tiles
    for absent in ("Residual", "Best", "Worst", "unknown artist", "All songs", "Artists"):
        assert absent not in words
    assert page.row("Mixture")[:2] == ["Mixture", "Split"]
    assert page.row("train")[:2] == ["train", "4"]
    assert sorted(headers(page)) == Corpus.open(whole).songs()
    assert {str(link["href"]) for link in page.all("a")} >= {"#sources", "#splits", "#recipe"}
    assert 'id="sources"' in page.source


def test_sources_stand_beside_what_is_nominal(whole: Path) -> None:
    page = Page(whole / "report.html")
    facts = run_of(whole)["realised"]["sources"]
    by_source = {row[0]: row for row in page.rows if len(row) == 6}
    speech, music = by_source["speech"], by_source["music"]
    assert speech[1:3] == ["1.00", "1.00"]
    assert speech[3] == "−30.0 ± 1.2"  # uniform over 4 dB
    level = facts["speech"]["loudness_lufs"]
    assert speech[4] == f"{level['mean']:.1f} ± {level['std']:.1f}".replace("-", "−")
    assert speech[5] == "0.5 s"
    assert music[1:3] == ["1.00", f"{facts['music']['count']['mean']:.2f}"]
    assert music[3] == "–"


def test_counts_are_drawn(whole: Path) -> None:
    source = (whole / "report.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    found = re.findall(r"<figure>\s*<figcaption><b>(.*?)</b>(.*?)<figcaption>(.*?)</figcaption>", source, re.DOTALL)
    drawn = {title: (rest, summary) for title, rest, summary in found}
    assert drawn["effects"][1] == "mean 2.00, nominal 2.00"
    assert 'aria-label="Histogram: effects in a mixture"' in drawn["effects"][0]
    assert list(drawn) == ["speech", "music", "effects", "Duration, s", "Loudness, LUFS", "RMS, dB"]


def test_shares_of_the_time_are_told(whole: Path) -> None:
    page = Page(whole / "report.html")
    facts = run_of(whole)["realised"]
    rows = {row[0]: row[1] for row in page.rows if len(row) == 3 and row[1].endswith(" %")}
    wanted = {**facts["targets"], **facts["overlaps"]}
    assert rows == {name: f"{100 * share:.1f} %" for name, share in wanted.items()}
    assert rows["speech"] == "100.0 %"
    assert {"speech and music", "effects, several"} <= rows.keys()


def test_what_could_not_be_drawn_from_is_told(whole: Path) -> None:
    page = Page(whole / "report.html")
    assert ["music (train)", "split is none of train", "2"] in page.rows
    assert ["music (test)", "split is none of test", "3"] in page.rows


def test_what_was_drawn_again_is_told(build: Path) -> None:
    assert "Drawn again" not in Page(build / "report.html").tiles()
    change_run(build, replaced=3)
    assert Page(write_report(build)).tiles()["Drawn again"] == ("3", "times: files could not be read")


def test_the_mixing_recipe_is_yaml_that_a_person_would_write(whole: Path) -> None:
    page = Page(whole / "report.html")
    text = mixtures.recipe_text(run_of(whole))
    assert text in page.text
    assert MixRecipe.model_validate(yaml.safe_load(text)) == mix_recipe(sources=SOURCES, about="Small & <plain>")
    assert "  effects:\n    stems: [effects]\n    count: 2.0\n    place: scatter\n" in text
    assert "null" not in text
    assert page.row("splits") == ["splits", "train: 4, test: 2"]
    assert page.row("seed") == ["seed", "0"]
    assert not {row[0] for row in page.rows if row} & {"mix", "corpora"}
    assert "{'" not in page.text


@pytest.mark.parametrize("name", mix_names())
def test_ready_recipes_are_told_as_they_are(name: str) -> None:
    mix = load_mix(name)
    run = {"builder": "universal", "recipe": {"mix": mix.model_dump(mode="json")}}
    assert MixRecipe.model_validate(yaml.safe_load(mixtures.recipe_text(run))) == mix


@pytest.mark.parametrize(
    "wrong", [None, [], "x", {"sources": None}, {"sources": {"speech": 3}, "targets": {"a": "x"}}]
)
def test_a_record_that_is_not_what_it_should_be_has_no_section(build: Path, wrong: Any) -> None:
    change_run(build, realised=wrong, left_out=wrong, corpora=wrong)
    page = Page(write_report(build))
    assert 'id="sources"' not in page.source
    assert page.tiles()["Mixtures"][0] == "6"


def test_a_recipe_of_another_version_is_shown_as_it_is(build: Path) -> None:
    recipe = run_of(build)["recipe"]
    recipe["mix"] = {"sources": {"a": {"older": 1}}}
    change_run(build, recipe=recipe)
    assert "sources:\n  a: {older: 1}\n" in Page(write_report(build)).text


def test_names_of_strangers_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = sound_corpus(tmp_path / "sounds", {"speech": 2}).folder
    sources = {"speech": {"stems": "speech", "weights": {"genre": {HOSTILE: 2.0}}}}
    build = build_mixtures(tmp_path / "set", corpora, mix_recipe(sources=sources, about=HOSTILE), num=1).folder
    page = Page(write_report(build))
    assert page.all("script") == []
    assert "onerror" in page.text
    assert all("onerror" not in image for image in page.all("img"))


def test_the_same_set_gives_the_same_bytes(whole: Path) -> None:
    before = (whole / "report.html").read_bytes()
    assert write_report(whole).read_bytes() == before


def test_whole_numbers_have_a_bar_each() -> None:
    assert charts.wholes({}, "x") == charts.wholes({0: 0}, "x") == ""
    few = charts.wholes({0: 3, 1: 1, 3: 2}, "x")
    many = charts.wholes(dict.fromkeys(range(1000), 1), "x")
    bars = [len(re.findall(r"var\(--chosen\)", svg)) for svg in (few, many)]
    assert bars == [4, 40]
