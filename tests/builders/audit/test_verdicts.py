"""The file of verdicts: nothing that was answered is ever lost, and what a crash tore is told."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from builders.audit.verdicts import VerdictLog, read_verdicts
from manifests.audited import AUDIT
from manifests.errors import BuildError

ROOT = Path(__file__).parents[3]
SAID: dict[str, Any] = {
    "stem": None,
    "verdict": "rejected",
    "reason": "residue",
    "note": "",
    "nudge_frames": 0.0,
    "order": "random",
    "reviewer": "ann",
    "content_ids": {"vocals": "00ff"},
}


def append(log: VerdictLog, key: str, **more: Any) -> int:
    return log.append(**{**SAID, "song_id": f"song {key}", "key": key, **more}).seq


def file_of(build: Path) -> Path:
    return build / AUDIT / "verdicts.jsonl"


def test_a_verdict_is_a_line_that_reads_back_equal(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path)
    verdict = log.append(**{**SAID, "song_id": "höhe \n \u2028 \ud800", "key": "k", "note": '"<script>'})
    assert read_verdicts(tmp_path) == [verdict]
    assert VerdictLog(tmp_path).all() == [verdict]
    assert file_of(tmp_path).read_bytes().count(b"\n") == 1
    assert verdict.time.endswith("+00:00")


def test_numbers_go_on_where_they_ended(tmp_path: Path) -> None:
    first = VerdictLog(tmp_path)
    assert [append(first, "a"), append(first, "b")] == [1, 2]
    first.close()
    assert append(VerdictLog(tmp_path), "c") == 3


def test_a_request_that_is_sent_twice_is_written_once(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path)
    assert [append(log, "a"), append(log, "b"), append(log, "a")] == [1, 2, 1]
    assert append(VerdictLog(tmp_path), "b") == 2
    assert len(read_verdicts(tmp_path)) == 2


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [append(log, f"{n}/{i % 20}") for i in range(25)]) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_verdicts(tmp_path)
    assert [verdict.seq for verdict in found] == list(range(1, 161))
    assert len({verdict.key for verdict in found}) == 160


@pytest.mark.parametrize("cut", [2, 20, 100])
def test_a_torn_line_is_moved_aside_and_told(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    log = VerdictLog(tmp_path)
    append(log, "a")
    append(log, "b")
    log.close()
    path = file_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:-cut])
    with caplog.at_level(logging.WARNING):
        mended = VerdictLog(tmp_path)
    assert "was torn" in caplog.text
    assert f"now in {tmp_path / AUDIT / 'verdicts.torn'}" in caplog.text
    assert len(caplog.records) == 1
    assert path.read_bytes() == lines[0]
    assert (tmp_path / AUDIT / "verdicts.torn").read_bytes().strip() in lines[1]
    assert append(mended, "c") == 2
    assert [verdict.key for verdict in read_verdicts(tmp_path)] == ["a", "c"]


def test_a_whole_line_whose_end_an_editor_took_is_kept(tmp_path: Path) -> None:
    append(VerdictLog(tmp_path), "a")
    path = file_of(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert append(VerdictLog(tmp_path), "b") == 2
    assert [verdict.key for verdict in read_verdicts(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"nonsense", b"\xff\xfe", b'{"seq":"1"}', b"[" * 5000, b'{"verdict":"perhaps"}']
)
def test_a_line_that_is_no_verdict_is_passed_over_and_told(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    log = VerdictLog(tmp_path)
    append(log, "a")
    path = file_of(tmp_path)
    path.write_bytes(line + b"\n" + path.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert [verdict.key for verdict in read_verdicts(tmp_path)] == ["a"]
    (told,) = caplog.messages
    assert "line 1 is no verdict" in told
    assert path.read_bytes().startswith(line)


def test_many_lines_that_are_no_verdicts_are_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(VerdictLog(tmp_path), "a")
    path = file_of(tmp_path)
    path.write_bytes(path.read_bytes() + b"nonsense\n\n" * 40)
    assert len(read_verdicts(tmp_path)) == 1
    (told,) = caplog.messages
    assert "40 lines are no verdicts" in told
    assert "the first is line 2" in told


def test_reading_leaves_a_line_that_is_being_written_where_it_is_and_tells_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(VerdictLog(tmp_path), "a")
    data = file_of(tmp_path).read_bytes()
    file_of(tmp_path).write_bytes(data + data[:50])
    assert [verdict.key for verdict in read_verdicts(tmp_path)] == ["a"]
    assert file_of(tmp_path).read_bytes() == data + data[:50]
    (told,) = caplog.messages
    assert "the last line is not whole" in told


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_refuses_leaves_the_file_as_it_was(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = VerdictLog(tmp_path)
    append(log, "a")
    before = file_of(tmp_path).read_bytes()

    def full(handle: int, *data: bytes) -> int:
        if call == "write":
            os.pwrite(handle, data[0][:10], len(before))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"builders.audit.verdicts.os.{call}", full)
        with pytest.raises(BuildError, match=r"verdicts cannot be written \(No space left"):
            append(log, "b")
    assert file_of(tmp_path).read_bytes() == before
    assert append(log, "b") == 2


def test_half_a_line_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = VerdictLog(tmp_path)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr("builders.audit.verdicts.os.write", lambda handle, data: real(handle, data[:30]))
        with pytest.raises(BuildError, match="the disk is full"):
            append(log, "a")
    assert file_of(tmp_path).read_bytes() == b""


def test_a_killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from builders.audit.verdicts import VerdictLog\n"
        f"said = {SAID!r}; log = VerdictLog(Path(sys.argv[1])); n = log.seq\n"
        "while True:\n"
        "    n += 1; print(log.append(**said, song_id='s', key=str(n)).seq, flush=True)\n"
    )
    answered = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(20):
            answered = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines(keepends=True)
        process.wait()
        answered = max([answered, *(int(line) for line in rest if line.endswith("\n"))])
        numbers = [verdict.seq for verdict in read_verdicts(tmp_path)]
        assert numbers[:answered] == list(range(1, answered + 1))
        assert len(numbers) <= answered + 1  # one that was written, and not yet answered


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / AUDIT).write_text("a file")
    with pytest.raises(BuildError, match="verdicts cannot be written"):
        VerdictLog(tmp_path)


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path) == []
    assert not (tmp_path / AUDIT).exists()


def test_lines_are_json_of_the_documented_fields(tmp_path: Path) -> None:
    append(VerdictLog(tmp_path), "a")
    assert list(json.loads(file_of(tmp_path).read_text())) == [
        *("seq", "time", "reviewer", "song_id", "stem", "verdict", "reason"),
        *("note", "nudge_frames", "order", "key", "content_ids"),
    ]
