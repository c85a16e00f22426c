"""The engine's promises, held with real crashes, real time-outs and a real Ctrl-C."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders.engine import Failure, LocalEngine, Outcome
from manifests.errors import BuildError, RecipeError
from tests.builders import stages

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


def ended(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Wait until a condition holds; for a loaded machine, generously."""
    limit = time.monotonic() + patience_s
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def fates(outcomes: Iterator[Outcome[Any]]) -> dict[str, tuple[Any, Failure | None]]:
    """Outcomes by key, and no key twice."""
    found = list(outcomes)
    assert len({outcome.key for outcome in found}) == len(found)
    return {outcome.key: (outcome.result, outcome.error) for outcome in found}


def keyed(items: Any) -> Iterator[tuple[str, Any]]:
    return ((f"{number:03d}", item) for number, item in enumerate(items))


def test_outcomes_do_not_depend_on_the_number_of_jobs() -> None:
    items = list(keyed(range(20)))
    here = fates(LocalEngine(0).run(stages.reject_odd, items))
    assert here["004"] == ({"half": 2, "wave": [0.5] * 4}, None)
    assert here["005"] == (None, Failure("rejected", "item 5: odd; give an even one"))
    assert len(here) == 20
    assert fates(LocalEngine(2).run(stages.reject_odd, items)) == here


def test_running_out_of_memory_costs_one_item_with_and_without_workers() -> None:
    expected = {"000": (None, Failure("crash", "out of memory: 7 bytes"))}
    assert fates(LocalEngine(0).run(stages.run_out_of_memory, keyed([7]))) == expected
    assert fates(LocalEngine(1).run(stages.run_out_of_memory, keyed([7]))) == expected


def test_no_items_start_no_workers_and_give_no_outcomes() -> None:
    assert list(LocalEngine(2).run(stages.square, [])) == []


def test_a_crash_or_a_timeout_costs_its_own_item_and_no_other(tmp_path: Path) -> None:
    hows = ["SIGKILL", "abort", "exit 0", "hang"]
    names = [f"well {number}" for number in range(12)]
    for position, how in zip((0, 2, 7, 8), hows, strict=True):
        names.insert(position, how)
    engine = LocalEngine(2, timeout_s=1.5)
    outcomes = fates(engine.run(partial(stages.end_process, tmp_path), ((name, name) for name in names)))

    assert set(outcomes) == set(names)
    for name in names:
        if name.startswith("well"):
            assert outcomes[name] == (name, None)
    errors = {how: outcomes[how][1] for how in hows}
    assert {how: error.kind for how, error in errors.items() if error} == dict.fromkeys(hows, "crash") | {
        "hang": "timeout"
    }
    assert "SIGKILL" in str(errors["SIGKILL"])
    assert "SIGABRT" in str(errors["abort"])
    assert "code 0" in str(errors["exit 0"])
    assert errors["hang"] == Failure("timeout", "took longer than 1.5 s")
    tries = {how: len((tmp_path / how).read_text()) for how in hows}
    assert tries == {"SIGKILL": 2, "abort": 2, "exit 0": 2, "hang": 1}


def test_a_crashed_item_is_tried_again_with_nothing_beside_it(tmp_path: Path) -> None:
    names = ["a", "b", "fragile", *(f"later {number}" for number in range(24))]
    outcomes = fates(LocalEngine(3).run(partial(stages.crash_once, tmp_path), ((name, name) for name in names)))
    assert {key for key, (_, error) in outcomes.items() if error is None} == set(names)
    assert outcomes["fragile"] == ([], None)
    assert any(beside for beside, _ in outcomes.values()), "the others were meant to overlap"


def test_a_worker_that_is_killed_between_items_costs_none() -> None:
    def items() -> Iterator[tuple[str, int]]:
        for number in range(6):
            if first:
                os.kill(first.pop(), signal.SIGKILL)
            yield str(number), number

    first: list[int] = []
    outcomes = LocalEngine(1).run(stages.process_id, items())
    one = next(outcomes)
    assert one.result is not None
    first.append(one.result)
    rest = list(outcomes)
    assert {outcome.key for outcome in rest} | {one.key} == {str(number) for number in range(6)}
    assert all(outcome.error is None for outcome in rest)
    assert one.result not in {outcome.result for outcome in rest[-1:]}


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_bug_propagates_with_the_key_and_the_place_it_was_raised_at(jobs: int) -> None:
    with pytest.raises(KeyError, match="no such key") as caught:
        list(LocalEngine(jobs).run(stages.raise_bug, keyed(itertools.count())))
    notes = "".join(caught.value.__notes__)
    assert "'003'" in notes
    if jobs:
        assert 'return int({}["no such key"])' in notes


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        (stages.raise_awkward, "AwkwardError: strange number"),
        (stages.leave, "SystemExit: 0"),
        (stages.return_function, "pickle"),
    ],
)
def test_what_cannot_be_sent_back_ends_the_run_with_its_text(stage: Callable[[int], Any], text: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        list(LocalEngine(1).run(stage, keyed([1])))
    assert isinstance(caught.value, Exception)
    assert text in "".join([str(caught.value), *caught.value.__notes__])


@pytest.mark.parametrize("jobs", [0, 1])
def test_an_error_about_the_whole_run_ends_it(jobs: int) -> None:
    with pytest.raises(BuildError, match="No space left"):
        list(LocalEngine(jobs).run(stages.fill_disk, keyed(range(3))))


def test_a_stage_that_cannot_be_sent_to_a_worker_is_refused_at_once() -> None:
    with pytest.raises(Exception, match=r"pickle|local object"):
        next(LocalEngine(1).run(lambda number: number, keyed([1])))


def test_items_are_taken_as_they_are_needed() -> None:
    jobs, taken, given = 2, 0, 0

    def endless() -> Iterator[tuple[str, int]]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number), number

    outcomes = LocalEngine(jobs).run(stages.square, endless())
    for outcome in itertools.islice(outcomes, 30):
        given += 1
        assert outcome.result == int(outcome.key) ** 2
        assert taken - given <= 2 * jobs
    outcomes.close()
    assert taken - given <= 2 * jobs


def test_an_exception_in_the_source_of_items_propagates() -> None:
    def source() -> Iterator[tuple[str, int]]:
        yield "0", 0
        raise LookupError("the catalogue has moved")

    with pytest.raises(LookupError, match="the catalogue has moved"):
        list(LocalEngine(1).run(stages.square, source()))


def test_closing_the_iterator_ends_the_workers() -> None:
    outcomes = LocalEngine(2).run(stages.process_id, keyed(itertools.count()))
    pids = {outcome.result for outcome in itertools.islice(outcomes, 10)}
    assert pids
    assert os.getpid() not in pids
    outcomes.close()
    assert not any(is_alive(pid) for pid in pids if pid is not None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces RLIMIT_DATA")
def test_a_worker_may_not_hold_more_memory_than_allowed() -> None:
    engine = LocalEngine(1, max_memory_bytes=1 << 30)
    outcomes = fates(engine.run(stages.allocate, [("small", 1 << 20), ("large", 1 << 31)]))
    assert outcomes["small"] == (1, None)
    error = outcomes["large"][1]
    assert error is not None
    assert error.kind == "crash"
    assert error.detail.startswith("out of memory: Unable to allocate 2.00 GiB")


def test_a_crash_within_a_memory_limit_tells_of_the_limit(tmp_path: Path) -> None:
    engine = LocalEngine(1, max_memory_bytes=1_500_000_000)
    ((_, error),) = fates(engine.run(partial(stages.end_process, tmp_path), [("abort", "abort")])).values()
    assert error == Failure("crash", "the worker was ended by SIGABRT; it may hold 1.5 GB of memory")


def test_workers_have_one_thread_and_ignore_ctrl_c_while_the_driver_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    before = dict(os.environ)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"]
    outcomes = fates(LocalEngine(1).run(stages.environment, ((name, name) for name in names)))
    assert outcomes == dict.fromkeys(names, (("1", True), None))
    assert dict(os.environ) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == set()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"jobs": -1}, "jobs"),
        ({"jobs": 1, "timeout_s": 0.0}, "timeout_s"),
        ({"jobs": 1, "timeout_s": float("nan")}, "timeout_s"),
        ({"jobs": 1, "max_memory_bytes": 0}, "max_memory_bytes"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], name: str) -> None:
    with pytest.raises(RecipeError, match=name):
        LocalEngine(**settings)


# A driver to be stopped from outside. Its workers write for as long as they live.
DRIVER = """
    import os, signal, sys, time
    from pathlib import Path
    from builders.engine import LocalEngine

    folder = Path(sys.argv[1])

    def work(number):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            with (folder / f"{os.getpid()}.log").open("a") as file:
                file.write("x")
            time.sleep(0.01)

    def main():
        try:
            for outcome in LocalEngine(2).run(work, ((str(n), n) for n in range(8))):
                pass
        finally:
            (folder / "driver-ended").write_text(repr(time.monotonic()))

    if __name__ == "__main__":
        main()
"""


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process group of its own, whose two workers are at work in `tmp_path`."""
    process = start_script(tmp_path, DRIVER)
    try:
        assert ended(lambda: len(list(tmp_path.glob("*.log"))) == 2), "the workers did not start"
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def start_script(folder: Path, text: str) -> subprocess.Popen[str]:
    script = folder / "driver.py"
    script.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def worker_pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.log")]


def test_ctrl_c_ends_driver_and_workers_at_once_and_quietly(driver: subprocess.Popen[str], tmp_path: Path) -> None:
    pressed = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, errors = driver.communicate(timeout=PATIENCE_S)
    assert float((tmp_path / "driver-ended").read_text()) - pressed < 2.0
    assert not any(is_alive(pid) for pid in worker_pids(tmp_path))
    assert driver.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_workers_die_with_a_driver_that_is_killed(driver: subprocess.Popen[str], tmp_path: Path) -> None:
    pids = worker_pids(tmp_path)
    assert all(is_alive(pid) for pid in pids)
    driver.kill()
    assert ended(lambda: not any(is_alive(pid) for pid in pids))
    sizes = [path.stat().st_size for path in tmp_path.glob("*.log")]
    time.sleep(0.1)
    assert [path.stat().st_size for path in tmp_path.glob("*.log")] == sizes


def test_a_clock_that_jumps_costs_no_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, jumps = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + 1e6 * next(jumps))
    engine = LocalEngine(1, timeout_s=PATIENCE_S)
    outcomes = fates(engine.run(partial(stages.note_and_wait, tmp_path), ((name, name) for name in "abc")))
    assert [error for _, error in outcomes.values()] == [None] * 3


def test_a_machine_that_sleeps_costs_no_item(tmp_path: Path) -> None:
    patient = """
        import sys, time
        from pathlib import Path
        from builders.engine import LocalEngine

        def work(path):
            path.touch()
            for _ in range(15):
                time.sleep(0.1)

        if __name__ == "__main__":
            items = [("0", Path(sys.argv[1], "begun"))]
            print([outcome.error for outcome in LocalEngine(1, timeout_s=5).run(work, items)])
    """
    process = start_script(tmp_path, patient)
    try:
        assert ended((tmp_path / "begun").exists)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(6)  # longer than an item may take
        os.killpg(process.pid, signal.SIGCONT)
        output, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert (output, errors) == ("[None]\n", "")


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    unguarded = """
        from builders.engine import LocalEngine
        list(LocalEngine(1).run(abs, [("0", 0)]))
    """
    process = start_script(tmp_path, unguarded)
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert process.returncode == 1
    assert "RuntimeError: the worker exited with code 1 before it could start on an item" in errors
    assert "if __name__ ==" in errors.splitlines()[-1]


def test_what_libraries_print_is_dropped_and_what_python_prints_is_not(tmp_path: Path) -> None:
    talkative = """
        import logging, os, sys, warnings
        from builders.engine import LocalEngine

        def talk(number):
            os.write(2, b"[libmpg123] error: bad frame")
            print("printed", number, file=sys.stderr)
            logging.getLogger("ours").warning("logged")
            warnings.warn("warned")
            os.system("echo from a child >&2")

        if __name__ == "__main__":
            list(LocalEngine(1).run(talk, [("0", 0), ("1", 1)]))
            os.write(2, b"the driver is heard")
    """
    process = start_script(tmp_path, talkative)
    try:
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert process.returncode == 0
    lines = errors.splitlines()
    assert [line for line in lines if "warn" not in line] == [
        "printed 0", "logged", "printed 1", "logged", "the driver is heard",
    ]  # fmt: skip
    assert "UserWarning: warned" in errors


def test_workers_start_without_a_standard_error(tmp_path: Path) -> None:
    closed = """
        import os, sys
        from builders.engine import LocalEngine

        if __name__ == "__main__":
            if sys.argv[-1] != "closed":
                os.close(2)
                os.execv(sys.executable, [sys.executable, *sys.argv, "closed"])
            print([outcome.result for outcome in LocalEngine(1).run(abs, [("0", -7)])])
    """
    process = start_script(tmp_path, closed)
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert (process.returncode, output) == (0, "[7]\n")


def test_ctrl_c_does_not_reach_a_worker_that_is_starting(tmp_path: Path) -> None:
    deaf = """
        import signal, sys, time
        from pathlib import Path
        from builders.engine import LocalEngine

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, lambda *_: None)
            print([outcome.result for outcome in LocalEngine(1).run(abs, [("0", -7)])])
        else:
            (Path(__file__).parent / "starting").touch()
            time.sleep(0.5)
    """
    process = start_script(tmp_path, deaf)
    try:
        assert ended((tmp_path / "starting").exists)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert (output, errors) == ("[7]\n", "")
