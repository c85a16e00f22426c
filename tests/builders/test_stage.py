"""A stage over many items: what is known is not done again, equal content once, and every failure is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.cache import ResultCache
from builders.engine import LITTLE, Failure, LocalEngine, Needs, Outcome
from builders.stage import Done, Product, Stage, Work, plain, run_stage
from manifests.errors import AudioError


class Counted:
    """A stage's function that remembers its items and doubles those that are numbers."""

    def __init__(self, *bad: int) -> None:
        self.items: list[int] = []
        self.bad = set(bad)

    def __call__(self, item: int) -> Product:
        self.items.append(item)
        if item in self.bad:
            raise AudioError(f"item {item}: bad; give a good one")
        return Product({"double": 2 * item}, {"range": np.arange(item, dtype=np.uint32)})


class Reversed:
    """An engine whose items are done in the opposite order."""

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        return LocalEngine(0).run(stage, list(items)[::-1])


def stage(function: Callable[[int], Product], version: int = 1, **parameters: Any) -> Stage[int]:
    return Stage("double", version, function, parameters)


def work(number: int, *content_ids: str) -> Work[int]:
    return Work(f"item {number}", number, content_ids or (f"content {number}",))


def run(stage: Stage[int], works: list[Work[int]], folder: Path, **more: Any) -> dict[str, Done]:
    done = list(run_stage(stage, works, LocalEngine(0), ResultCache(folder), **more))
    assert sorted(each.name for each in done) == sorted(each.name for each in works)
    return {each.name: each for each in done}


def test_what_the_cache_has_is_not_run_again_and_reads_back_equal(tmp_path: Path) -> None:
    works = [work(number) for number in range(4)]
    first, second = Counted(), Counted()
    before = run(stage(first), works, tmp_path)
    after = run(stage(second), [*works, work(4)], tmp_path)
    assert first.items == [0, 1, 2, 3]
    assert second.items == [4]
    for name, done in before.items():
        assert done.product is not None
        again = after[name].product
        assert again is not None
        assert again.value == done.product.value
        np.testing.assert_array_equal(again.arrays["range"], done.product.arrays["range"])
        assert again.arrays["range"].dtype == np.uint32


@pytest.mark.parametrize("changed", [stage(Counted(), 2), stage(Counted(), limit=3)])
def test_another_version_or_parameter_runs_again(tmp_path: Path, changed: Stage[int]) -> None:
    run(stage(Counted()), [work(1)], tmp_path)
    run(changed, [work(1)], tmp_path)
    assert isinstance(changed.function, Counted)
    assert changed.function.items == [1]


def test_equal_content_is_done_once_and_told_for_each(tmp_path: Path) -> None:
    function = Counted()
    done = run(stage(function), [work(1, "same"), work(2, "same"), work(3)], tmp_path)
    assert function.items == [1, 3]
    assert done["item 1"].product == done["item 2"].product


def test_a_failure_is_told_and_not_kept(tmp_path: Path) -> None:
    works = [work(1), work(2)]
    done = run(stage(Counted(2)), works, tmp_path)
    assert done["item 2"] == Done("item 2", None, Failure("rejected", "item 2: bad; give a good one"))
    assert done["item 1"].product is not None
    retried = Counted()
    assert run(stage(retried), works, tmp_path)["item 2"].failure is None
    assert retried.items == [2]


def test_a_copy_stands_in_for_a_file_that_fails(tmp_path: Path) -> None:
    function = Counted(1, 2)
    same = [work(number, "same") for number in (1, 2, 3, 4)]
    done = run(stage(function), same, tmp_path)
    assert function.items == [1, 2, 3]
    assert done["item 1"].failure == Failure("rejected", "item 1: bad; give a good one")
    assert done["item 2"].failure == Failure("rejected", "item 2: bad; give a good one")
    assert done["item 3"].product == done["item 4"].product
    assert done["item 3"].product is not None


def test_a_product_whose_files_are_gone_is_made_again(tmp_path: Path) -> None:
    works = [work(1), work(2)]
    run(stage(Counted()), works, tmp_path)
    function = Counted()
    done = run(stage(function), works, tmp_path, is_whole=lambda value: value["double"] != 4)
    assert function.items == [2]
    assert all(each.product is not None for each in done.values())


def test_outcomes_may_come_in_any_order(tmp_path: Path) -> None:
    works = [work(number) for number in range(5)]
    done = list(run_stage(stage(Counted()), works, Reversed(), ResultCache(tmp_path)))
    assert [each.name for each in done] == [f"item {number}" for number in (4, 3, 2, 1, 0)]
    assert all(each.product and each.product.value == {"double": 2 * int(each.name[5:])} for each in done)


def test_nothing_to_do_does_not_start_the_engine(tmp_path: Path) -> None:
    class Broken:
        def run(
            self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
        ) -> Iterator[Outcome[Any]]:
            raise AssertionError("started")

    run(stage(Counted()), [work(1)], tmp_path)
    assert len(list(run_stage(stage(Counted()), [work(1)], Broken(), ResultCache(tmp_path)))) == 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1.5, 1.5), (np.float32(0.5), 0.5), (None, None), (float("nan"), None), (-np.inf, None)],
)
def test_numbers_that_json_cannot_hold_become_null(number: float | None, expected: float | None) -> None:
    found = plain(number)
    assert found == expected
    assert found is None or type(found) is float
