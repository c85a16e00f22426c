"""The fault suite of `benchmarks.chaos` at small size: kinds of faults, each once, at moments that a seed draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.chaos import Chaos, Round, chaos, report
from benchmarks.chaos_builds import Result

EMPTY = Result({}, {}, {}, ())


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with chaos(tmp_path_factory.mktemp("chaos") / "rounds", ("catalog", "join", "mixtures", "bucket")) as opened:
        yield opened


ROUNDS = [
    Round(0, "driver SIGKILL", "catalog", 0),
    Round(1, "driver SIGINT", "join", 0),
    Round(2, "driver SIGTERM", "join", 0),
    Round(3, "worker SIGKILL", "mixtures", 1),
    Round(4, "disk full", "mixtures", 0),
    Round(5, "read error", "join", 0),
    Round(6, "torn files", "join", 0),
    Round(7, "torn files", "catalog", 0),
    Round(8, "two builds", "mixtures", 0),
    Round(9, "clock jumps", "mixtures", 0),
    Round(10, "object store", "bucket", 0),
]
"""A sleep and a node that is lost have tests of their own, with the engines."""


@pytest.mark.parametrize("one", ROUNDS, ids=lambda one: f"{one.kind} {one.build}")
def test_whatever_happens_the_same_command_makes_what_an_undisturbed_one_makes(rounds: Chaos, one: Round) -> None:
    rounds.played(one, np.random.default_rng(1))
    if one.skipped:
        pytest.skip(one.skipped)
    assert one.is_well, one


def result(*songs: str, **files: bytes) -> Result:
    return replace(EMPTY, files=files, rows={"stems": Counter((song, "vocals") for song in songs)})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (result("a", "b", vocals=b"1"), (0, 0, [])),
        (result("a", vocals=b"1"), (1, 0, [])),
        (result("a", "b", "b", vocals=b"1"), (0, 1, [])),
        (result("a", "c", vocals=b"1"), (1, 1, [])),
        (result("a", "b", vocals=b"2"), (0, 0, ["vocals"])),
        (result("a", "b"), (0, 0, ["vocals"])),
        (replace(result("a", "b", vocals=b"1"), temporary=("x",)), (0, 0, ["left: x"])),
    ],
)
def test_what_is_lost_or_there_twice_or_different_is_told(
    found: Result, expected: tuple[int, int, list[str]]
) -> None:
    assert found.against(result("a", "b", vocals=b"1")) == expected


def test_the_report_counts_what_was_tried() -> None:
    rounds = [
        Round(0, "torn files", "join", 0, disturbed=True, resumed=1),
        Round(1, "torn files", "catalog", 0, lost=2, different=["a", "b"]),
        Round(2, "Ray node", "catalog", 0, skipped="Ray is not installed"),
    ]
    lines = report(rounds).splitlines()[2:]
    assert lines == [
        "| Ray node | skipped: Ray is not installed |||||||",
        "| torn files | 2 | 1 | 1 | 2 | 0 | 1 | 0 |",
        "| all | 2 | 1 | 1 | 2 | 0 | 1 | 0 |",
    ]
    assert [one.is_well for one in rounds] == [True, False, True]
