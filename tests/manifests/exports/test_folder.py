"""A folder takes its name when it is complete, and nothing is overwritten."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import AudioError, BuildError
from manifests.exports.folder import new_folder, refuse_taken
from manifests.files import TEMPORARY_PREFIX

HIDDEN = f"{TEMPORARY_PREFIX}out.tmp"


def fill(out):
    with new_folder(out) as folder:
        (folder / "a").write_bytes(b"new")


def fill_and_fail(out):
    with new_folder(out) as folder:
        (folder / "a").write_bytes(b"new")
        raise AudioError("bad sample")


def test_a_folder_appears_when_it_is_complete(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        (folder / "a").write_bytes(b"x")
        assert not out.exists()
        assert folder.parent == out.parent
        assert folder.name.startswith(".")
    assert os.listdir(out) == ["a"]
    assert os.listdir(out.parent) == ["out"]


def test_an_empty_folder_is_filled_and_a_link_to_one_stays_a_link(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    fill(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "out") == ["a"]


def test_an_exception_leaves_nothing_and_passes_through(tmp_path):
    with pytest.raises(AudioError, match="bad sample"):
        fill_and_fail(tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_folder_with_something_in_it_is_refused_and_untouched(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".hidden").write_bytes(b"old")
    for refuse in (fill, refuse_taken):
        with pytest.raises(BuildError, match=r"out: already holds '\.hidden', and nothing is overwritten"):
            refuse(out)
    assert (out / ".hidden").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_and_a_mount_point_are_refused(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(BuildError, match="out: is a file; choose a folder that is new or empty"):
        fill(tmp_path / "out")
    with pytest.raises(BuildError, match="is a mount point"):
        fill(Path("/"))
    with pytest.raises(BuildError, match="cannot be written"):
        fill(tmp_path / "out" / "below")


def test_what_others_put_there_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out"

    def race():
        with new_folder(out) as folder:
            (folder / "a").write_bytes(b"new")
            out.mkdir()
            (out / "b").write_bytes(b"theirs")

    with pytest.raises(BuildError, match="something was put there meanwhile"):
        race()
    assert os.listdir(out) == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_two_at_once_are_refused(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"x")
        with pytest.raises(BuildError, match="another process is writing to this folder"):
            fill(tmp_path / "out")
        fill(tmp_path / "other")
        assert (folder / "a").exists()
    assert sorted(os.listdir(tmp_path)) == ["other", "out"]


def test_a_file_system_that_locks_no_folders_is_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    fill(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["a"]


def test_a_killed_process_leaves_no_folder_of_that_name_and_the_next_one_cleans_up(tmp_path):
    code = (
        "import os, pathlib, sys; from manifests.exports.folder import new_folder\n"
        "with new_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'train').mkdir(); (folder / 'train' / 'half').write_bytes(b'x')\n"
        "    (folder / 'link').symlink_to(folder / 'train'); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert done.returncode == -9
    assert os.listdir(tmp_path) == [HIDDEN]
    fill(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(tmp_path / "out") == ["a"]
