"""Trainings in processes of their own: interrupted, killed, and two that train together."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from manifests.corpus import Corpus
from tests.training.small_training import TASNET, corpus, fields, recipe, run, same_weights, told
from training.journal import METRICS
from training.recipe import load_training
from training.runs import BEST, RUN, STATE, read_state

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys, time
from pathlib import Path
import torch
from training.loop import train
from training.recipe import load_training



def main():
    torch.set_num_threads(1)
    job = json.loads(Path(sys.argv[1]).read_text())
    os.environ["MASTER_PORT"] = str(job["port"])
    train(
        load_training(job["recipe"]),
        [Path(job["data"])],
        Path(job["out"]),
        device="cpu",
        workers=job.get("workers", 0),
        max_minutes=job.get("max_minutes"),
        progress=lambda tick: time.sleep(job.get("seconds_a_step", 0.0)),
    )


if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return corpus(tmp_path_factory.mktemp("corpus"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def started(folder: Path, job: dict[str, Any], rank: int = 0, world_size: int = 1) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(SCRIPT)
    (folder / "job.json").write_text(json.dumps(job))
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **place}
    command = [sys.executable, str(folder / "train.py"), str(folder / "job.json")]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_step(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the journal says that a step is done."""
    for _ in range(6000):
        if (out / METRICS).is_file() and f'"step": {step},' in (out / METRICS).read_text():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    raise AssertionError("the training does not get on")


LONG = {
    "network": {**TASNET},
    "epochs": 4,
    "steps_per_epoch": 5,
    "average": 0.9,
    "accumulate": 2,
    "schedule": {"name": "plateau", "factor": 0.5, "patience": 1},
    "optimizer": {"learning_rate": 0.1},
}


def test_a_training_that_is_interrupted_or_killed_goes_on_as_if_it_was_not(data: Corpus, tmp_path: Path) -> None:
    made, out = recipe(**LONG), tmp_path / "run"
    job = {"recipe": fields(**LONG), "data": str(data.folder), "out": str(out), "port": 0, "seconds_a_step": 0.1}

    process = started(tmp_path / "first", {**job, "workers": 1})
    wait_for_step(out, 2, process)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == ""
    assert process.returncode == 0
    done = read_state(out / STATE)["step"]
    assert 2 <= done < 10
    assert not (out / RUN).exists()

    process = started(tmp_path / "second", job)
    wait_for_step(out, random.randint(done + 1, 15), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert read_state(out / STATE)["step"] >= done

    run(made, data, tmp_path / "whole")
    assert run(made, data, out).finished
    assert told(out) == told(tmp_path / "whole")
    assert same_weights(out, tmp_path / "whole")


def test_two_processes_see_what_one_sees_and_say_it_once(data: Corpus, tmp_path: Path) -> None:
    values = {
        "loss": ["l1", {"name": "mse", "weight": 10.0}],
        "validation": {"split": None, "num": 5},  # whole batches are of four
        "average": 0.9,
        "accumulate": 2,
        "freeze": ["encoder.*"],
        "clip_norm": 0.01,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    job = {"recipe": fields(**values, batch_size=2), "data": str(data.folder), "out": str(two)}
    for max_minutes in (0.0, None):  # stopped after a step, and taken up again
        this = {**job, "port": free_port(), "max_minutes": max_minutes}
        processes = [started(tmp_path / f"rank{rank}", this, rank, world_size=2) for rank in (0, 1)]
        try:
            errors = [process.communicate(timeout=120)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0, 0], errors
        assert (two / RUN).exists() == (max_minutes is None)

    run(load_training(fields(**values, batch_size=4)), data, one)
    assert len(told(two)) == len(told(one)) == 6 + 2
    for line, alone in zip(told(two), told(one), strict=True):
        assert close(line, alone), (line, alone)
    weights, others = load_file(two / BEST), load_file(one / BEST)
    for tensor in weights:
        torch.testing.assert_close(weights[tensor], others[tensor], rtol=1e-4, atol=1e-5)
    ends = [json.loads((folder / RUN).read_text()) for folder in (two, one)]
    assert [end["processes"] for end in ends] == [2, 1]
    assert ends[0]["hours_seen"] == ends[1]["hours_seen"]


def close(value: Any, other: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(close(value[name], other[name]) for name in value)
    return bool(value == pytest.approx(other, rel=1e-5, abs=1e-5))
