"""The dataset card and the Croissant metadata, read by the Hub's library, by datasets and by mlcroissant."""

from __future__ import annotations

import datetime
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import stemloom
from builders.card import CARD, CROISSANT, cell, write_card
from builders.clean import CleanBuilder
from builders.recipe import CardRecipe
from manifests.errors import BuildError
from manifests.tables import TableFormat
from tests.builders.small_build import edit, make_build
from tests.builders.small_corpora import write_corpus
from tests.builders.small_curated import make_curated
from tests.builders.test_anchors import library, mine, sound
from tests.builders.test_clean import clean, music, sides, song, with_voice

HOSTILE = "\"'></b>|<script>alert(1)</script>\n# [x](javascript:alert(2)) ![](https://tracker.example) `---`"


def head(readme: Path) -> dict[str, Any]:
    """The YAML header."""
    found = re.match(r"---\n(.*?)---\n", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return dict(yaml.safe_load(found[1]))


def license_all(build: Path, text: str | None) -> None:
    edit(build, "stems", lambda rows: [row.update(license=text) for row in rows])


def test_the_card_says_what_the_tables_say(tmp_path: Path) -> None:
    card = write_card(make_curated(tmp_path / "set"))
    text = card.readme.read_text(encoding="utf-8")
    assert "# set\n" in text
    assert "| songs | 4 |" in text
    assert "| stems | mixture, instrumental, vocals |" in text
    assert "| validation | 1 | 0.25 | 1 |" in text
    assert "| C | 1 | 0.00 | 1 × residue of … dB; 1 × voice in the instrumental in … of … s |" in text
    assert "| rock | 1.00 | 50.0 % | 50.0 % |" in text
    assert "| grade | grade D | 1 |" in text
    assert "| gate | 5 | 4 |" in text
    assert "[CC\\-BY" not in text
    assert "[CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/) | derived | 2 |" in text
    assert "pretet2019singing" in text
    assert "`clips.parquet`" in text


def test_a_cleaned_corpus_says_which_stems_by_which_separator_and_where_what_was_removed_is(
    tmp_path: Path,
) -> None:
    songs = [("pure", song(music(0))), ("tainted", song(with_voice(music(1), 3, 6, level=0.005)))]
    source = write_corpus(tmp_path / "corpus", songs)
    CleanBuilder(tmp_path / "clean", *clean(sides())).build(source.folder)
    text = write_card(tmp_path / "clean").readme.read_text(encoding="utf-8")
    assert "took voices out of the stems music of a corpus, as the separator sides heard them." in text
    assert "with voices taken out of those that should have none." in text
    assert "| `cleaned.parquet` | a row for each stem that was searched for voices" in text
    assert "| `removed/*` | what was taken out of each stem" in text


def test_a_corpus_of_anchors_says_what_its_clips_are_and_by_which_tagger(tmp_path: Path) -> None:
    source = library(tmp_path / "corpus", {"one": (sound({"High tone": (2.0, 4.0)}), "High tone")})
    text = write_card(mine(source, tmp_path / "anchors").folder).readme.read_text(encoding="utf-8")
    assert "their labels are heard, by the tagger bands: each clip is such a place, an anchor." in text
    assert "Sounds for training audio source separation, and where in each its label is heard." in text
    assert "removed" not in text
    assert "cleaned" not in text


def test_songs_without_a_licence_are_said_first(tmp_path: Path) -> None:
    build = make_curated(tmp_path)
    card = write_card(build)
    assert (card.songs, card.unlicensed) == (4, 1)
    text = card.readme.read_text(encoding="utf-8")
    assert text.index("**1 of 4 songs have no licence: you may not redistribute them**") < text.index("| songs |")
    assert "| **unknown** | derived | 1 |" in text
    assert head(card.readme)["license"] == "unknown"
    assert "license" not in json.loads(card.croissant.read_text())
    license_all(build, "CC-BY-4.0")
    card = write_card(build)
    assert card.unlicensed == 0
    assert "no licence" not in card.readme.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "hub", "warning"),
    [
        ("CC BY-NC-SA 3.0", {"license": "cc-by-nc-sa-3.0"}, "NonCommercial"),
        ("CC BY-ND 4.0", {"license": "cc-by-nd-4.0"}, "NoDerivatives"),
        ("© me", {"license": "other", "license_name": "see-licences-below"}, "may not be redistributed"),
        ("CC BY", {"license": "cc"}, ""),
        (None, {"license": "unknown"}, "no licence"),
    ],
)
def test_the_hub_reads_the_licence_and_people_its_limits(
    tmp_path: Path, text: str | None, hub: dict[str, str], warning: str
) -> None:
    build = make_build(tmp_path)
    license_all(build, text)
    card = write_card(build)
    assert {key: value for key, value in head(card.readme).items() if key.startswith("license")} == hub
    assert warning in card.readme.read_text(encoding="utf-8")


def test_several_licences_are_all_in_the_header(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    edit(
        build,
        "stems",
        lambda rows: [row.update(license="MIT" if row["song_id"] == "song0" else "CC0") for row in rows],
    )
    assert head(write_card(build).readme)["license"] == ["cc0-1.0", "mit"]


def test_what_only_the_publisher_knows_is_asked_for_and_used(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    assert write_card(build).missing == ("url", "creator", "version", "date")
    date = datetime.date(2025, 12, 31)
    recipe = CardRecipe(title="A: <set>", url="https://example.org/a", creator="Us", version="1.0.0", date=date)
    card = write_card(build, recipe)
    assert card.missing == ()
    assert head(card.readme)["pretty_name"] == "A: <set>"
    found = json.loads(card.croissant.read_text())
    assert (found["name"], found["datePublished"], found["version"]) == ("A: <set>", "2025-12-31", "1.0.0")
    assert found["creator"]["name"] == "Us"


@pytest.mark.parametrize(
    "fields", [{"url": "ftp://x"}, {"url": "example.org"}, {"version": "1"}, {"title": ""}, {"date": "31.12.2025"}]
)
def test_wrong_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        CardRecipe(**fields)


def test_texts_from_tags_are_texts_in_the_card(tmp_path: Path) -> None:
    build = make_curated(tmp_path / "<b>[x](y)")
    reasons = json.dumps([HOSTILE])
    told = {"genre": HOSTILE, "split": HOSTILE, "license": HOSTILE, "artist": HOSTILE, "reasons": reasons}
    edit(build, "stems", lambda rows: [row.update(told) for row in rows])
    edit(build, "stems", lambda rows: [row.update(stem=f"{row['stem']} {HOSTILE}") for row in rows])
    edit(build, "rejected", lambda rows: rows[0].update(stage=HOSTILE, reason=HOSTILE, path=HOSTILE))
    run = json.loads((build / "run.json").read_text())
    run.update(
        builder=HOSTILE,
        versions={"stemloom": HOSTILE},
        splits={},
        grades={HOSTILE: 1},
        counts={HOSTILE: {"in": 1, "kept": 1}},
        genres={"before": {HOSTILE: 1}, "after": {HOSTILE: 1}, "reference": None},
    )
    (build / "run.json").write_text(json.dumps(run))
    card = write_card(build, CardRecipe(title=HOSTILE))
    text = card.readme.read_text(encoding="utf-8")
    body = text[text.index("\n---\n", 4) :]
    assert head(card.readme)["pretty_name"] == HOSTILE
    unescaped = re.sub(r"\\.", "", body)
    assert "<script" not in unescaped
    assert "](javascript" not in unescaped
    assert "](https://tracker" not in unescaped
    assert "https://tracker" not in body
    assert "\n# \\[x" not in body
    rows = [line for line in unescaped.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    json.loads(card.croissant.read_text(encoding="utf-8"))


def test_a_cell_is_one_line_without_markup() -> None:
    assert cell("a|b\nc") == "a\\|b c"
    assert cell("x_y *z* <b> [l](u) `c`") == "x\\_y \\*z\\* \\<b\\> \\[l\\](u) \\`c\\`"
    assert cell("https://a.b www.c.d") == "https\\://a.b www\\.c.d"
    assert cell("\udcff") == "\\\\udcff"


def test_the_same_build_gives_the_same_files(tmp_path: Path) -> None:
    build = make_curated(tmp_path)
    first = [path.read_bytes() for path in (write_card(build).readme, write_card(build).croissant)]
    card = write_card(build)
    assert [card.readme.read_bytes(), card.croissant.read_bytes()] == first


@pytest.mark.parametrize("name", [CARD, CROISSANT])
@pytest.mark.parametrize("change", ["foreign", "edited", "binary"])
def test_a_file_of_a_person_is_not_overwritten(tmp_path: Path, name: str, change: str) -> None:
    build = make_build(tmp_path)
    if change == "edited":
        write_card(build)
        text = (build / name).read_text(encoding="utf-8")
        (build / name).write_text(text.replace("training", "teaching"), encoding="utf-8")
    else:
        (build / name).write_bytes(b"\xff\xfe" if change == "binary" else b"# Mine\n")
    before = {path.name: path.read_bytes() for path in build.iterdir() if path.is_file()}
    with pytest.raises(BuildError, match=rf"{re.escape(name)}: was changed by hand, or is not of 'stemloom card'"):
        write_card(build)
    assert {path.name: path.read_bytes() for path in build.iterdir() if path.is_file()} == before


def test_a_card_of_a_changed_build_is_written_again(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    write_card(build)
    license_all(build, "CC0")
    assert head(write_card(build).readme)["license"] == "cc0-1.0"


def test_an_unfinished_build_has_no_card(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(BuildError, match="its build has not finished"):
        write_card(tmp_path)
    with pytest.raises(BuildError, match="is no folder"):
        write_card(tmp_path / "nowhere")


def test_an_empty_build_has_a_card(tmp_path: Path) -> None:
    build = make_build(tmp_path, songs=0)
    card = write_card(build)
    assert (card.songs, card.unlicensed) == (0, 0)
    assert "| songs | 0 |" in card.readme.read_text(encoding="utf-8")


def test_the_command_lists_licences_and_shouts_about_those_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = make_curated(tmp_path / "set")
    settings = tmp_path / "card.yaml"
    settings.write_text("title: The set\ndate: 2025-12-31\n")
    with pytest.raises(SystemExit) as ended:
        stemloom.main(["card", str(build), "--config", str(settings), "--url", "https://example.org/a"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert "1 of 4 songs have no licence: you may not redistribute them" in said.err
    assert "CC-BY-4.0" in said.out
    assert "before you publish it: --creator, --version" in said.out
    assert head(build / CARD)["pretty_name"] == "The set"
    (build / CARD).write_text("mine")
    with pytest.raises(SystemExit) as ended:
        stemloom.main(["card", str(build)])
    assert ended.value.code == 1
    assert "is not overwritten" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        stemloom.main(["card", str(build), "--url", "example.org"])
    assert ended.value.code == 2
    assert "field 'url' is 'example.org'" in capsys.readouterr().err


def test_the_library_of_the_hub_reads_the_header(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = write_card(make_curated(tmp_path), CardRecipe(title="The set"))
    read = hub.DatasetCard.load(card.readme)
    assert read.data.pretty_name == "The set"
    assert read.data.task_categories == ["audio-to-audio"]
    assert read.data.size_categories == ["n<1K"]
    assert read.data.license == "unknown"
    assert read.text.startswith("\n# The set")


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_datasets_loads_the_tables_by_the_header(
    tmp_path: Path, format: TableFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    build = make_curated(tmp_path / "set", format=format)
    write_card(build)
    assert datasets.get_dataset_config_names(str(build)) == ["stems", "clips", "tracks", "pairs"]
    stems = datasets.load_dataset(str(build), "stems", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(stems) == 12
    assert stems[0]["path"] == "audio/song0/mixture.flac"
    assert (build / stems[0]["path"]).is_file()
    clips = datasets.load_dataset(str(build), "clips", split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["clip_id"] for row in clips] == [f"song{number}-0" for number in range(4)]


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_croissant_is_valid_and_its_records_are_the_rows(
    tmp_path: Path, format: TableFormat, caplog: pytest.LogCaptureFixture
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    build = make_curated(tmp_path, format=format)
    license_all(build, "CC-BY-4.0")
    recipe = CardRecipe(
        url="https://example.org/a", creator="Us", version="1.0.0", date=datetime.date(2025, 12, 31)
    )
    card = write_card(build, recipe)
    with caplog.at_level(logging.WARNING):
        dataset = mlcroissant.Dataset(jsonld=card.croissant)
    assert caplog.records == []
    assert dataset.metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    assert "pretet2019singing" in dataset.metadata.cite_as
    rows = list(dataset.records("stems"))
    assert len(rows) == 12
    assert as_text(rows[0]["stems/path"]) == "audio/song0/mixture.flac"
    assert as_text(rows[11]["stems/grade"]) == "C"
    assert rows[0]["stems/num_frames"] == 11025
    assert [row["clips/voiced_fraction"] for row in dataset.records("clips")] == [0, 0.25, 0.5, 0.75]
    (audio,) = [found for found in dataset.metadata.file_sets if found.id == "audio-files"]
    assert audio.includes == ["audio/**/*.flac"]


def as_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
