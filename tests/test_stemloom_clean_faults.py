"""What goes wrong with a separator costs the song that it goes wrong with, or is said before any work."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from manifests.audio import read
from manifests.corpus import Corpus
from manifests.tables import read_table, write_table
from separators.weights import save_network
from tests.builders.small_corpora import RATE, write_corpus
from tests.separators.pretrained.test_references import WEIGHTS, cache, server  # noqa: F401
from tests.separators.small_networks import open_unmix, seeded
from tests.synthesis import pink_noise
from tests.test_stemloom import Terminal

STEP = round(0.32 * RATE)

# Takes the first channel of stereo for a voice, and does otherwise where audio is loud.
MODULE = """
import pathlib

import numpy as np
import pandas as pd

class Separator:
    name, identity, sample_rate, channels, sources = "mine", "1", 16000, 2, ("vocals", "rest")

    def stream(self, blocks):
        for block in blocks:
            voice = np.stack([block[0], 0 * block[1]])
            found = np.stack([voice, block - voice])
            if np.abs(block).max() > 0.5:
                pass  # fault
            yield found

def make():
    return Separator()
"""

PROGRAM = """
import os, pathlib, sys, time
import numpy as np, soundfile

mixture, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
voice = mixture * np.float32([1, 0])
files = {"vocals": voice, "rest": mixture - voice}
if np.abs(mixture).max() > 0.5:
    pass  # fault
for name, audio in files.items():
    soundfile.write(pathlib.Path(sys.argv[2]) / f"{name}.wav", audio, rate, subtype="FLOAT")
"""

NETWORK = """
import numpy as np
import pandas as pd
import torch

from separators.network import Network, NetworkConfig
from separators.overlap_add import NetworkSeparator

class Left(Network):
    def __init__(self):
        super().__init__(
            NetworkConfig(sample_rate=16000, channels=2, sources=("vocals", "rest"), segment_frames=4000)
        )
        self.register_buffer("mask", torch.tensor([[1.0], [0.0]]))

    def forward(self, mixture):
        if mixture.abs().max() > 0.5 and len(mixture) > HOLDS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return torch.stack([mixture * self.mask, mixture * (1 - self.mask)], dim=1)

def make(batch_size):
    return NetworkSeparator(network=Left(), name="left", batch_size=batch_size)
"""


def music(seed: int, level: float) -> np.ndarray:
    """Five steps, of which the third has a voice: the first channel alone."""
    audio = pink_noise(np.random.default_rng(seed), 1, 5 * STEP)[0]
    both = np.stack([audio, audio]) * np.float32(level / np.abs(audio).max())
    both[0, : 2 * STEP] = both[0, 3 * STEP :] = 0
    return both.astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Songs `a` and `c` are quiet, `b` is loud."""
    levels = {"a": 0.2, "b": 0.9, "c": 0.3}
    songs = [(name, {"music": music(seed, level)}) for seed, (name, level) in enumerate(levels.items())]
    return write_corpus(tmp_path / "corpus", songs).folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def command(corpus: Path, separator: str, *words: str, stems: str = "music") -> list[str | Path]:
    # the level alone decides, and what is left is never damaged
    limits = [
        "--witness",
        "none",
        "--voiced",
        "0",
        "--damaged-db",
        "1",
        "--margin-steps",
        "0",
        "--pause-steps",
        "0",
    ]
    out = ["--out", corpus.parent / "clean"]
    return ["clean", corpus, "--stems", stems, "--separator", separator, *limits, *out, *words]


def written(folder: Path, text: str, fault: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text.replace("pass  # fault", fault))
    return path


def detail_of(corpus: Path) -> str:
    """Why the loud song was left out; the others are cleaned, and checked to be so."""
    clean = Corpus.open(corpus.parent / "clean")
    assert clean.songs() == ["a", "c"]
    assert clean.cleaned.set_index("song_id")["verdict"].to_dict() == {"a": "cleaned", "c": "cleaned"}
    for song_id in clean.songs():
        left, right = read(clean.path_of(clean.song(song_id)["music"]))[0]
        before = read(corpus / "audio" / song_id / "music.flac")[0]
        assert not left[2 * STEP : 3 * STEP].any()
        np.testing.assert_array_equal(right, before[1])
    (row,) = clean.rejected.to_dict("records")
    assert (row["id"], row["path"], row["stage"], row["reason"]) == ("b", "b/music", "clean", "not cleaned")
    assert not list((corpus.parent / "clean").glob("*/b/*"))
    return str(row["detail"])


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("found = found * np.float32('nan')", "mine: gives NaN or infinity for the audio from 0.00 s on"),
        ("found = found + np.float32('inf')", "mine: gives NaN or infinity"),
        ("found = found[..., 9:]", f"mine: gives {5 * STEP - 9} frames for a mixture of {5 * STEP}"),
        ("yield found[..., :9]", f"frames and more for the first {5 * STEP} of the mixture"),
        ("raise SystemExit(3)", "mine: raises SystemExit: 3"),
        ("return", f"mine: gives 0 frames for a mixture of {5 * STEP}"),
        ("found = found[:1]", f"mine: gives a block of the shape (1, 2, {5 * STEP}), not (2, 2, frames)"),
        ("found = found[:, :1]", f"mine: gives a block of the shape (2, 1, {5 * STEP}), not (2, 2, frames)"),
        ("found = found[0]", f"mine: gives a block of the shape (2, {5 * STEP}), not (2, 2, frames)"),
        ("found = found.astype(int)", "mine: gives int64 values"),
        ("raise ValueError('no such layer')", "mine: raises ValueError: no such layer"),
        ("raise MemoryError", "mine: raises MemoryError"),
    ],
)
def test_a_separator_of_pythons_that_fails_costs_its_song(
    run: Terminal, corpus: Path, fault: str, said: str
) -> None:
    path = written(corpus.parent, MODULE, fault)
    code, out, _ = run(*command(corpus, f"python:{path}:make"))
    assert code == 0
    assert "1 not cleaned" in out
    assert said in detail_of(corpus)
    assert run("check", corpus.parent / "clean")[0] == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("sys.exit('no such model')", "fails with exit status 1; it says at last: no such model"),
        ("os.abort()", "fails with exit status -6"),
        ("time.sleep(60)", "takes longer than 3 s and was ended; raise timeout_s"),
        ("files = {'drums': voice, 'rest': voice}", "gives no file of 'vocals': there is drums.wav"),
        ("files = {}", "gives no file of 'vocals': there is no audio"),
        ("voice *= np.nan", "its vocals.wav: "),
        ("files['rest'] = voice[:-9]", f"its rest.wav: has {5 * STEP - 9} frames, and the mixture {5 * STEP}"),
        ("files['vocals'] = voice[:, :1]", "its vocals.wav: has 16000 Hz and 1 channels, not 16000 and 2"),
        ("rate = 8000", "its vocals.wav: has 8000 Hz and 2 channels, not 16000 and 2"),
    ],
)
def test_a_program_that_fails_costs_its_song(run: Terminal, corpus: Path, fault: str, said: str) -> None:
    path = written(corpus.parent, PROGRAM, fault)
    settings = f"sources=vocals,rest sample_rate=16000 timeout_s={3 if 'sleep' in fault else 60}"
    program = f"command:{settings} {shlex.quote(sys.executable)} {shlex.quote(str(path))} {{input}} {{output}}"
    code, out, _ = run(*command(corpus, program))
    assert code == 0
    assert "1 not cleaned" in out
    assert said in detail_of(corpus)


def test_a_full_memory_gets_smaller_batches(run: Terminal, corpus: Path) -> None:
    path = corpus.parent / "mine.py"
    path.write_text(f"HOLDS = 1\n{NETWORK}")
    code, _, _ = run(*command(corpus, f"python:{path}:make", "--batch-size", "4"))
    assert code == 0
    clean = Corpus.open(corpus.parent / "clean")
    assert set(clean.cleaned["verdict"]) == {"cleaned"}
    assert clean.songs() == ["a", "b", "c"]


def test_a_memory_that_holds_not_even_one_costs_its_song(run: Terminal, corpus: Path) -> None:
    path = corpus.parent / "mine.py"
    path.write_text(f"HOLDS = 0\n{NETWORK}")
    code, _, _ = run(*command(corpus, f"python:{path}:make", "--batch-size", "4"))
    assert code == 0
    said = detail_of(corpus)
    assert "left: the memory of cpu does not hold a segment of 0.2 s (CUDA out of memory" in said
    assert "take another device, or a smaller network" in said


def test_a_fault_that_has_gone_is_made_good_by_the_same_command(run: Terminal, corpus: Path) -> None:
    words = command(corpus, f"python:{written(corpus.parent, MODULE, 'raise ValueError')}:make")
    assert run(*words)[0] == 0
    assert Corpus.open(corpus.parent / "clean").songs() == ["a", "c"]
    written(corpus.parent, MODULE, "pass")
    assert run(*words)[0] == 0
    clean = Corpus.open(corpus.parent / "clean")
    assert clean.songs() == ["a", "b", "c"]
    assert len(clean.rejected) == 0


def test_a_separator_that_fails_with_every_song_says_how(run: Terminal, corpus: Path) -> None:
    path = corpus.parent / "mine.py"
    path.write_text(MODULE.replace("yield found", "raise ValueError('no such layer')"))
    code, _, err = run(*command(corpus, f"python:{path}:make"))
    said = " ".join(err.split())
    assert code == 1
    assert "no song is left (3 not cleaned)" in said
    assert "raises ValueError: no such layer" in said
    assert not (corpus.parent / "clean" / "stems.parquet").exists()


def test_a_song_leaves_with_all_of_its_stems(run: Terminal, tmp_path: Path) -> None:
    songs = [
        ("a", {"music": music(0, 0.2), "effects": music(1, 0.2)}),
        ("b", {"music": music(2, 0.2), "effects": music(3, 0.9)}),
    ]
    corpus = write_corpus(tmp_path / "corpus", songs).folder
    path = written(tmp_path, MODULE, "raise ValueError")
    assert run(*command(corpus, f"python:{path}:make", stems="music,effects"))[0] == 0
    clean = Corpus.open(tmp_path / "clean")
    assert clean.songs() == ["a"]
    # what was found in b's music is told, and that nothing of it is here any more
    table = clean.cleaned.set_index(["song_id", "stem"])["removed_path"]
    assert table["a", "music"] == "removed/a/music.flac"
    assert pd.isna(table["b", "music"])
    assert not list((tmp_path / "clean").glob("*/b/*"))


def test_what_is_beyond_full_scale_becomes_floats(run: Terminal, corpus: Path) -> None:
    audio, rate = read(corpus / "audio" / "b" / "music.flac")
    soundfile.write(corpus / "audio" / "b" / "music.wav", 1.5 / 0.9 * audio.T, rate, subtype="FLOAT")
    stems = read_table(corpus, "stems")
    stems["path"] = stems["path"].str.replace("b/music.flac", "b/music.wav")
    write_table(corpus, "stems", stems)
    assert run(*command(corpus, f"python:{written(corpus.parent, MODULE, 'pass')}:make"))[0] == 0
    cleaned = Corpus.open(corpus.parent / "clean")
    row = cleaned.song("b")["music"]
    assert row["path"] == "audio/b/music.wav"
    assert soundfile.info(cleaned.path_of(row)).subtype == "FLOAT"
    removed, _ = read(corpus.parent / "clean" / "removed" / "b" / "music.wav")
    np.testing.assert_allclose(cleaned.load(row) + removed, 1.5 / 0.9 * audio, atol=2e-7)
    assert run("check", corpus.parent / "clean")[0] == 0


def of_another_network(folder: Path) -> Path:
    save_network(folder / "other.safetensors", seeded(open_unmix))
    return folder / "other.safetensors"


def cut_short(folder: Path) -> Path:
    path = of_another_network(folder)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def plain_text(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_text("404: not found")
    return path


def pickled(folder: Path) -> Path:
    torch.save({"state": {"weight": torch.zeros(3)}}, folder / "other.th")
    return folder / "other.th"


@pytest.mark.parametrize(
    ("loader", "make"),
    [
        ("checkpoint", cut_short),
        ("checkpoint", pickled),
        ("roformer", of_another_network),
        ("roformer", cut_short),
        ("demucs", of_another_network),
        ("demucs", pickled),
        ("mdx-onnx", plain_text),
        ("mdx-onnx", of_another_network),
    ],
)
def test_wrong_weights_are_told_before_any_work(run: Terminal, corpus: Path, loader: str, make: Any) -> None:
    if loader == "mdx-onnx":
        pytest.importorskip("onnxruntime")
    path = make(corpus.parent)
    code, _, err = run(*command(corpus, f"{loader}:{path}"))
    assert code == 2
    said = " ".join(err.split())
    assert path.name in said
    assert "Traceback" not in said
    assert not (corpus.parent / "clean").exists()


@pytest.mark.usefixtures("cache")
def test_weights_of_another_hash_are_told_before_any_work(
    run: Terminal,
    corpus: Path,
    server: Any,  # noqa: F811
) -> None:
    wrong, right = "0" * 64, hashlib.sha256(WEIGHTS).hexdigest()
    words = command(corpus, f"demucs:{server.address}/a.th#sha256={wrong}")
    code, _, err = run(*words)
    assert code == 2
    assert "it is not in the cache; fetch it with --allow-downloads" in " ".join(err.split())
    code, _, err = run(*words, "--allow-downloads")
    said = "".join(err.split())
    assert code == 2
    assert f"itssha256is{right},expected{wrong}" in said
    assert not (corpus.parent / "clean").exists()
