"""`stemloom ablate`: what it says, what it writes, the code it ends with, and what a kill costs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.test_stemloom import Terminal
from tests.training.small_study import BREAKING, small_study, weights_of
from tests.training.small_training import same_weights
from training.journal import read_journal

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def study_file(folder: Path, **changes: object) -> Path:
    """The small study as a file, whose songs are given on the command line."""
    values = small_study(folder, **changes).model_dump(mode="json")
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**values, "corpora": {"songs": None}}))
    return path


def test_a_study_ends_with_a_page(run: Terminal, tmp_path: Path) -> None:
    out, path = tmp_path / "out", study_file(tmp_path, seeds=1)
    words = [
        "ablate",
        path,
        "--out",
        out,
        "--corpus",
        f"songs={tmp_path / 'songs'}",
        "--jobs",
        0,
        "--device",
        "cpu",
    ]
    code, out_text, err = run(*words, "--dry-run")
    assert code == 0, err
    assert "baseline, seed 0: 6 steps" in out_text
    assert not out.exists()
    code, out_text, err = run(*words)
    assert code == 0, err
    assert "2 variants with 1 seed each, compared with 'baseline'" in out_text
    assert (out / "study.html").exists()
    assert len(pd.read_parquet(out / "songs.parquet")) == 2 * 5 * 2
    assert "2 runs had been done before" in run(*words)[1]
    assert "swap, seed 0: is done" in run(*words, "--dry-run")[1]


def test_what_is_missing_is_said_and_is_a_failure(run: Terminal, tmp_path: Path) -> None:
    path = study_file(tmp_path, variants=[{"name": "baseline"}, BREAKING], seeds=1)
    words = ["ablate", path, "--out", tmp_path / "out", "--jobs", "0", "--device", "cpu"]
    code, _, err = run(*words, "--corpus", f"songs={tmp_path / 'songs'}")
    assert code == 1
    assert "breaking, seed 0" in err
    assert "the loss is" in err
    assert "Incomplete" in (tmp_path / "out" / "study.html").read_text()


def test_bad_usage_is_told_in_a_line(run: Terminal, tmp_path: Path) -> None:
    path, out = study_file(tmp_path), tmp_path / "out"
    for words, message in (
        ([path, "--out", out], "corpus 'songs' has no folder: add '--corpus songs=FOLDER'"),
        ([path, "--out", out, "--corpus", "songs"], "--corpus songs: write NAME=FOLDER"),
        ([path, "--out", out, "--corpus", f"songs={tmp_path / 'gone'}"], "there is no folder"),
        ([path, "--out", out, "--corpus", f"songs={tmp_path}"], "stems"),
        (["augmentatoin", "--out", out], "did you mean 'augmentation'?"),
        (
            [path, "--out", out, "--corpus", f"songs={tmp_path / 'songs'}", "--size", "big"],
            "there is no size 'big'",
        ),
        ([path, "--out", tmp_path / "songs", "--corpus", f"songs={tmp_path / 'songs'}"], "choose another folder"),
        (
            [path, "--out", tmp_path / "songs", "--corpus", f"songs={tmp_path / 'songs'}", "--dry-run"],
            "choose another folder",
        ),
        ([path, "--out", out, "--corpus", f"songs={tmp_path / 'songs'}", "--seeds", "9"], "--seeds 9"),
        ([tmp_path / "gone.yaml", "--out", out], "gone.yaml: cannot be read, there is no such file"),
    ):
        code, _, err = run("ablate", *words)
        assert code in (1, 2)
        assert message in err
    assert not out.exists()


def test_a_killed_study_goes_on_and_leaves_no_process_behind(run: Terminal, tmp_path: Path) -> None:
    path, out = study_file(tmp_path, set={"epochs": 2, "steps_per_epoch": 40}, seeds=1), tmp_path / "out"
    words = command(path, out, jobs=1)
    process = started(words)

    def second() -> list[Path]:
        return list((out / "runs").glob("swap-*"))

    while process.poll() is None and not (second() and len(read_journal(second()[0])) > 10):
        time.sleep(0.02)
    assert process.poll() is None, "the study ended before it could be killed"
    workers = children(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)

    before = weights_of(out)
    (first,) = (name for name in before if name.startswith("baseline"))
    code, said, err = run(*words)
    assert code == 0, err
    assert "1 run had been done before" in said
    after = weights_of(out)
    assert after[first] == before[first]
    record = json.loads((out / "study.json").read_text())
    assert [one["missing"] for one in record["runs"]] == [None, None]
    # as if nothing had happened
    alone = tmp_path / "alone"
    assert run(*words[:3], alone, *words[4:])[0] == 0
    assert {*weights_of(alone)} == {*after}
    assert all(same_weights(alone / "runs" / name, out / "runs" / name) for name in after)


def test_ctrl_c_in_the_first_moments_is_a_stop_and_no_accident(tmp_path: Path) -> None:
    path, out = study_file(tmp_path, seeds=1), tmp_path / "out"
    words = command(path, out, jobs=1)
    process = started(words)
    while process.poll() is None and not children(process.pid):
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "not finished; the same command goes on" in said
    assert "Traceback" not in err


def command(path: Path, out: Path, jobs: int) -> list[str | Path]:
    songs = f"songs={path.parent / 'songs'}"
    return ["ablate", path, "--out", out, "--corpus", songs, "--jobs", str(jobs), "--device", "cpu"]


def started(words: list[str | Path]) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "stemloom", *map(str, words)]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid: int) -> list[str]:
    """Processes that one has started, by any of its threads."""
    return [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
