"""The command that finds anchors."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.recipe import AnchorRecipe
from manifests.corpus import Corpus
from tests.manifests.exports.small_corpus import write_song, write_tables
from tests.synthesis import tone
from tests.test_stemloom import Terminal

RATE = 8000
DETECTOR = """
import torch

class Loud:
    sample_rate, classes = 8000, 2
    def __call__(self, audio):
        columns = -(-audio.shape[1] // 800)
        padded = torch.nn.functional.pad(audio, (0, columns * 800 - audio.shape[1]))
        loud = torch.where(padded.reshape(1, columns, 800).square().mean(2) > 0.01, 5.0, -5.0)
        return torch.stack([loud, -loud], dim=1)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    rows = []
    for name, level, tags in (("loud", 0.5, "Horn"), ("soft", 0.01, "horn"), ("other", 0.5, "Unicorn")):
        audio = tone(440.0, 4 * RATE, RATE, amplitude=level, channels=1)
        audio[:, : 2 * RATE] = 0
        rows += write_song(tmp_path / "corpus", name, {"effects": audio}, rate=RATE, tags=tags)
    write_tables(tmp_path / "corpus", rows)
    (tmp_path / "detector.py").write_text(DETECTOR)
    (tmp_path / "classes.txt").write_text("Horn\nSilence\n")
    tagger = ["--tagger", f"python:{tmp_path / 'detector.py'}:Loud", "--classes", tmp_path / "classes.txt"]
    return ["anchor", tmp_path / "corpus", *tagger, "--out", tmp_path / "anchors"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_help_lists_every_field_of_the_recipe(run: Terminal) -> None:
    code, out, err = run("anchor", "--help")
    assert (code, err) == (0, "")
    for field in AnchorRecipe.model_fields:
        assert f"--{field.replace('_', '-')} " in out.replace("\n", " ")


def test_anchor_says_what_it_found(run: Terminal, command: list[object], tmp_path: Path) -> None:
    code, said, _ = run(*command, "--dry-run")
    assert (code, (tmp_path / "anchors").exists()) == (0, False)
    assert "2 sounds would be heard for 1 labels" in said
    code, said, _ = run(*command, "--length-s", "1.5", "--per-label", "none")
    assert code == 0
    assert "1 of 1 labels" in said
    assert "1 no anchor" in said
    assert "1 no known label" in said
    (row,) = Corpus.open(tmp_path / "anchors").clips.to_dict("records")
    assert (row["song_id"], row["label"], row["start_frame"], row["num_frames"]) == ("loud", "Horn", 16000, 12000)
    assert run("check", tmp_path / "anchors")[0] == 0


def test_anchor_refuses_what_it_cannot_do(run: Terminal, command: list[object], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("Horn\n")
    code, _, err = run(*command)
    assert code == 2
    assert "has 2 classes, and the list 1" in err
    (tmp_path / "classes.txt").write_text("Hoot\nSilence\n")
    code, _, err = run(*command)
    assert code == 2
    assert "no tag is a class of" in err
