"""`stemloom import` and `stemloom export`: what they say, what they write, and the code they end with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import stemloom
from builders import exports, imports
from builders.check import check_build
from builders.recipe import ExportRecipe, ImportRecipe
from manifests.audio import write
from manifests.corpus import Corpus
from tests.manifests.exports.small_corpus import RATE, files_of, small_corpus, sounds
from tests.test_stemloom import Terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four songs; not to be changed."""
    return small_corpus(tmp_path_factory.mktemp("corpus")).folder


@pytest.fixture(scope="module")
def musdb(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a folder of songs; not to be changed."""
    out = tmp_path_factory.mktemp("musdb") / "out"
    exports.export_corpus(Corpus.open(corpus), out, ExportRecipe(layout="musdb18"))
    return out


def cells(out: str) -> dict[str, str]:
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.count("│") == 3]
    return {row[0].strip(): row[1].strip() for row in rows}


@pytest.mark.parametrize(("command", "kind"), [("import", ImportRecipe), ("export", ExportRecipe)])
def test_help_lists_every_field_of_the_recipe(run: Terminal, command: str, kind: type[ImportRecipe]) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: stemloom {command} ")
    for field in kind.model_fields:
        assert f"--{field.replace('_', '-')} " in out.replace("\n", " ")
    assert f" {command} " in run("--help")[1]


def test_an_export_says_what_it_wrote(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    code, out, err = run("export", corpus, "--layout", "musdb18", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert str(tmp_path / "out") in out
    assert cells(out) == {"train": "3 songs", "test": "1 songs", "files encoded": "20"}
    assert len(files_of(tmp_path / "out")) == 21


def test_stems_are_grouped_by_flags(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    words = ["--stems.vocals", "vocals", "--stems.other", "bass,drums,other", "--splits", "test"]
    assert run("export", corpus, "--layout", "musdb18", "--out", tmp_path / "out", *words)[0] == 0
    names = {Path(path).name for path in files_of(tmp_path / "out")}
    assert names == {"setup.yaml", "mixture.wav", "other.wav", "vocals.wav"}


def test_an_import_says_what_it_took_and_is_well(run: Terminal, musdb: Path, tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    shutil.copytree(musdb, songs)
    (songs / "test" / "Band 3 - Song 3" / "bass.wav").unlink()
    words = ["import", songs, "--layout", "musdb18", "--out", tmp_path / "out", "--jobs", "0"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert cells(out) == {
        "songs": "3 (0.00 h)",
        "train": "2 songs (0.00 h)",
        "validation": "1 songs (0.00 h)",
        "rejected: find": "1 stem missing",
    }
    assert run("check", tmp_path / "out") == (0, f"{tmp_path / 'out'}: all well\n", "")
    before = (tmp_path / "out" / "stems.parquet").read_bytes()
    assert run(*words)[0] == 0
    assert (tmp_path / "out" / "stems.parquet").read_bytes() == before


def test_tables_and_files_are_as_asked(run: Terminal, musdb: Path, tmp_path: Path) -> None:
    words = ["--format", "jsonl", "--audio", "link", "--license", "CC0", "--jobs", "0"]
    assert run("import", musdb, "--layout", "musdb18", "--out", tmp_path / "out", *words)[0] == 0
    corpus = Corpus.open(tmp_path / "out")
    assert (tmp_path / "out" / "stems.jsonl").exists()
    assert set(corpus.stems["license"]) == {"CC0"}
    assert corpus.path_of(corpus.song(corpus.songs()[0])["bass"]).stat().st_nlink == 2


def test_a_dry_run_writes_nothing(run: Terminal, corpus: Path, musdb: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--layout", "csv", "--splits", "train", "--dry-run"]
    assert run("export", corpus, "--out", out, *words) == (0, f"{corpus}: 2 songs would be exported as csv\n", "")
    code, said, _ = run("import", musdb, "--layout", "folders", "--out", out, "--dry-run")
    assert (code, said) == (0, f"{musdb}: 4 songs would be imported, 0 left out\n")
    assert not out.exists()


@pytest.mark.parametrize("text", ["layout: musdb18\n", ""])
def test_a_file_and_flags_make_one_recipe_and_flags_win(
    run: Terminal, corpus: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "export.yaml"
    config.write_text(
        f"{text}stems:\n  vocals: vocals\n  other: [bass, drums, other]\nsplits: [train, test]\naudio: link\n"
        "silence: true\nleave_out: null\n".replace("leave_out: null\n", "")
    )
    recipes: list[Any] = []
    real = exports.export_corpus

    def note(source: Any, out: Any, recipe: Any, progress: Any) -> Any:
        recipes.append(recipe)
        return real(source, out, recipe, progress)

    monkeypatch.setattr(exports, "export_corpus", note)
    words = ["--config", config, "--audio", "copy", "--no-silence", *(["--layout=musdb18"] if not text else [])]
    assert run("export", corpus, "--out", tmp_path / "out", *words)[::2] == (0, "")
    stems = {"vocals": ("vocals",), "other": ("bass", "drums", "other")}
    assert recipes == [ExportRecipe(layout="musdb18", stems=stems, splits=("train", "test"))]


def test_an_import_is_told_by_a_file(run: Terminal, musdb: Path, tmp_path: Path) -> None:
    config = tmp_path / "import.yaml"
    config.write_text("layout: folders\nstems: [bass, drums, other, vocals]\nlicense: ~\npad: true\n")
    assert run("import", musdb, "--out", tmp_path / "out", "--config", config, "--jobs", "0")[0] == 0
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())["recipe"]
    expected = ImportRecipe(layout="folders", stems=("bass", "drums", "other", "vocals"), pad=True)
    assert recipe == expected.model_dump(mode="json")
    assert check_build(tmp_path / "out") == []


def test_a_library_of_single_sounds_is_counted_by_songs(run: Terminal, tmp_path: Path) -> None:
    for seed, path in enumerate(("speech/train/a.wav", "speech/b.wav", "music/train/c.flac")):
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "in" / path, sounds(seed)["vocals"], RATE)
    (tmp_path / "in.csv").write_text("path,split\nspeech/b.wav,valid\nspeech/gone.wav,test\n")
    words = ["import", tmp_path / "in", "--layout", "loose", "--out", tmp_path / "out", "--jobs", "0"]
    code, out, _ = run(*words, "--metadata", tmp_path / "in.csv", "--stem", "sound")
    assert code == 0
    assert cells(out) == {
        "songs": "3 (0.00 h)",
        "train": "2 songs (0.00 h)",
        "validation": "1 songs (0.00 h)",
        "rejected: find": "1 no file",
    }
    assert set(Corpus.open(tmp_path / "out").stems["stem"]) == {"sound"}
    assert run("check", tmp_path / "out") == (0, f"{tmp_path / 'out'}: all well\n", "")
    curated = tmp_path / "curated"
    code, out, _ = run("curate", tmp_path / "out", "--out", curated, "--clip-s", "0.2", "--jobs", "0")
    assert code == 0
    assert cells(out)["clips"] == "3"
    out = run("curate", tmp_path / "out", "--out", curated, "--clip-s", "2", "--jobs", "0")[1]
    assert cells(out)["clips"] == "0 (3 songs have none)"
    assert run("check", curated)[0] == 0


@pytest.mark.parametrize("command", ["import", "export"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layout: zip\n", "field 'layout' is 'zip': Input should be"),
        ("out: x\n", "unknown field 'out'"),
        ("[]\n", "holds a list, expected"),
        ("audio: copy\n", "field 'layout' is"),
        ("layuot: csv\n", "unknown field 'layuot'; did you mean 'layout'?"),
    ],
)
def test_a_bad_file_ends_with_2_and_names_the_field(
    run: Terminal, tmp_path: Path, command: str, text: str, said: str
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(text)
    code, _, err = run(command, tmp_path, "--out", tmp_path / "out", "--config", config)
    assert code == 2
    assert f"error: {config}: {said}" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "CORPUS", "--out", "OUT"], "--layout"),
        (["export", "CORPUS", "--layout", "csv"], "--out"),
        (["export", "--layout", "csv", "--out", "OUT"], "CORPUS"),
        (["export", "CORPUS", "--layout", "zip", "--out", "OUT"], "huggingface"),
        (["export", "CORPUS", "--layout", "csv", "--out", "OUT", "--dataset-type", "3"], "'dataset_type' is 3"),
        (["export", "CORPUS", "--layout", "msst", "--out", "OUT", "--dataset-type", "9"], "dataset_type"),
        (["export", "CORPUS", "--layout", "csv", "--out", "OUT", "--splits", "trian"], "did you mean 'train'"),
        (["export", "CORPUS", "--layout", "csv", "--out", "OUT", "--splti", "train"], "--splits"),
        (
            ["export", "CORPUS", "--layout", "musdb18", "--out", "OUT", "--stems.other", "a", "--stems.other", "b"],
            "multiple times",
        ),
        (
            ["export", "CORPUS", "--layout", "musdb18", "--out", "OUT", "--stems.vocals", "voice"],
            "no song has a stem",
        ),
        (["import", "MUSDB", "--out", "OUT"], "--layout"),
        (["import", "MUSDB", "--layout", "moisesdb", "--out", "OUT"], "holds no data.json"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "OUT", "--pad"], "'pad' is"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "OUT", "--bleed", "reject"], "'bleed' is 'reject'"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "OUT", "--stem", "speech"], "'stem' is 'speech'"),
        (
            ["import", "MUSDB", "--layout", "loose", "--out", "OUT", "--stem", "mixture"],
            "which is the sum of stems",
        ),
        (["import", "MUSDB", "--layout", "loose", "--out", "OUT", "--metadata", "no.csv"], "there is no such file"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "OUT", "--jobs", "-1"], "jobs is -1"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "OUT", "--config"], "--config"),
    ],
)
def test_bad_usage_ends_with_2_names_the_fault_and_writes_nothing(
    run: Terminal, tmp_path: Path, corpus: Path, musdb: Path, words: list[str], said: str
) -> None:
    places = {"CORPUS": corpus, "MUSDB": musdb, "OUT": tmp_path / "out"}
    code, _, err = run(*(places.get(word, word) for word in words))
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert files_of(tmp_path / "out") in ([], [".lock"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "ABSENT", "--layout", "csv", "--out", "OUT"], "give the folder of a finished build"),
        (["export", "CORPUS", "--layout", "csv", "--out", "CORPUS"], "nothing is overwritten"),
        (
            ["export", "CORPUS", "--layout", "csv", "--out", "FILE"],
            "is a file; choose a folder that is new or empty",
        ),
        (
            ["export", "CORPUS", "--layout", "lhotse", "--cuts", "clips", "--out", "OUT"],
            "clips.parquet: no such table",
        ),
        (["import", "ABSENT", "--layout", "folders", "--out", "OUT"], "is no folder"),
        (["import", "ABSENT", "--layout", "folders", "--out", "OUT", "--dry-run"], "is no folder"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "CORPUS"], "which no import has written"),
        (["import", "MUSDB", "--layout", "musdb18", "--out", "MUSDB"], "which is imported; choose an --out folder"),
    ],
)
def test_failure_ends_with_1_and_says_what_to_do(
    run: Terminal, tmp_path: Path, corpus: Path, musdb: Path, words: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    places = {
        "CORPUS": corpus, "MUSDB": musdb, "OUT": tmp_path / "out", "ABSENT": tmp_path / "absent",
        "FILE": tmp_path / "file",
    }  # fmt: skip
    before = (files_of(corpus), files_of(musdb))
    code, out, err = run(*(places.get(word, word) for word in words))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert (files_of(corpus), files_of(musdb)) == before
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    run: Terminal, corpus: Path, musdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exports, "export_corpus", interrupt)
    monkeypatch.setattr(imports.ImportBuilder, "build", interrupt)
    for command, place, layout, how in (
        ("export", corpus, "csv", "starts anew"),
        ("import", musdb, "folders", "resumes"),
    ):
        words = [command, place, "--layout", layout, "--out", tmp_path / "out"]
        assert run(*words) == (130, "", f"stopped; the same command {how}\n")


def test_the_files_of_other_commands_are_judged_by_their_own_recipe(run: Terminal, tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("max_song_s: 3\n")
    assert stemloom.RECIPES["export"] is ExportRecipe
    folder = tmp_path / "export"
    folder.mkdir()
    words = ["build", "catalog", folder, "--out", tmp_path / "out", "--config", config, "--dry-run"]
    assert run(*words)[0] == 0
    assert "unknown field 'max_song_s'" in run("export", folder, "--out", tmp_path / "out", "--config", config)[2]
