"""The command that cleans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stemloom
from manifests.corpus import Corpus
from tests.builders.small_corpora import RATE, write_corpus
from tests.synthesis import pink_noise, song


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    instrumental, vocals = song(rng, 8.0, RATE)
    wide = pink_noise(rng, 2, instrumental.shape[1], rms=0.05).astype(np.float32)
    songs = [("pure", {"music": wide}), ("sung", {"music": wide + 0.3 * vocals})]
    write_corpus(tmp_path / "corpus", songs)
    return tmp_path / "corpus"


def test_clean_says_what_it_did(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clean"
    command = ["clean", str(corpus), "--stems", "music", "--separator", "baseline:centre", "--out", str(out)]
    assert stemloom.main([*command, "--dry-run"]) == 0
    assert "2 stems would be cleaned" in capsys.readouterr().out
    assert not out.exists()
    assert stemloom.main(command) == 0
    said = capsys.readouterr().out
    assert "cleaned" in said
    table = Corpus.open(out).cleaned.set_index("song_id")["verdict"]
    assert table["pure"] == "kept"
    assert table["sung"] != "kept"
    assert stemloom.main(["check", str(out)]) == 0


def test_clean_refuses_what_it_cannot_do(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "clean")]
    assert stemloom.main(["clean", str(corpus), "--stems", "drums", "--separator", "baseline:centre", *out]) == 1
    assert "names 'drums'" in capsys.readouterr().err
    assert stemloom.main(["clean", str(corpus), "--stems", "music", "--separator", "bundled:voice", *out]) == 1
    assert "did you mean 'vocals'" in capsys.readouterr().err
