"""Verdicts in the stems table make no other corpus of it; anything else that is changed does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manifests.audited import AUDIT, stems_as_built, write_audit
from manifests.corpus import Corpus
from manifests.errors import TableError
from manifests.tables import TableFormat, read_table
from tests.builders.small_build import edit, make_build

SIX = ["unheard"] * 6


@pytest.fixture(params=["parquet", "jsonl"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    form: TableFormat = request.param
    return make_build(tmp_path / "build", format=form)


def identity(build: Path) -> str:
    return Corpus.open(build).identity


def test_verdicts_change_the_column_and_not_the_corpus(build: Path) -> None:
    before, table = identity(build), read_table(build, "stems")
    for values in (["accepted", *SIX[1:]], ["rejected", *SIX[1:]], SIX, ["accepted"] * 6):
        assert write_audit(build, values)
        assert identity(build) == before
        found = read_table(build, "stems")
        assert found["audit"].to_list() == values
        assert found.drop(columns="audit").equals(table.drop(columns="audit"))


def test_the_same_verdicts_write_nothing(build: Path) -> None:
    assert not write_audit(build, SIX)
    assert not (build / AUDIT).exists()


def test_only_what_was_built_is_kept(build: Path) -> None:
    path = stems_as_built(build)
    assert path is not None
    data = path.read_bytes()
    write_audit(build, ["rejected"] * 6)
    write_audit(build, ["accepted"] * 6)
    kept = stems_as_built(build)
    assert kept == build / AUDIT / path.name
    assert kept.read_bytes() == data


def test_any_other_change_is_another_corpus_before_and_after_verdicts(build: Path) -> None:
    write_audit(build, ["rejected"] * 6)
    before = identity(build)
    edit(build, "stems", lambda rows: rows[0].update(genre="rock"))
    changed = identity(build)
    assert changed != before
    write_audit(build, ["accepted"] * 6)
    assert identity(build) == changed


def test_a_column_that_was_edited_by_hand_is_another_corpus_too(build: Path) -> None:
    before = identity(build)
    edit(build, "stems", lambda rows: rows[0].update(audit="accepted"))
    assert identity(build) != before


def test_a_crash_before_the_table_is_replaced_leaves_the_corpus_as_it_was(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(build)
    write_audit(build, ["rejected"] * 6)
    data = {path.name: path.read_bytes() for path in build.glob("stems.*")}
    write_audit(build, ["accepted"] * 6)
    for name, written in data.items():
        (build / name).write_bytes(written)
    assert identity(build) == before
    write_audit(build, SIX)
    assert identity(build) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"original": 1, "audited": 2}'])
def test_a_damaged_record_stands_for_nothing(build: Path, text: str) -> None:
    before = identity(build)
    write_audit(build, ["rejected"] * 6)
    (build / AUDIT / "stems.json").write_text(text)
    assert identity(build) != before
    assert stems_as_built(build) in build.iterdir()


def test_a_kept_table_that_was_tampered_with_stands_for_nothing(build: Path) -> None:
    write_audit(build, ["rejected"] * 6)
    kept = stems_as_built(build)
    assert kept is not None
    kept.write_bytes(kept.read_bytes()[:-10])
    assert stems_as_built(build) in build.iterdir()


def test_what_is_no_verdict_is_refused(build: Path) -> None:
    with pytest.raises(TableError, match="audit"):
        write_audit(build, ["perhaps"] * 6)
    assert read_table(build, "stems")["audit"].to_list() == SIX


def test_the_record_stays_small(build: Path) -> None:
    for number in range(4):
        write_audit(build, ["accepted"] * number + ["rejected"] * (6 - number))
    assert len(json.loads((build / AUDIT / "stems.json").read_text())["audited"]) <= 2


def test_a_folder_without_a_table_has_none(tmp_path: Path) -> None:
    assert stems_as_built(tmp_path) is None
    with pytest.raises(TableError, match="holds no stems"):
        write_audit(tmp_path, [])
