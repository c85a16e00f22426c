"""Files appear whole or not at all."""

import os
import stat
import subprocess
import sys

import pytest

from manifests import files
from manifests.errors import AudioError, BuildError
from manifests.files import TEMPORARY_PREFIX, replacing


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with replacing(path) as file:
        file.write(b"half")
        assert not path.exists()
        assert [name.startswith(TEMPORARY_PREFIX) for name in os.listdir(path.parent)] == [True]
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(path.parent) == ["a.bin"]


def write_half_and_fail(path):
    with replacing(path) as file:
        file.write(b"new")
        raise AudioError("bad sample")


def test_an_exception_leaves_the_old_file_and_passes_through(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(AudioError, match="bad sample"):
        write_half_and_fail(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    path, calls = tmp_path / "a.bin", []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_size if not path.exists() else "folder"))
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append(("replace", target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    with replacing(path) as file:
        file.write(b"12345")
    assert calls == [("fsync", 5), ("replace", path), ("fsync", "folder")]


def test_others_may_read_what_was_written(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.bin") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o644


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_build_error_with_the_fix(tmp_path, monkeypatch):
    def full(temporary):
        return os.fdopen(os.open("/dev/full", os.O_RDWR), "w+b")

    monkeypatch.setattr(files, "_created", full)
    path = tmp_path / "a.bin"
    with pytest.raises(BuildError, match=r"a\.bin: cannot be written \(No space left on device\); free some space"):
        write_x(path)
    assert not path.exists()


def write_x(path):
    with replacing(path) as file:
        file.write(b"x")


def test_a_folder_or_a_file_in_the_way_is_a_build_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match=r"b: cannot be written .*a parent of this path is a file"):
        write_x(tmp_path / "file" / "folder" / "b")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BuildError, match="remove the folder of that name"):
        write_x(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_killed_process_leaves_no_file_of_that_name(tmp_path):
    code = (
        "import os, pathlib, sys; from manifests.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'x' * 100_000); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "a.bin"
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == -9
    assert not path.exists()
    assert [name.startswith(TEMPORARY_PREFIX) for name in os.listdir(tmp_path)] == [True]
