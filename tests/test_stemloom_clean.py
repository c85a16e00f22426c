"""The command that cleans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.recipe import CleanRecipe
from manifests.corpus import Corpus
from tests.builders.small_corpora import RATE, write_corpus
from tests.synthesis import pink_noise, song
from tests.test_stemloom import Terminal


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    instrumental, vocals = song(rng, 8.0, RATE)
    wide = pink_noise(rng, 2, instrumental.shape[1], rms=0.05).astype(np.float32)
    songs = [("pure", {"music": wide}), ("sung", {"music": wide + 0.3 * vocals})]
    write_corpus(tmp_path / "corpus", songs)
    return tmp_path / "corpus"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_help_lists_every_field_of_the_recipe(run: Terminal) -> None:
    code, out, err = run("clean", "--help")
    assert (code, err) == (0, "")
    for field in CleanRecipe.model_fields:
        assert f"--{field.replace('_', '-')} " in out.replace("\n", " ")


def test_clean_says_what_it_did(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean"
    command = [
        "clean",
        corpus,
        "--stems",
        "music",
        "--separator",
        "baseline:centre",
        "--certain",
        "0.5",
        "--out",
        out,
    ]
    code, said, _ = run(*command, "--dry-run")
    assert (code, out.exists()) == (0, False)
    assert "2 stems would be cleaned" in said
    code, said, _ = run(*command)
    assert code == 0
    assert "kept" in said
    table = Corpus.open(out).cleaned.set_index("song_id")["verdict"]
    assert table["pure"] == "kept"
    assert table["sung"] != "kept"
    assert run("check", out)[0] == 0


def test_clean_refuses_what_it_cannot_do(run: Terminal, corpus: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "clean"]
    code, _, err = run("clean", corpus, "--stems", "drums", "--separator", "baseline:centre", *out)
    assert code == 2
    assert "names 'drums'" in err
    code, _, err = run("clean", corpus, "--stems", "music", "--separator", "bundled:voice", *out)
    assert code == 2
    assert "there is vocals" in err
