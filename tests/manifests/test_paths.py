"""Paths from tables stay under their root."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import TableError
from manifests.paths import is_portable, resolve


@pytest.mark.parametrize(
    "path",
    ["a.wav", "a/b c/d.flac", "日本/歌.mp3", "a..b/..c.wav", "C: Drive.mp3", "./a.wav", "a\\b.wav", "..."],
)
def test_relative_paths_are_put_under_the_root(path):
    assert is_portable(path)
    assert resolve(Path("/root/corpus"), path).is_relative_to("/root/corpus")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../a",
        "a/../../b",
        "a/..",
        "\\\\host\\a",
        "..\\a",
        "a\\..\\..\\b",
        "C:\\a",
        "c:/a",
        "a\0b",
    ],
)
def test_paths_that_could_leave_the_root_are_refused(path):
    assert not is_portable(path)
    with pytest.raises(TableError, match="is not a relative POSIX path that stays under /root"):
        resolve(Path("/root"), path)


@given(st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "c:", " "]), max_size=8).map("".join))
def test_no_path_that_passes_leaves_the_root(path):
    if is_portable(path):
        parts = resolve(Path("/root/corpus"), path).parts
        assert parts[:3] == ("/", "root", "corpus")
        assert ".." not in parts
