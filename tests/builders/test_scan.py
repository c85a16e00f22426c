"""The walk loses nothing, and a survey measures what closed forms and reference implementations say."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.scan import (
    ROOT,
    FoundFile,
    Reject,
    hash_file,
    read_found,
    refuse_changed,
    survey_file,
    track_row,
    walk_folder,
)
from curation.chromaprint import fingerprint, to_pcm
from manifests.audio import Audio, content_id, read, write
from manifests.errors import AudioError
from manifests.loudness import loudness_lufs
from manifests.paths import is_portable
from manifests.tables import frame_of
from tests.builders.small_catalog import RATE, mixture, write_file
from tests.synthesis import tone


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(folder: Path, name: str) -> FoundFile:
    return FoundFile(str(folder), name, content_id(folder / name))


def reasons(rejects: list[Reject]) -> dict[str, str]:
    assert len({reject.path for reject in rejects}) == len(rejects)
    return {reject.path: reject.reason for reject in rejects}


def silence(seconds: float) -> Audio:
    return np.zeros((2, round(seconds * RATE)), np.float32)


def surveyed(folder: Path, audio: Audio, sample_rate: int = RATE) -> dict[str, Any]:
    write(folder / "a.flac", audio, sample_rate)
    return survey_file(found(folder, "a.flac")).value


def test_audio_is_listed_sorted_and_relative_and_the_rest_is_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.FLAC", "b/1.mp3", "a.wav", "b.m4a", "cover.jpg", "b/notes", "é/ü.ogg", "old.WMA")
    paths, rejects = walk_folder(tmp_path)
    assert paths == ["a.wav", "b.m4a", "b/1.mp3", "b/2.FLAC", "é/ü.ogg"]
    assert reasons(rejects) == {"b/notes": "not audio", "cover.jpg": "not audio", "old.WMA": "unread format"}
    assert "'.jpg'" in rejects[1].detail


def test_a_folder_that_is_none_is_an_error_that_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "song.mp3")
    for path in (tmp_path / "song.mp3", tmp_path / "absent"):
        with pytest.raises(AudioError, match=f"{path}: is no folder"):
            walk_folder(path)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(
                st.sampled_from(
                    ["..\\a.mp3", "\\b.wav", "C:\\c.flac", "a\nb.mp3", "\u202egpj.mp3", "-.ogg", "c:/"]
                ),
                st.text(max_size=12),
            ),
            min_size=1,
            max_size=3,
        ),
        max_size=6,
    )
)
def test_every_file_is_either_listed_or_rejected_and_what_is_listed_fits_a_table(names: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for parts in names:
            plain = [re.sub(r"/|^\.*$", "_", part)[:12] for part in parts]
            path = os.path.join(folder, *plain) + ".mp3"
            # NUL, a file where a folder should be: no such file on this system
            with contextlib.suppress(OSError, ValueError):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                Path(path).touch()
        files = {os.path.join(top, file) for top, _, inside in os.walk(folder) for file in inside}
        paths, rejects = walk_folder(folder)
        assert all(is_portable(path) for path in paths)
        listed = {os.path.join(folder, path) for path in paths}
        assert listed <= files
        lost = files - listed
        refused = tuple(os.path.join(folder, reject.path) for reject in rejects)
        assert all(any(file == path or file.startswith(f"{path}/") for path in refused) for file in lost)


def test_a_name_that_leads_out_of_the_catalogue_is_rejected_not_fatal(tmp_path: Path) -> None:
    touch(tmp_path, "..\\up.mp3", "\\root.mp3", "C:\\Music\\song.mp3", "AC\\DC.mp3")
    paths, rejects = walk_folder(tmp_path)
    assert paths == ["AC\\DC.mp3"]
    assert set(reasons(rejects).values()) == {"file name"}
    assert len(rejects) == 3


def test_a_name_that_is_not_utf8_is_rejected_with_its_bytes(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp3", "wb"):
        pass
    os.mkdir(os.fsencode(tmp_path) + b"/b\xf6x")
    paths, rejects = walk_folder(tmp_path)
    assert paths == []
    assert reasons(rejects) == {"caf\\udce9.mp3": "file name", "b\\udcf6x": "file name"}


def test_link_loops_and_broken_links_end_as_rejects(tmp_path: Path) -> None:
    touch(tmp_path, "a/song.mp3")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "here").symlink_to(".")
    (tmp_path / "self.mp3").symlink_to("self.mp3")
    (tmp_path / "gone.mp3").symlink_to("nowhere.mp3")
    os.mkfifo(tmp_path / "pipe.mp3")
    paths, rejects = walk_folder(tmp_path)
    assert paths == ["a/song.mp3"]
    assert reasons(rejects) == {
        "a/up": "link",
        "a/here": "link",
        "self.mp3": "not a file",
        "gone.mp3": "not a file",
        "pipe.mp3": "not a file",
    }


def test_folders_that_link_to_each_other_are_listed_once(tmp_path: Path) -> None:
    for name in "abcdefghijkl":
        touch(tmp_path, f"{name}/{name}.mp3")
        for other in "abcdefghijkl":  # 12! ways around
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    paths, rejects = walk_folder(tmp_path)
    assert paths == [f"{name}/{name}.mp3" for name in "abcdefghijkl"]
    assert set(reasons(rejects).values()) == {"link"}


def test_links_out_of_the_catalogue_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.mp3", "music/a.mp3")
    (tmp_path / "music" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "music" / "c.mp3").symlink_to(tmp_path / "elsewhere" / "b.mp3")
    assert walk_folder(tmp_path / "music") == (["a.mp3", "c.mp3", "more/b.mp3"], [])


def test_folders_may_nest_deeper_than_python_recurses(tmp_path: Path) -> None:
    name = "d/" * 300 + "song.mp3"
    touch(tmp_path, name)
    limit = sys.getrecursionlimit()
    depth = len(inspect.stack())
    try:
        sys.setrecursionlimit(depth + 100)
        assert walk_folder(tmp_path) == ([name], [])
    finally:
        sys.setrecursionlimit(limit)


def test_the_content_id_is_of_the_bytes_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp3", "b.wav")
    ids = [hash_file(FoundFile(str(tmp_path), name)).value["content_id"] for name in ("a.mp3", "b.wav")]
    assert ids[0] == ids[1] == content_id(tmp_path / "a.mp3")


@pytest.mark.parametrize("sample_rate", [8000, 22050, 192000])
def test_music_starts_and_ends_where_it_is_louder_than_minus_60_db(tmp_path: Path, sample_rate: int) -> None:
    quiet = tone(440, sample_rate // 2, sample_rate, amplitude=10 ** (-60 / 20))  # its RMS is 3 dB lower
    audible = tone(440, sample_rate, sample_rate, amplitude=10 ** (-56 / 20))
    survey = surveyed(tmp_path, np.concatenate([quiet, audible, quiet, quiet], axis=1), sample_rate)
    assert survey["num_frames"] == 5 * sample_rate // 2
    assert survey["music_start_frame"] == pytest.approx(sample_rate // 2, abs=0.05 * sample_rate)
    assert survey["music_end_frame"] == pytest.approx(sample_rate * 3 // 2, abs=0.05 * sample_rate)


@pytest.mark.parametrize("level", [0.0, 0.5, -1.0])
def test_silence_and_a_constant_hold_no_music(tmp_path: Path, level: float) -> None:
    survey = surveyed(tmp_path, silence(1.0) + np.float32(level))
    assert survey["music_start_frame"] is None
    assert survey["music_end_frame"] is None
    assert survey["loudness_lufs"] is None


def test_music_on_one_side_counts_and_a_constant_beneath_it_does_not(tmp_path: Path) -> None:
    audio = silence(3.0) + np.float32(0.25)
    audio[1, RATE : 2 * RATE] += tone(440, RATE, RATE)[0]
    survey = surveyed(tmp_path, audio)
    assert survey["music_start_frame"] == pytest.approx(RATE, abs=0.05 * RATE)
    assert survey["music_end_frame"] == pytest.approx(2 * RATE, abs=0.05 * RATE)


def test_a_survey_in_blocks_equals_the_reference_on_the_whole(tmp_path: Path) -> None:
    audio = mixture(0, 12.0)
    assert audio.shape[1] > 1 << 18, "meant to take two blocks"
    write(tmp_path / "a.flac", audio, RATE)
    product = survey_file(found(tmp_path, "a.flac"))
    whole, _ = read(tmp_path / "a.flac")
    assert product.value["loudness_lufs"] == pytest.approx(loudness_lufs(whole, RATE), abs=1e-6)
    assert product.value["peak_db"] == pytest.approx(20 * np.log10(np.abs(whole).max()), abs=1e-6)
    assert (product.value["codec"], product.value["sample_rate"], product.value["channels"]) == ("flac", RATE, 2)
    expected = fingerprint(to_pcm(whole, RATE))
    assert len(expected) > 50
    np.testing.assert_array_equal(product.arrays["fingerprint"], expected)


def test_a_survey_reads_the_tags(tmp_path: Path) -> None:
    write_file(tmp_path / "a.flac", tone(440, RATE, RATE), title="Blue (Live)", artist="Ana", date="1999")
    survey = survey_file(found(tmp_path, "a.flac")).value
    assert (survey["title"], survey["artist"], survey["year"]) == ("Blue (Live)", "Ana", 1999)


@pytest.mark.parametrize("frames", [1, 2, 100, 2205])
def test_a_tenth_of_a_second_and_less_is_surveyed(tmp_path: Path, frames: int) -> None:
    survey = surveyed(tmp_path, tone(3000, frames, RATE, phase=1.0))
    assert survey["num_frames"] == frames
    assert survey["loudness_lufs"] is None or np.isfinite(survey["loudness_lufs"])
    row = track_row(FoundFile(str(tmp_path), "a.flac", "00ff"), survey)
    assert len(frame_of("tracks", [row])) == 1


def test_what_changed_since_it_was_hashed_is_not_taken_for_it(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", tone(440, RATE, RATE), RATE)
    file = found(tmp_path, "a.flac")
    audio, sample_rate = read_found(file)
    assert (audio.shape, sample_rate) == ((2, RATE), RATE)
    refuse_changed(file)
    write(tmp_path / "a.flac", tone(880, RATE, RATE), RATE)
    for call in (survey_file, read_found, refuse_changed):
        with pytest.raises(AudioError, match=r"a\.flac: changed while it was read; run the same command again"):
            call(file)


@pytest.mark.parametrize(
    ("path", "title", "song_title", "version"),
    [
        ("a/Blue (Instrumental).flac", None, "Blue", "instrumental"),
        ("a/01.flac", "Blue (Live at Home)", "Blue", "live"),
        ("a/01.flac", "Blue", "Blue", "original"),
    ],
)
def test_a_track_is_labelled_by_its_title_or_else_its_file_name(
    path: str, title: str | None, song_title: str, version: str
) -> None:
    survey = {"title": title, "album": None, "artist": None, "num_frames": 5}
    row = track_row(FoundFile("/music", path, "00ff"), survey)
    assert (row["song_title"], row["version"]) == (song_title, version)
    assert (row["track_id"], row["root"], row["path"], row["title"]) == ("00ff", ROOT, path, title)


def test_a_reject_whose_detail_names_odd_bytes_fits_the_table() -> None:
    reject = Reject(None, "a.mp3", "scan", "unreadable", "/music/b\udcf6x/a.mp3: zero bytes")
    frame = frame_of("rejected", [reject.row()])
    assert frame["detail"][0] == "/music/b\\udcf6x/a.mp3: zero bytes"
