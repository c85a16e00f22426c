"""`stemloom build cinematic|universal` and `listen`: what they say, what they write, and the code they end with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import stemloom
from augment.recipe import mix_names
from builders import mixtures
from builders.recipe import MixtureRecipe
from manifests.corpus import Corpus
from manifests.tables import read_table
from tests.builders.small_mixtures import sound_corpus, split_corpus
from tests.test_stemloom import Terminal

MIX = """
sample_rate: 8000
length_s: 0.5
sources:
  speech: {stems: speech, lufs: -30}
  music: {stems: music, count: [0, 2]}
  effects: {stems: effects, gain_db: [-10, 0]}
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sounds of each kind; not to be changed."""
    return sound_corpus(tmp_path_factory.mktemp("corpora") / "sounds").folder


@pytest.fixture(scope="module")
def split_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds of the splits train and test; not to be changed."""
    return split_corpus(tmp_path_factory.mktemp("corpora") / "split").folder


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    path = tmp_path / "mix.yaml"
    path.write_text(MIX)
    return path


def cells(out: str) -> list[tuple[str, str]]:
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.count("│") == 3]
    return [(row[0].strip(), row[1].strip()) for row in rows]


@pytest.mark.parametrize("kind", ["cinematic", "universal"])
def test_help_lists_every_field_of_the_recipe(run: Terminal, kind: str) -> None:
    code, out, err = run("build", kind, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: stemloom build {kind} ")
    for field in MixtureRecipe.model_fields:
        assert f"--{field.replace('_', '-')}" in out
    assert f" {kind} " in run("build", "--help")[1]


@pytest.mark.parametrize("kind", ["cinematic", "universal"])
def test_a_set_says_how_it_came_out(run: Terminal, sounds: Path, mix: Path, tmp_path: Path, kind: str) -> None:
    words = ["build", kind, mix, "--from", sounds, "--out", tmp_path / "set", "--num", "4", "--jobs", "0"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    said = " ".join(" ".join(word for row in cells(out) for word in row).split())  # rows that a terminal breaks
    assert said.startswith("mixtures 4 (0.00 h) source speech ")
    assert "source speech 1.00 in a mixture (nominal 1.00), -30.0 LUFS (nominal -30.0) source music " in said
    assert re.search(r"source effects 1\.00 in a mixture \(nominal 1\.00\), -\d\d\.\d LUFS target speech ", said)
    assert "target speech sounds for 100 % of the time" in said
    assert json.loads((tmp_path / "set" / "run.json").read_text())["builder"] == kind
    assert run("check", tmp_path / "set")[0] == 0
    assert run(*words)[0] == 0


def test_corpora_are_listed_by_one_flag_or_several(
    run: Terminal, sounds: Path, split_sounds: Path, mix: Path, tmp_path: Path
) -> None:
    flags = ["--num", "2", "--jobs", "0", "--no-jams"]
    one = run("build", "universal", mix, "--from", sounds, split_sounds, "--out", tmp_path / "one", *flags)
    two = run(
        "build", "universal", mix, "--from", split_sounds, "--from", sounds, "--out", tmp_path / "two", *flags
    )
    assert (one[0], two[0]) == (0, 0)
    recipes = [json.loads((tmp_path / name / "recipe.json").read_text())["recipe"] for name in ("one", "two")]
    assert recipes[0] == recipes[1]
    assert set(recipes[0]["corpora"]) == {"sounds", "split"}


def test_splits_by_flags(run: Terminal, split_sounds: Path, mix: Path, tmp_path: Path) -> None:
    words = ["build", "universal", mix, "--from", split_sounds, "--out", tmp_path / "set", "--jobs", "0"]
    code, out, err = run(*words, "--splits.train", "3", "--splits.test", "2")
    assert (code, err) == (0, "")
    said = dict(cells(out))
    assert (said["train"], said["test"]) == ("3 mixtures (0.00 h)", "2 mixtures (0.00 h)")
    assert said["left out: train music"] == "2 split is none of train"
    assert said["left out: test music"] == "3 split is none of test"
    table = read_table(tmp_path / "set", "mixtures")
    assert set(table["split"]) == {"train", "test"}


def test_a_file_says_how_and_flags_win(run: Terminal, split_sounds: Path, mix: Path, tmp_path: Path) -> None:
    config = tmp_path / "set.yaml"
    config.write_text("splits: {train: 2}\njams: false\naudio_format: wav\nbit_depth: 16\nseed: 3\n")
    words = ["build", "universal", mix, "--from", split_sounds, "--out", tmp_path / "set", "--jobs", "0"]
    assert run(*words, "--config", config, "--seed", "4")[0] == 0
    corpus = Corpus.open(tmp_path / "set")
    assert corpus.songs() == ["4-0000-00000000", "4-0000-00000001"]
    assert set(corpus.stems["split"]) == {"train"}
    assert not (tmp_path / "set" / "annotations").exists()
    assert all(path.endswith(".wav") for path in corpus.stems["path"])
    recipe = json.loads((tmp_path / "set" / "recipe.json").read_text())["recipe"]
    assert (recipe["bit_depth"], recipe["audio_format"]) == (16, "wav")


def test_tables_as_lines_of_json(run: Terminal, sounds: Path, mix: Path, tmp_path: Path) -> None:
    flags = ["--num", "1", "--jobs", "0", "--format", "jsonl"]
    assert run("build", "universal", mix, "--from", sounds, "--out", tmp_path / "set", *flags)[0] == 0
    assert (tmp_path / "set" / "mixtures.jsonl").is_file()


def test_a_dry_run_says_what_could_be_drawn_and_writes_nothing(
    run: Terminal, split_sounds: Path, mix: Path, tmp_path: Path
) -> None:
    words = ["build", "cinematic", mix, "--from", split_sounds, "--out", tmp_path / "set", "--dry-run"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert cells(out) == [(name, "5 places in 5 songs") for name in ("speech", "music", "effects")]
    code, out, _ = run(*words, "--splits.test", "1")
    assert cells(out) == [
        row
        for name in ("speech", "music", "effects")
        for row in [
            (f"test {name}", "2 places in 2 songs"),
            (f"left out: test {name}", "3 split is none of test"),
        ]
    ]
    assert not (tmp_path / "set").exists()


def test_what_was_left_out_and_drawn_again_is_told(run: Terminal, mix: Path, tmp_path: Path) -> None:
    sounds = sound_corpus(tmp_path / "sounds").folder
    (sounds / "audio/speech1/speech.flac").unlink()
    words = ["build", "universal", mix, "--from", sounds, "--num", "6", "--jobs", "0", "--out"]
    code, out, _ = run(*words, tmp_path / "replaced")
    assert code == 0
    again = dict(cells(out))["drawn again"].split()[0]
    code, out, _ = run(*words, tmp_path / "rejected", "--on-error", "reject")
    assert code == 0
    rejected = dict(cells(out))["rejected: render"]
    assert rejected.endswith(" unreadable")
    assert 0 < int(rejected.split()[0]) <= int(again)


@pytest.mark.parametrize("command", [("build", "universal"), ("listen",)])
def test_an_out_that_is_a_file_is_told(
    run: Terminal, sounds: Path, mix: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "taken").write_text("mine")
    code, _, err = run(*command, mix, "--from", sounds, "--out", tmp_path / "taken", "--jobs", "0")
    assert code == 1
    assert f"{tmp_path / 'taken'}: is a file; give a folder" in " ".join(err.split())
    assert (tmp_path / "taken").read_text() == "mine"


def test_examples_say_where_their_page_is(run: Terminal, sounds: Path, mix: Path, tmp_path: Path) -> None:
    words = ["listen", mix, "--from", sounds, "--out", tmp_path / "page", "-n", "2", "--seed", "1", "--jobs", "0"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out == f"examples: {tmp_path / 'page' / 'listen.html'}\n"
    assert Corpus.open(tmp_path / "page").songs() == ["1-0000-00000000", "1-0000-00000001"]
    assert str(mix) in (tmp_path / "page" / "listen.html").read_text()
    code, _, err = run(*words, "--split", "train")
    assert code == 2
    assert "split" in err


def test_ready_recipes_go_by_their_names(run: Terminal, split_sounds: Path, tmp_path: Path) -> None:
    assert "fuss" in mix_names()
    code, out, _ = run("build", "universal", "fuss", "--from", split_sounds, "--out", tmp_path, "--dry-run")
    assert code == 2  # its background lasts two seconds, and these sounds are shorter
    code, out, _ = run("build", "cinematic", "dnr-v2", "--from", split_sounds, "--out", tmp_path, "--dry-run")
    assert code == 0
    assert [name for name, _ in cells(out)] == ["speech", "music", "foreground", "background"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["build", "cinematic", "dnr-v22", "--from", "SOUNDS"],
            2,
            "no ready recipe 'dnr-v22' (did you mean 'dnr-v2'?)",
        ),
        (["build", "universal", "none.yaml", "--from", "SOUNDS"], 2, "none.yaml"),
        (["listen", "fusss", "--from", "SOUNDS"], 2, "(did you mean 'fuss'?)"),
        (["build", "universal", "MIX"], 2, "--from"),
        (["build", "universal", "MIX", "--from"], 2, "--from"),
        (["listen", "MIX"], 2, "--from"),
        (["build", "universal", "MIX", "--from", "nowhere"], 1, "nowhere"),
        (["listen", "MIX", "--from", "nowhere"], 1, "nowhere"),
        (["build", "cinematic", "OTHER", "--from", "SOUNDS"], 2, "use 'stemloom build universal'"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--num", "0"], 2, "num"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--splits.train", "0"], 2, "splits"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--splits.train", "3"], 2, "split"),
        (
            ["build", "universal", "MIX", "--from", "SOUNDS", "--num", "7", "--splits.train", "3"],
            2,
            "field 'num' is 7, and 'splits' says how many",
        ),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--seed", f"{2**63}"], 2, "seed"),
        (["listen", "MIX", "--from", "SOUNDS", "--seed", f"{2**63}"], 2, "seed"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--bit-depth", "20"], 2, "bit_depth"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--jobs", "-1"], 2, "jobs is -1"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--mix", "{}"], 2, "--mix"),
        (["listen", "MIX", "--from", "SOUNDS", "-n", "0"], 2, "-n"),
        (["build", "universal", "MIX", "--from", "SOUNDS", "--config", "CONFIG"], 2, "numb"),
    ],
)
def test_wrong_usage_is_told(
    run: Terminal, sounds: Path, mix: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(MIX.replace("  music:", "  vocals:"))
    config = tmp_path / "config.yaml"
    config.write_text("numb: 3\n")
    named = {"SOUNDS": sounds, "MIX": mix, "OTHER": other, "CONFIG": config}
    found, _, err = run(*(named.get(word, word) for word in words), "--out", tmp_path / "out")
    assert found == code
    assert said in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder_fail(run: Terminal, sounds: Path, mix: Path, tmp_path: Path) -> None:
    words = ["build", "universal", mix, "--from", sounds, "--out", tmp_path / "set", "--jobs", "0", "--num", "1"]
    assert run(*words)[0] == 0
    code, _, err = run(*words, "--seed", "1")
    assert code == 1
    assert "was built with seed 0, and this is 1" in err
    mix.write_text(MIX.replace("length_s: 0.5", "length_s: 0.4"))
    code, _, err = run(*words)
    assert code == 1
    assert "was built with mix.length_s 0.5, and this is 0.4;" in err


def test_a_stopped_build_says_that_the_same_command_resumes(
    run: Terminal, sounds: Path, mix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mixtures, "_written", stop)
    words = ["build", "universal", mix, "--from", sounds, "--out", tmp_path / "set", "--jobs", "0", "--num", "1"]
    code, _, err = run(*words)
    assert (code, err) == (130, "stopped; the same command resumes\n")
    monkeypatch.undo()
    assert run(*words)[0] == 0


def test_what_the_commands_say_is_what_the_module_says() -> None:
    for command in ("build cinematic", "build universal", "listen"):
        assert f"stemloom {command} " in (stemloom.__doc__ or "")
