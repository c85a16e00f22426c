"""metrics.jsonl: a line for each report, none twice after a resume, and TensorBoard besides."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

from manifests.errors import RecipeError
from tests.training.small_training import batches, gains
from training.journal import METRICS, Journal, read_journal
from training.objective import Objective
from training.recipe import LossRule
from training.validation import validate


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in read_journal(folder)]


def write(folder: Path, first: int, last: int, start: int) -> None:
    with Journal(folder, start) as journal:
        for step in range(first, last + 1):
            journal.report({"step": step, "loss": 1 / step})


def test_lines_are_json_and_there_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal:
        journal.report({"step": 1, "loss": 0.5, "terms": {"l1": 0.25}})
        assert json.loads((tmp_path / METRICS).read_text()) == {"step": 1, "loss": 0.5, "terms": {"l1": 0.25}}
        journal.report({"step": 2, "validation": {"loss": None}})
    assert read_journal(tmp_path)[1] == {"step": 2, "validation": {"loss": None}}


def test_a_resumed_run_writes_no_line_twice(tmp_path: Path) -> None:
    write(tmp_path, 1, 7, start=0)
    write(tmp_path, 5, 9, start=4)
    assert steps(tmp_path) == [*range(1, 10)]
    write(tmp_path, 1, 2, start=0)
    assert steps(tmp_path) == [1, 2]


def test_a_line_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    write(tmp_path, 1, 4, start=0)
    text = (tmp_path / METRICS).read_text()
    (tmp_path / METRICS).write_text(text[:-5])
    assert steps(tmp_path) == [1, 2, 3]
    write(tmp_path, 4, 5, start=3)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_processes_that_report_nothing_write_nothing(tmp_path: Path) -> None:
    with Journal(None, 0, tensorboard=True) as journal:
        journal.report({"step": 1})
        journal.show(1, ["a"], validate(objective(), batches(2, 1)), 8000)
    assert [*tmp_path.iterdir()] == []
    assert read_journal(tmp_path) == []


def objective() -> Objective:
    return Objective(gains("ab"), LossRule(terms=("l1",)), ("a", "b"))


def test_tensorboard_shows_curves_pictures_and_sound(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = validate(objective(), batches(2, 1))
    with Journal(tmp_path, 0, tensorboard=True) as journal:
        journal.report({"step": 3, "loss": 0.5, "validation": {"loss": 0.25, "targets": {"a": None, "b": 2.0}}})
        journal.show(3, ["a", "b"], found, 8000)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert scalars == {"loss": [(3, 0.5)], "validation/loss": [(3, 0.25)], "validation/targets/b": [(3, 2.0)]}
    names = {"mixture", "a/target", "b/target", "a/estimate", "b/estimate"}
    assert set(events.Tags()["audio"]) == set(events.Tags()["images"]) == names
    picture = events.Images("mixture")[0]
    assert (picture.height, picture.width) == (513, math.ceil(400 / 256) + 1)


def test_tensorboard_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RecipeError, match=r"field 'tensorboard' is true, .* pip install 'stemloom\[tensorboard\]'"):
        Journal(tmp_path, 0, tensorboard=True)
