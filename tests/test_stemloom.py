"""The command line: what it says, what it writes, and the code it ends with."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import stemloom
from builders.catalog import CatalogBuilder
from builders.demo.run import DemoResult
from builders.engine import LocalEngine
from builders.recipe import CatalogRecipe
from manifests.corpus import Corpus
from manifests.tables import read_table
from tests.builders.small_build import edit, make_build
from tests.builders.small_catalog import contents, write_file, write_pair
from tests.synthesis import tone

ROOT = Path(__file__).parents[1]
COMMANDS = [[], ["build"], ["build", "catalog"], ["scan"], ["check"], ["report"], ["demo"]]
FAST = ("--jobs", "0", "--min-song-s", "5")


class Terminal:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit code, output, messages."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            stemloom.main([str(word) for word in words])
        said = self.capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    write_pair(folder, 0)
    (folder / "cover.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def built(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build; not to be changed."""
    out = tmp_path_factory.mktemp("built")
    with pytest.raises(SystemExit) as ended:
        stemloom.main(["build", "catalog", str(music), "--out", str(out), *FAST])
    assert ended.value.code == 0
    return out


def recipe_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "recipe.json").read_text())["recipe"])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Terminal, words: list[str]) -> None:
    code, out, err = run(*words, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(" ".join(["Usage: stemloom", *words]))


def test_help_lists_every_command_and_every_field_of_the_recipe(run: Terminal) -> None:
    _, out, _ = run("--help")
    for command in ("build", "scan", "check", "report", "demo"):
        assert f" {command} " in out
    _, out, _ = run("build", "catalog", "--help")
    for field in CatalogRecipe.model_fields:
        assert f"--{field.replace('_', '-')} " in out.replace("\n", " ")


@pytest.mark.parametrize("words", [[], ["build"]], ids=" ".join)
def test_a_group_without_a_command_shows_its_help(run: Terminal, words: list[str]) -> None:
    code, out, _ = run(*words)
    assert code == 0
    assert "Usage: stemloom" in out


def test_the_version_is_told(run: Terminal) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bild"], "bild"),
        (["build", "catalogue", "MUSIC"], "catalogue"),
        (["build", "catalog"], "FOLDER"),
        (["build", "catalog", "MUSIC"], "--out"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-song", "3"], "--max-song-s"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-song-s", "abc"], "max_song_s"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-song-s", "-3"], "max_song_s"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--min-song-s", "none"], "min_song_s"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--method", "magic"], "half-wave"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--format", "csv"], "jsonl"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--engine", "slurm"], "local"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--ray-address", "auto"], "--engine ray"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--engine", "ray", "--jobs", "0"], "jobs is 0"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--jobs", "x"], "--jobs"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--jobs", "-1"], "jobs is -1"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--limit", "0"], "--limit"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-worker-memory", "0.9"], "--max-worker-memory"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-worker-memory", "inf"], "--max-worker-memory"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--max-worker-memory", "nan"], "--max-worker-memory"),
        (["build", "catalog", "MUSIC", "--out", "OUT", "--config"], "--config"),
        (["scan", "MUSIC"], "--out"),
        (["scan", "MUSIC", "--out", "OUT", "--limit", "-2"], "--limit"),
        (["check"], "BUILD"),
        (["report"], "BUILD"),
        (["demo", "--seed", "x"], "--seed"),
    ],
)
def test_bad_usage_ends_with_2_names_the_fault_and_writes_nothing(
    run: Terminal, tmp_path: Path, music: Path, words: list[str], said: str
) -> None:
    places = {"MUSIC": str(music), "OUT": str(tmp_path / "out")}
    code, _, err = run(*(places.get(word, word) for word in words))
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out" / "recipe.json").exists()


def test_a_wrong_value_of_the_recipe_is_told_in_one_line(run: Terminal, music: Path, tmp_path: Path) -> None:
    words = ["--max-song-s", "-3", "--min-votes", "1", "--method", "half-wave"]
    code, out, err = run("build", "catalog", music, "--out", tmp_path / "out", *words)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: field 'max_song_s' is '-3': Input should be greater than 0; correct the value",
        "field 'min_votes' is '1': Input should be greater than or equal to 2; correct the value",
    ]


def test_the_memory_of_a_worker_is_given_in_gb(
    run: Terminal, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[tuple[int, int]] = []
    build = CatalogBuilder.build

    def note(self: CatalogBuilder, folder: Path) -> Corpus:
        assert isinstance(self.engine, LocalEngine)
        assert self.engine.max_memory_bytes is not None
        limits.append((self.engine.max_memory_bytes, self.memory_bytes))
        return build(self, folder)

    monkeypatch.setattr(CatalogBuilder, "build", note)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for words in ([], ["--max-worker-memory", "1.5", "--memory", "2.5"]):
        assert run("build", "catalog", noise, "--out", tmp_path / "out", "--jobs", "0", *words)[0] == 0
    assert limits == [(max(memory, 2_000_000_000), 4_000_000_000), (1_500_000_000, 2_500_000_000)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["build", "catalog", "ABSENT", "--out", "OUT"],
            "is no folder; give the folder that holds the music files",
        ),
        (["build", "catalog", "ABSENT", "--out", "OUT", "--dry-run"], "is no folder"),
        (["scan", "ABSENT", "--out", "OUT"], "is no folder"),
        (["build", "catalog", "MUSIC", "--out", "MUSIC"], "lies in the catalogue"),
        (["build", "catalog", "MUSIC", "--out", "FILE"], "file: is a file; give a folder"),
        (["check", "ABSENT"], "is no folder"),
        (["report", "ABSENT"], "is no folder"),
    ],
)
def test_failure_ends_with_1_and_says_what_to_do(
    run: Terminal, tmp_path: Path, music: Path, words: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    places = {"MUSIC": music, "OUT": tmp_path / "out", "ABSENT": tmp_path / "absent", "FILE": tmp_path / "file"}
    code, out, err = run(*(places.get(word, word) for word in words))
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err


def test_a_build_says_what_it_made_and_is_quiet_otherwise(run: Terminal, music: Path, built: Path) -> None:
    code, out, err = run("build", "catalog", music, "--out", built, *FAST)
    assert (code, err) == (0, "")
    assert str(built) in out
    rows = {cells[0].strip(): cells[1].strip() for line in out.splitlines() if (cells := line.split("│")[1:-1])}
    assert rows["songs"] == "1 (0.00 h)"
    assert rows["rejected: scan"] == "1 not audio"


def test_a_finished_build_checks_and_reports_well(run: Terminal, built: Path) -> None:
    assert run("check", built) == (0, f"{built}: all well\n", "")
    code, out, _ = run("report", built)
    assert code == 0
    assert Path(out.removeprefix("report: ").strip()).is_file()


def test_a_damaged_build_fails_its_check(run: Terminal, music: Path, tmp_path: Path) -> None:
    run("build", "catalog", music, "--out", tmp_path / "out", *FAST)
    (stem,) = (tmp_path / "out").glob("audio/*/vocals.flac")
    stem.write_bytes(stem.read_bytes()[:-100])
    code, out, err = run("check", tmp_path / "out")
    assert (code, out) == (1, "")
    assert str(stem.relative_to(tmp_path / "out")) in err
    assert err.splitlines()[-1].endswith(": 1 problem")


def test_another_recipe_in_the_same_folder_ends_with_1(run: Terminal, music: Path, built: Path) -> None:
    before = contents(built)
    code, _, err = run("build", "catalog", music, "--out", built, *FAST, "--bit-depth", "16", "--min-votes", "3")
    assert code == 1
    assert (
        "built with bit_depth 24, and this is 16; min_votes 2, and this is 3; use the same settings, or another "
        "--out folder"
    ) in err
    assert contents(built) == before


def test_nothing_found_is_no_failure_and_is_said(run: Terminal, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    code, out, _ = run("build", "catalog", tmp_path / "music", "--out", tmp_path / "out", "--jobs", "0")
    assert code == 0
    assert "no pair was found; the reasons are in the pairs and rejected tables" in out


@pytest.mark.parametrize("command", [["build", "catalog"], ["scan"]], ids=" ".join)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    run: Terminal, music: Path, tmp_path: Path, command: list[str]
) -> None:
    code, out, _ = run(*command, music, "--out", tmp_path / "out", "--dry-run")
    assert (code, out) == (0, f"{music}: 2 audio files would be scanned, 1 other entries left out\n")
    code, out, _ = run(*command, music, "--out", tmp_path / "out", "--dry-run", "--limit", "1")
    assert (code, out) == (0, f"{music}: 1 audio files would be scanned, 1 other entries left out\n")
    assert not (tmp_path / "out").exists()


def test_a_scan_lists_tracks_and_their_labels(run: Terminal, music: Path, tmp_path: Path) -> None:
    code, out, err = run("scan", music, "--out", tmp_path, "--jobs", "0", "--format", "jsonl", "--limit", "1")
    assert (code, err) == (0, "")
    assert "labelled instrumental" in out
    assert (tmp_path / "tracks.jsonl").exists()
    assert list(read_table(tmp_path, "tracks")["path"]) == ["Song 0 (Instrumental).flac"]


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A catalogue that is scanned in no time."""
    write_file(tmp_path / "music" / "a.flac", tone(440, 22050, 22050))
    return tmp_path / "music"


def test_every_field_of_the_recipe_can_be_set_by_a_flag_and_by_a_config(
    run: Terminal, noise: Path, tmp_path: Path
) -> None:
    values: dict[str, Any] = {
        "max_duration_difference_s": 3.5,
        "max_song_s": 100.0,
        "min_song_s": 2.5,
        "max_bit_error_rate": 0.3,
        "min_votes": 5,
        "against": "labelled",
        "sample_one_in": 2,
        "min_segment_s": 4.0,
        "method": "half-wave",
        "loudness_lufs": -20.0,
        "audio_format": "wav",
        "bit_depth": 16,
        "max_item_s": 60.0,
    }
    assert values.keys() == CatalogRecipe.model_fields.keys()
    assert not values.items() & CatalogRecipe().model_dump().items()
    config = tmp_path / "recipe.yaml"
    config.write_text("".join(f"{field}: {value}\n" for field, value in values.items()))
    flags = [word for field, value in values.items() for word in (f"--{field.replace('_', '-')}", str(value))]
    for name, words in (("flags", flags), ("config", ["--config", str(config)])):
        code, _, err = run("build", "catalog", noise, "--out", tmp_path / name, "--jobs", "0", *words)
        assert (code, err) == (0, "")
        assert recipe_of(tmp_path / name) == values


@pytest.mark.parametrize("nothing", ["none", "None", "null"])
def test_a_flag_can_be_none(run: Terminal, noise: Path, tmp_path: Path, nothing: str) -> None:
    out = tmp_path / "out"
    code, _, _ = run("build", "catalog", noise, "--out", out, "--jobs", "0", "--max-song-s", nothing)
    assert code == 0
    assert recipe_of(out)["max_song_s"] is None


@pytest.mark.parametrize("form", [["--config", "FILE"], ["--config=FILE"]], ids=" ".join)
def test_a_config_sets_the_recipe_and_flags_beside_it_win(
    run: Terminal, noise: Path, tmp_path: Path, form: list[str]
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("max_song_s: null\nmin_song_s: 7\nmethod: half-wave\nloudness_lufs: -20\n")
    words = [word.replace("FILE", str(config)) for word in form]
    flags = ["--min-song-s", "3", "--loudness-lufs", "none", "--jobs", "0"]
    code, _, err = run("build", "catalog", noise, "--out", tmp_path / "out", *words, *flags)
    assert (code, err) == (0, "")
    expected = CatalogRecipe(max_song_s=None, min_song_s=3.0, method="half-wave")
    assert recipe_of(tmp_path / "out") == expected.model_dump(mode="json")


def test_a_config_is_for_its_own_command_only(run: Terminal, noise: Path, tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("min_song_s: 7\n")
    run("build", "catalog", noise, "--out", tmp_path / "first", "--config", config, "--jobs", "0")
    run("build", "catalog", noise, "--out", tmp_path / "second", "--jobs", "0")
    assert recipe_of(tmp_path / "first")["min_song_s"] == 7.0
    assert recipe_of(tmp_path / "second") == CatalogRecipe().model_dump(mode="json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_sng_s: 3\n", "unknown field 'max_sng_s'; did you mean 'max_song_s'?"),
        ("jobs: 3\n", "unknown field 'jobs'"),
        ("min_song_s: long\n", "field 'min_song_s' is 'long': "),
        ("- a\n", "holds a list, expected 'field: value' lines"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_a_bad_config_ends_with_2_and_names_file_and_field(
    run: Terminal, noise: Path, tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(text)
    code, _, err = run("build", "catalog", noise, "--out", tmp_path / "out", "--config", config)
    assert code == 2
    assert f"error: {config}: {said}" in err
    assert not (tmp_path / "out").exists()


def test_an_absent_config_ends_with_2(run: Terminal, noise: Path, tmp_path: Path) -> None:
    code, _, err = run("build", "catalog", noise, "--out", tmp_path / "out", "--config", tmp_path / "absent.yaml")
    assert code == 2
    assert "absent.yaml: cannot be read" in err


def test_paths_with_brackets_are_not_taken_for_markup(run: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]x[" / "red]"
    folder.mkdir(parents=True)
    code, out, _ = run("build", "catalog", folder, "--out", tmp_path / "[o" / "ut]", "--jobs", "0")
    assert code == 0
    assert f"{tmp_path}/[o/ut]" in out
    code, _, err = run("scan", folder / "[/absent]", "--out", tmp_path / "out")
    assert code == 1
    assert "[bold]x[/red]/[/absent]: is no folder" in err


def test_names_with_colons_are_not_taken_for_emoji(run: Terminal, tmp_path: Path) -> None:
    _, _, err = run("check", tmp_path / "my:car:songs")
    assert "my:car:songs: is no folder" in err


def test_what_would_drive_a_terminal_is_shown(run: Terminal, tmp_path: Path) -> None:
    evil, seen = "\x1b[2J\x1b]0;t\x07\u202eé\x9b", r"\x1b[2J\x1b]0;t\x07\u202eé\x9b"
    build = make_build(tmp_path / "build")
    edit(build, "stems", lambda rows: [row.update(license=evil) for row in rows])
    edit(build, "stems", lambda rows: rows[0].update(stem=evil))
    (build / "audio/song0/mixture.flac").unlink()
    code, out, _ = run("card", build)
    assert (code, seen in out) == (0, True)
    for words in (["check", build], ["check", tmp_path / evil], ["card", tmp_path / evil]):
        code, out, err = run(*words)
        assert (code, out, seen in err) == (1, "", True)
        assert all(c.isprintable() or c == "\n" for c in err)
    handler = stemloom._SafeLog(console=stemloom.errors, show_path=False)
    handler.emit(
        logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": f"{evil}\r\n\tx"})
    )
    told = run.capsys.readouterr().err
    assert rf"{seen}\r" in told
    assert "\x1b" not in told
    assert "x" in told.splitlines()[1]


def test_a_folder_whose_name_is_not_utf8_can_be_named(run: Terminal, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcsic"))
    folder.mkdir()
    code, out, _ = run("scan", folder, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "m\\udcfcsic: 0 audio files" in out
    code, _, err = run("scan", folder / "absent", "--out", tmp_path / "out")
    assert code == 1
    assert "m\\udcfcsic/absent: is no folder" in err


@pytest.mark.parametrize("command", [["build", "catalog"], ["scan"]], ids=" ".join)
def test_ctrl_c_ends_with_130(
    run: Terminal, noise: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: CatalogBuilder, folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CatalogBuilder, command[0], interrupt)
    code, out, err = run(*command, noise, "--out", tmp_path / "out")
    assert (code, out, err) == (130, "", "stopped; the same command resumes\n")


def test_a_bug_is_not_dressed_up_as_a_failure(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: CatalogBuilder, folder: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(CatalogBuilder, "scan", stumble)
    with pytest.raises(ZeroDivisionError):
        stemloom.main(["scan", str(noise), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(("found", "expected"), [(1, 0), (0, 1)])
def test_the_demo_ends_with_1_when_it_misses_its_marks(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, expected: int
) -> None:
    calls: list[dict[str, Any]] = []

    def run_demo(out: Path, **settings: Any) -> DemoResult:
        calls.append({"out": out, **settings})
        return DemoResult(1, found, 0, (0.01,), (0.0,), found, (20.0,), (), out / "report.html")

    trained: list[Path] = []
    monkeypatch.setattr("builders.demo.run_demo", run_demo)
    monkeypatch.setattr("stemloom._train_on_demo", lambda out, jobs: trained.append(out) or 0)
    assert run("demo", "--out", tmp_path, "--no-training")[0] == expected
    assert trained == []
    calls.clear()
    code, out, _ = run("demo", "--out", tmp_path, "--seed", "3", "--jobs", "1")
    assert code == expected
    assert trained == ([tmp_path] if found else [])
    assert f"{found} of 1 planted" in out
    assert str(tmp_path / "report.html") in out
    (call,) = calls
    assert (call["out"], call["seed"], call["jobs"]) == (tmp_path, 3, 1)


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["check", "absent"], 1), (["chek"], 2)])
def test_the_process_ends_with_the_code(tmp_path: Path, words: list[str], code: int) -> None:
    command = [sys.executable, str(ROOT / "stemloom.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
