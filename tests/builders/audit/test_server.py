"""Serving a build in a process of its own: one at a time, verdicts applied at both ends, killed without loss."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import stemloom
from builders.audit.verdicts import read_verdicts
from manifests.tables import read_table
from tests.builders.audit.said import say
from tests.builders.small_build import edit, make_build

ROOT = Path(__file__).parents[3]
Run: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return make_build(tmp_path / "build", songs=2)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: its code, what it said, what it complained of, each on one line."""

    def run(build: Path, *flags: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            stemloom.main(["audit", str(build), *flags])
        said = capsys.readouterr()
        return int(ended.value.code or 0), *(" ".join(text.split()) for text in said)

    return run


class Server:
    """`stemloom audit` in a process."""

    def __init__(self, build: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stemloom", "audit", str(build), "--no-open", *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.address = next((word for word in self.said.split() if word.startswith("http")), "")

    def ask(self, path: str, said: dict[str, Any] | None = None) -> Any:
        body = None if said is None else json.dumps(said).encode()
        request = urllib.request.Request(self.address + path, body, {"content-type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    def judge(self, song_id: str, verdict: str, key: str) -> Any:
        said = {"song_id": song_id, "verdict": verdict, "reason": "noise", "order": "title", "key": key}
        return self.ask("verdicts", said)

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def started() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.process.kill()
        server.process.communicate()


def audit_of(build: Path) -> list[str]:
    return read_table(build, "stems")["audit"].to_list()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_verdicts_are_in_the_stems_table_when_it_ends(build: Path, started: list[Server], number: int) -> None:
    started.append(Server(build, "--reviewer", "bob", "--order", "title"))
    server = started[0]
    assert server.said.startswith("hear and judge: http://127.0.0.1:")
    assert server.said.endswith("/  (Ctrl-C ends)\n")
    assert server.ask("queue")["order"] == "title"
    server.judge("song1", "rejected", "k")
    code, out, err = server.end(number)
    assert (code, err) == (0, "")
    assert f"{build}: stems are 0 accepted, 3 rejected, 3 unheard" in out
    assert audit_of(build) == ["unheard"] * 3 + ["rejected"] * 3
    assert read_verdicts(build)[0].reviewer == "bob"


def test_a_second_server_says_who_serves_the_build(build: Path, started: list[Server], run: Run) -> None:
    started.append(Server(build))
    code, _, complaint = run(build, "--no-open")
    assert code == 1
    assert f"another server of 'stemloom audit' (pid {started[0].process.pid})" in complaint
    assert started[0].ask("progress")["songs"] == 2


def test_a_killed_server_loses_no_verdict_and_the_next_applies_it(build: Path, started: list[Server]) -> None:
    started.append(Server(build))
    for number in range(5):
        assert started[0].judge("song0", "rejected", str(number))["seq"] == number + 1
    started[0].end(signal.SIGKILL)
    assert len(read_verdicts(build)) == 5
    assert set(audit_of(build)) == {"unheard"}
    path = build / "audit/verdicts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq":6,"ti')  # what it was writing
    started.append(Server(build))
    assert started[1].ask("verdicts")["seq"] == 5
    assert audit_of(build) == ["rejected"] * 3 + ["unheard"] * 3
    complaint = started[1].end(signal.SIGINT)[2]
    assert complaint.count("was torn") == 1
    assert "audit/verdicts.torn" in "".join(complaint.split())


def test_what_does_not_count_is_told_once(build: Path, started: list[Server]) -> None:
    say(build, "song0", "rejected")
    edit(build, "stems", lambda rows: [row.update(song_id="song7") for row in rows if row["song_id"] == "song0"])
    path = build / "audit/verdicts.jsonl"
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    started.append(Server(build))
    complaint = " ".join(started[0].end(signal.SIGINT)[2].split())
    assert complaint.count("1 verdict of songs or stems that are not in the build any more does not count") == 1
    assert complaint.count("line 1 is no verdict") == 1


def test_a_port_that_is_taken_is_told(build: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, complaint = run(build, "--no-open", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "cannot be had" in complaint


def test_verdicts_are_applied_and_exported_without_serving(build: Path, tmp_path: Path, run: Run) -> None:
    say(build, "song0", "rejected")
    say(build, "song1", "accepted")
    edit(build, "stems", lambda rows: [row.update(content_id="00") for row in rows if row["song_id"] == "song1"])
    out = tmp_path / "said.jsonl"
    code, said, complaint = run(build, "--apply", "--export", str(out))
    assert code == 0
    assert f"{out}: 2 verdicts" in said
    assert "stems are 0 accepted, 3 rejected, 3 unheard" in said
    assert "has changed since it was heard" in complaint
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["song_id"], row["counts"]) for row in rows] == [("song0", "yes"), ("song1", "changed")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--export", "said.xlsx"), "ends in .csv or .jsonl"),
        (("--within", "0"), "within"),
        (("--order", "best"), "order"),
    ],
)
def test_bad_flags(build: Path, flags: tuple[str, ...], said: str, run: Run) -> None:
    code, _, complaint = run(build, *flags, "--no-open")
    assert code == 2
    assert said in complaint


def test_one_verdict_is_told_as_one_and_the_file_is_replaced(build: Path, tmp_path: Path, run: Run) -> None:
    say(build, "song0", "rejected")
    out = tmp_path / "said.csv"
    for _ in range(2):
        code, said, _ = run(build, "--export", str(out))
        assert (code, said) == (0, f"{out}: 1 verdict")
    assert len(out.read_text().splitlines()) == 2


def test_a_folder_that_is_no_build_is_left_alone(tmp_path: Path, run: Run) -> None:
    code, _, complaint = run(tmp_path, "--no-open")
    assert code == 1
    assert "holds no stems table" in complaint
    assert list(tmp_path.iterdir()) == []


def test_the_missing_packages_are_named(build: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "builders.audit.server", raising=False)
    code, _, complaint = run(build)
    assert code == 2
    assert "pip install 'stemloom[audit]'" in complaint
