"""Files that a scan need not read again, and those that it must."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from builders import known
from builders.known import KnownFiles, marks_of

NAMES = ["a.flac", "b/c d.flac", "b/é.flac"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files that count as settled at once."""
    monkeypatch.setattr(known, "_SETTLED_NS", -1)
    for name in NAMES:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "music"


def recorded(record: KnownFiles, folder: Path, names: list[str] = NAMES) -> None:
    marks = marks_of(folder, names)
    kept = record.content_ids(marks)
    with record.recording(kept, marks) as add:
        for name in names:
            if name not in kept:
                add(name, f"id of {name}")


def test_files_at_rest_are_known_again(folder: Path, tmp_path: Path) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    assert record.content_ids(marks_of(folder, NAMES)) == {}
    for _ in range(2):
        recorded(record, folder)
        assert record.content_ids(marks_of(folder, NAMES)) == {name: f"id of {name}" for name in NAMES}
    assert len((tmp_path / "files.jsonl").read_text().splitlines()) == 3


def test_a_file_that_was_written_to_is_read_again_even_if_its_size_and_time_are_put_back(
    folder: Path, tmp_path: Path
) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    recorded(record, folder)
    before = (folder / "a.flac").stat()
    time.sleep(0.02)  # the next tick of the file system's clock
    (folder / "a.flac").write_bytes(b"A.FLAC")
    os.utime(folder / "a.flac", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "a.flac").stat().st_mtime_ns == before.st_mtime_ns
    assert set(record.content_ids(marks_of(folder, NAMES))) == set(NAMES[1:])


def test_another_file_of_that_name_is_read(folder: Path, tmp_path: Path) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    recorded(record, folder)
    shutil.copy2(folder / "a.flac", tmp_path / "copy")
    os.replace(tmp_path / "copy", folder / "a.flac")
    assert set(record.content_ids(marks_of(folder, NAMES))) == set(NAMES[1:])


def test_files_that_were_changed_only_now_have_no_marks(tmp_path: Path) -> None:
    (tmp_path / "new.flac").write_bytes(b"x")
    assert marks_of(tmp_path, ["new.flac", "gone.flac"]) == {}


@pytest.mark.parametrize("torn", [b'["half', b"\0" * 4096, b"\n\n{}\n[1, 2, 3, 4]\n", b"\xff\xfe\n"])
def test_torn_lines_are_passed_over(folder: Path, tmp_path: Path, torn: bytes) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    recorded(record, folder)
    with record.path.open("ab") as file:
        file.write(torn)
    assert set(record.content_ids(marks_of(folder, NAMES))) == set(NAMES)
    recorded(record, folder)
    assert len(record.path.read_bytes().splitlines()) == 3


def test_the_record_of_another_folder_says_nothing(folder: Path, tmp_path: Path) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    recorded(record, folder)
    other = tmp_path / "other"
    os.rename(folder, other)
    assert KnownFiles(record.path, other).content_ids(marks_of(other, NAMES)) == {}


def test_a_killed_scan_leaves_what_it_had(folder: Path, tmp_path: Path) -> None:
    record = KnownFiles(tmp_path / "files.jsonl", folder)
    marks = marks_of(folder, NAMES)

    def scan() -> None:
        with record.recording({}, marks) as add:
            add(NAMES[0], "first")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan()
    assert record.content_ids(marks) == {NAMES[0]: "first"}
