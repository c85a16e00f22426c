"""`stemloom pack`: what it says, what it writes, and the code it ends with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import pack
from builders.recipe import PackRecipe
from manifests.audio import quantise, read
from manifests.packed import PackedReader, read_index
from tests.manifests.exports.small_corpus import files_of, small_corpus
from tests.test_stemloom import Terminal


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four songs of five stems of 2 channels of 2000 frames."""
    return small_corpus(tmp_path / "corpus").folder


def cells(out: str) -> dict[str, str]:
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.count("│") == 3]
    return {row[0].strip(): row[1].strip() for row in rows}


def test_help_lists_every_field_of_the_recipe(run: Terminal) -> None:
    code, out, err = run("pack", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: stemloom pack ")
    for field in PackRecipe.model_fields:
        assert f"--{field.replace('_', '-')} " in out.replace("\n", " ")
    assert " pack " in run("--help")[1]


def test_a_packing_says_what_it_wrote(run: Terminal, corpus: Path) -> None:
    code, out, err = run("pack", corpus, "--jobs", "0")
    assert (code, err) == (0, "")
    assert str(corpus / "packed") in out
    assert cells(out) == {"stems": "20 (0.00 h)", "samples": "float32, 0.00 GB"}
    path = "audio/s0/vocals.flac"
    assert np.array_equal(PackedReader(corpus).read(".", path, 0, 2000), read(corpus / path)[0])


def test_flags_say_how(run: Terminal, corpus: Path) -> None:
    flags = ["--stems", "vocals,bass", "--splits", "train,test", "--sample-format", "int16", "--channels", "1"]
    code, _, _ = run("pack", corpus, "--jobs", "0", "--sample-rate", "16000", *flags)
    assert code == 0
    index = read_index(corpus)
    assert sorted(index["song_id"] + index["stem"]) == ["s1bass", "s1vocals", "s3bass", "s3vocals"]
    assert {(row.sample_format, row.channels, row.num_frames) for row in index.itertuples()} == {("int16", 1, 4000)}


def test_a_file_says_how_and_flags_win(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "pack.yaml"
    config.write_text("sample_format: int16\nstems: [vocals, bass]\nchannels: 1\n")
    assert run("pack", corpus, "--jobs", "0", "--config", config, "--channels", "none")[0] == 0
    index = read_index(corpus)
    assert (set(index["stem"]), set(index["channels"])) == ({"vocals", "bass"}, {2})
    audio = read(corpus / "audio/s0/vocals.flac")[0]
    assert np.array_equal(PackedReader(corpus).read(".", "audio/s0/vocals.flac", 0, 2000), quantise(audio, 16))


def test_a_dry_run_says_how_much_and_writes_nothing(run: Terminal, corpus: Path) -> None:
    before = files_of(corpus)
    code, out, err = run("pack", corpus, "--dry-run", "--limit", "2")
    assert (code, err) == (0, "")
    assert out.startswith(f"{corpus}: 10 stems would be packed as float32, 0.00 GB; ")
    assert out.endswith(" GB are free\n")
    assert files_of(corpus) == before


def test_what_was_rejected_is_told(run: Terminal, corpus: Path) -> None:
    (corpus / "audio/s0/vocals.flac").unlink()
    code, out, _ = run("pack", corpus, "--jobs", "0")
    assert code == 0
    assert cells(out)["stems"].startswith("19 ")
    assert cells(out)["rejected: pack"] == "1 unreadable"
    assert "1 stems are not in the store; the reasons are in rejected.parquet there" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--stems", "vocal"], 2, "field 'stems': the corpus has no stem 'vocal' (did you mean 'vocals'?)"),
        (["--sample-format", "int24"], 2, "int16"),
        (["--channels", "0"], 2, "channels"),
        (["--sample-rate", "1"], 2, "sample_rate"),
        (["--jobs", "-1"], 2, "jobs is -1"),
        (["--limit", "0"], 2, "--limit"),
        (["--out", "x"], 2, "--out"),
    ],
)
def test_wrong_usage_is_told(run: Terminal, corpus: Path, words: list[str], code: int, said: str) -> None:
    found, _, err = run("pack", corpus, *words)
    assert found == code
    assert said in err
    assert not (corpus / "packed").exists()


def test_other_settings_and_no_corpus_fail(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    assert run("pack", corpus, "--jobs", "0", "--stems", "vocals")[0] == 0
    code, _, err = run("pack", corpus, "--jobs", "0")
    assert code == 1
    assert "the store was packed with stems ['vocals'], and this is None" in err
    code, _, err = run("pack", tmp_path / "nothing")
    assert code == 1
    assert "holds no stems.parquet" in err


def test_a_stopped_packing_says_that_the_same_command_resumes(run: Terminal, corpus: Path, monkeypatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack, "pack_stem", stop)
    code, _, err = run("pack", corpus, "--jobs", "0")
    assert code == 130
    assert err == "stopped; the same command resumes\n"
