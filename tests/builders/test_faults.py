"""What happens to a build from outside: files that go, disks that fill, processes that are killed.

Whatever it is, the same build run again makes the same bytes as an undisturbed one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builders.check import check_build
from builders.engine import LITTLE, LocalEngine, Needs, Outcome
from manifests.corpus import Corpus
from manifests.errors import BuildError
from tests.builders.mortal_builds import survey_or_die
from tests.builders.small_catalog import (
    MIN_SONG_S,
    Meddler,
    build,
    chosen_paths,
    contents,
    mixture,
    parts,
    rejections,
    stage_name,
    write_file,
    write_pair,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
MIXTURE, INSTRUMENTAL = "Song 0.flac", "Song 0 (Instrumental).flac"


def write_music(folder: Path) -> Path:
    """Two pairs of short songs."""
    for number in (0, 1):
        write_pair(folder, number)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return contents(build(write_music(folder / "music"), folder / "out").folder)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., dict[str, int]]]:
    """Has builds killed by a process that has imported everything already."""
    command = [sys.executable, "-m", "tests.builders.mortal_builds", str(tmp_path_factory.mktemp("rehearsal"))]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders, answers = process.stdin, process.stdout

        def ask(*order: str | Path) -> dict[str, int]:
            orders.write(json.dumps([str(word) for word in order]) + "\n")
            return dict(json.loads(answers.readline()))

        yield ask


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return write_music(tmp_path / "music")


def ended(condition: Callable[[], object]) -> bool:
    """Wait until a condition holds."""
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit and not condition():
        time.sleep(0.02)
    return bool(condition())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found


def before_first(stage: str, action: Callable[[], object]) -> Callable[[str, str], None]:
    """Something that happens before a stage starts on its first item."""
    done: list[str] = []

    def meddle(name: str, key: str) -> None:
        if name == stage and not done:
            done.append(key)
            action()

    return meddle


def disturbed(music: Path, out: Path, meddle: Callable[[str, str], None]) -> Corpus:
    return build(music, out, settings={"engine": Meddler(meddle)})


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more of it")


def exchange(path: Path) -> None:
    write_file(path, mixture(5))


@pytest.mark.parametrize(
    ("stage", "action", "reject"),
    [
        ("hash_file", Path.unlink, ("scan", "unreadable", "No such file")),
        ("survey_file", Path.unlink, ("scan", "unreadable", "no such file")),
        ("survey_file", grow, ("scan", "unreadable", "changed while it was read")),
        ("survey_file", exchange, ("scan", "unreadable", "changed while it was read")),
        ("compare_pair", Path.unlink, None),
        ("compare_pair", grow, None),
        ("write_triplet", Path.unlink, ("derive", "unreadable", "no such file")),
        ("write_triplet", exchange, ("derive", "unreadable", "changed while it was read")),
    ],
)
def test_a_file_that_goes_or_changes_costs_its_pair_and_is_taken_up_when_it_is_back(
    tmp_path: Path,
    music: Path,
    undisturbed: dict[str, bytes],
    stage: str,
    action: Callable[[Path], None],
    reject: tuple[str, str, str] | None,
) -> None:
    victims = [music / name for name in (INSTRUMENTAL, "Song 1 (Instrumental).flac")]
    kept = [victim.read_bytes() for victim in victims]
    # the first file by its path, or, since nobody says which pair is compared first, one of each
    hit = victims[:1] if stage in ("hash_file", "survey_file") else victims

    def disturb() -> None:
        for path in hit:
            action(path)

    corpus = disturbed(music, tmp_path / "out", before_first(stage, disturb))
    assert len(corpus.songs()) == 2 - len(hit)
    assert list(check_build(corpus.folder)) == []
    if reject is None:
        assert corpus.pairs is not None
        rows = [row for row in corpus.pairs.to_dict("records") if str(row["reason"]).startswith("unreadable: ")]
        assert {row["status"] for row in rows} == {"refused"}
        assert {row["instrumental_path"] for row in rows} >= {victim.name for victim in victims}
    else:
        found = rejections(corpus)
        assert len(found) == len(hit)
        for path, (where, reason, detail) in found.items():
            assert (where, reason) == reject[:2]
            assert reject[2] in detail
            assert path in (INSTRUMENTAL, MIXTURE, "Song 1.flac")
    for victim, data in zip(victims, kept, strict=True):
        victim.write_bytes(data)
    assert contents(build(music, tmp_path / "out").folder) == undisturbed


def test_a_copy_stands_in_for_a_file_that_goes(tmp_path: Path) -> None:
    first, _ = write_pair(tmp_path / "music", 0)
    copy = tmp_path / "music" / "copy" / first.name
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    corpus = disturbed(tmp_path / "music", tmp_path / "out", before_first("survey_file", first.unlink))
    assert rejections(corpus).keys() == {MIXTURE}
    assert chosen_paths(corpus) == {(f"copy/{MIXTURE}", INSTRUMENTAL)}


def test_a_folder_that_goes_leaves_a_build_that_says_so(tmp_path: Path, music: Path) -> None:
    def take_away() -> None:
        music.rename(tmp_path / "elsewhere")

    corpus = disturbed(music, tmp_path / "out", before_first("survey_file", take_away))
    assert {row[:2] for row in rejections(corpus).values()} == {("scan", "unreadable")}
    assert len(rejections(corpus)) == 4
    assert corpus.songs() == []


class DeadlySurvey:
    """An engine whose survey runs in real workers, one of which is killed on one file."""

    def __init__(self, victim: str) -> None:
        self.victim = victim

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        if stage_name(stage) == "survey_file":
            return LocalEngine(1).run(partial(survey_or_die, self.victim), items)
        return LocalEngine(0).run(stage, items)


def test_a_worker_killed_by_sigkill_costs_one_item(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes]
) -> None:
    write_file(music / "A.flac", parts(3)[1])
    corpus = build(music, tmp_path / "out", settings={"engine": DeadlySurvey("A.flac")})
    assert len(corpus.songs()) == 2
    ((path, (stage, reason, detail)),) = rejections(corpus).items()
    assert (path, stage, reason) == ("A.flac", "scan", "worker crashed")
    assert "SIGKILL" in detail
    (music / "A.flac").unlink()
    assert contents(build(music, tmp_path / "out").folder) == undisturbed


def test_ten_kills_at_random_moments_leave_no_trace(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes], mortal: Callable[..., dict[str, int]]
) -> None:
    seen = mortal("random", music, tmp_path / "out")
    assert seen["killed"] == 10
    assert contents(build(music, tmp_path / "out").folder) == undisturbed
    assert list(check_build(tmp_path / "out")) == []


def test_death_before_any_rename_leaves_no_trace(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes], mortal: Callable[..., dict[str, int]]
) -> None:
    seen = mortal("renames", music, tmp_path / "out")
    assert seen["claimed"] == 0, "the stems table comes last"
    assert seen["killed"] >= 12
    assert contents(tmp_path / "out") == undisturbed
    assert not list((tmp_path / "out").rglob(".stemloom-*"))
    assert list(check_build(tmp_path / "out")) == []


def command_line(music: Path, out: Path, jobs: int) -> list[str]:
    flags = ["--jobs", str(jobs), "--min-song-s", str(MIN_SONG_S)]
    return [sys.executable, "stemloom.py", "build", "catalog", str(music), "--out", str(out), *flags]


@contextlib.contextmanager
def at_work(music: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A build by the command line, with a worker, that has taken its folder."""
    process = subprocess.Popen(
        command_line(music, out, jobs=1),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lock = out / ".lock"
    try:
        with process:
            assert ended(lambda: lock.exists() and lock.read_text() == f"{process.pid}\n")
            yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not tell of child processes")
def test_a_killed_driver_takes_its_workers_along_ctrl_c_and_sigterm_end_with_their_codes_and_all_resume(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    with at_work(music, out) as process:
        assert ended(lambda: any(out.glob(".cache/*/*.json")))
        workers = descendants(process.pid)
        assert workers
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert ended(lambda: not any(map(is_alive, workers)))
    assert not (out / "stems.parquet").exists()

    # as a terminal does, and as a scheduler does
    for number, send, code in ((signal.SIGINT, os.killpg, 130), (signal.SIGTERM, os.kill, 143)):
        with at_work(music, out) as process:
            assert ended(lambda pid=process.pid: descendants(pid))
            send(process.pid, number)
            _, messages = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, messages) == (code, "stopped; the same command resumes\n")
        assert not (out / "stems.parquet").exists()

    assert contents(build(music, out).folder) == undisturbed


def test_a_file_size_limit_stops_the_build_and_it_resumes_without(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(BuildError, match=r"(mixture|instrumental)\.flac: cannot be written \(File too large\)"):
            build(music, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out" / "stems.parquet").exists()
    assert not list((tmp_path / "out").rglob(".stemloom-*"))
    assert contents(build(music, tmp_path / "out").folder) == undisturbed


def test_a_disk_that_fills_up_stops_the_build_wherever_it_is_and_it_resumes(
    tmp_path: Path, music: Path, undisturbed: dict[str, bytes]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    try:
        refusals = []
        for power in range(4, 20):
            subprocess.run(["mount", "-o", f"remount,size={2**power}k", str(disk)], check=True, capture_output=True)
            try:
                build(music, disk / "out")
                break
            except BuildError as error:
                refusals.append(str(error))
                assert not list((disk / "out").rglob(".stemloom-*"))
                assert not list((disk / "out").glob("stems.*"))
        assert len(refusals) >= 4
        assert all("free some space, then run the same command again: it resumes" in text for text in refusals)
        assert any("/audio/" in text for text in refusals)
        assert any("/.cache/" in text for text in refusals)
        assert contents(disk / "out") == undisturbed
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, capture_output=True)
