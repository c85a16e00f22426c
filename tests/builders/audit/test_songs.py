"""The songs of a build as the audit shows them: orders, facts, tracks, and files that lie where they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from builders.audit.clips import clip
from builders.audit.songs import COLUMNS, OutsideError, SongBook, UnknownError
from curation.audit import random_order
from manifests.audio import read
from manifests.corpus import Corpus
from tests.builders.small_build import FRAMES, RATE, edit
from tests.builders.small_curated import make_curated


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return make_curated(tmp_path / "build", songs=4)


def book_of(build: Path) -> SongBook:
    return SongBook(Corpus.open(build))


def test_the_most_doubtful_come_first(build: Path) -> None:
    rows = book_of(build).queue("doubtful")
    doubts = [row[COLUMNS.index("doubt")] for row in rows]
    assert [row[0] for row in rows] == ["song3", "song2", "song1", "song0"]  # C, B, A, A with a larger residual
    assert doubts == sorted(doubts, reverse=True)


def test_titles_are_in_order_and_random_is_the_samples(build: Path) -> None:
    book = book_of(build)
    edit(
        build, "tracks", lambda rows: [row.update(song_title="zebra") for row in rows if row["track_id"] == "song0"]
    )
    again = book_of(build)
    assert [row[1] for row in again.queue("title")] == ["Title 1", "Title 2", "Title 3", "zebra"]
    assert again.order("random") == book.order("random") == random_order(book.songs)


def test_a_row_of_the_queue(build: Path) -> None:
    row = dict(zip(COLUMNS, book_of(build).queue("title")[3], strict=True))
    assert row == {
        "song_id": "song3",
        "title": "Title 3",
        "artist": "Artist 3",
        "genre": "folk",
        "grade": "C",
        "doubt": book_of(build).doubts["song3"],
        "duration_s": FRAMES / RATE,
        "reasons": ["voice in the instrumental in 3 of 60 s", "residue of -14 dB"],
    }


def test_what_is_known_of_a_song(build: Path) -> None:
    edit(
        build,
        "stems",
        lambda rows: [
            row.update(reasons=json.dumps(["C: noise at -3 dB"])) for row in rows if row["stem"] == "vocals"
        ],
    )
    found = book_of(build).details("song1")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [track["name"] for track in found["tracks"]] == ["mixture", "instrumental", "vocals"]
    assert [track["kind"] for track in found["tracks"]] == ["mixture", "stem", "stem"]
    assert {track["problem"] for track in found["tracks"]} == {None}
    assert found["tracks"][2]["reasons"] == [{"reason": "C", "text": "noise at -3 dB"}]
    assert (found["sample_rate"], found["channels"], found["num_frames"]) == (RATE, 2, FRAMES)
    assert found["pair"]["lag_frames"] == 4410
    assert found["pair"]["segments"] == [[0, FRAMES, 220.5]]
    assert found["pseudo"] == ["difference"]
    assert set(found["doubt_parts"]) == {"grade", "confidence", "residual"}


def test_songs_and_tracks_that_are_not_there(build: Path) -> None:
    book = book_of(build)
    with pytest.raises(UnknownError, match=r"no song 'song9' \(did you mean"):
        book.details("song9")
    with pytest.raises(UnknownError, match="no track 'drums'; it has mixture, instrumental, vocals"):
        book.track("song0", "drums")


def test_a_mixture_is_made_where_there_is_none(build: Path) -> None:
    def change(rows: list) -> None:
        rows[:] = [row for row in rows if row["stem"] != "mixture"]

    before = [read(build / f"audio/song0/{stem}.flac")[0] for stem in ("instrumental", "vocals", "mixture")]
    edit(build, "stems", change)
    book = book_of(build)
    assert book.track_names("song0") == ["mixture", "instrumental", "vocals"]
    assert book.details("song0")["tracks"][0]["is_made"]
    assert np.array_equal(clip(book.track("song0", "mixture"), 0, FRAMES), before[0] + before[1])
    difference = clip(book.track("song0", "difference"), 0, FRAMES)
    assert np.abs(difference - before[1]).max() < 1e-6
    assert np.abs(difference - (before[2] - before[0])).max() < 1e-6


def test_a_single_sound_is_its_own_whole(build: Path) -> None:
    edit(build, "stems", lambda rows: rows.__setitem__(slice(None), [r for r in rows if r["stem"] == "vocals"]))
    book = book_of(build)
    assert book.track_names("song0") == ["vocals"]
    assert book.details("song0")["pseudo"] == []


def test_stems_of_several_rates_are_heard_alone(build: Path) -> None:
    def change(rows: list) -> None:
        rows[:] = [row for row in rows if row["stem"] != "mixture"]
        rows[0]["sample_rate"] = 44100

    edit(build, "stems", change)
    assert book_of(build).track_names("song0") == ["instrumental", "vocals"]
    assert book_of(build).track_names("song1") == ["mixture", "instrumental", "vocals"]


def test_a_build_without_pairs_and_tracks_has_songs(build: Path) -> None:
    for name in ("pairs", "tracks"):
        (build / f"{name}.parquet").unlink()
    found = book_of(build).details("song0")
    assert (found["title"], found["pair"]) == ("song0", None)


class TestPaths:
    def test_a_link_that_leads_out_is_refused(self, build: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret.flac"
        path = build / "audio/song0/vocals.flac"
        path.rename(secret)
        path.symlink_to(secret)
        book = book_of(build)
        with pytest.raises(OutsideError, match=r"leads out of .* by a symbolic link"):
            book.track("song0", "vocals")
        problems = {track["name"]: track["problem"] for track in book.details("song0")["tracks"]}
        assert "symbolic link" in problems["vocals"]
        assert problems["mixture"] is None

    def test_a_folder_that_leads_out_is_refused(self, build: Path, tmp_path: Path) -> None:
        (build / "audio/song1").rename(tmp_path / "elsewhere")
        (build / "audio/song1").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OutsideError):
            book_of(build).track("song1", "vocals")

    def test_links_within_the_build_and_to_the_build_are_fine(self, build: Path, tmp_path: Path) -> None:
        path = build / "audio/song0/vocals.flac"
        path.rename(build / "vocals.flac")
        path.symlink_to(build / "vocals.flac")
        (tmp_path / "link").symlink_to(build)
        assert (
            book_of(tmp_path / "link").track("song0", "vocals").parts[0].path == (build / "vocals.flac").resolve()
        )

    def test_hard_links_are_files_as_any(self, build: Path, tmp_path: Path) -> None:
        (tmp_path / "other.flac").hardlink_to(build / "audio/song0/vocals.flac")
        assert book_of(build).track("song0", "vocals").parts[0].path.exists()

    @pytest.mark.parametrize("path", ["../secret.flac", "/etc/passwd", "a/../../secret.flac"])
    def test_a_path_that_leaves_its_root_is_refused(self, build: Path, path: str) -> None:
        book = book_of(build)
        row = dict(book.corpus.song("song0")["vocals"]) | {"path": path}
        with pytest.raises(OutsideError):
            book.path_of(row)

    def test_a_named_root_has_its_own_folder(self, build: Path, tmp_path: Path) -> None:
        (build / "audio").rename(tmp_path / "audio")
        edit(build, "stems", lambda rows: [row.update(root="disk") for row in rows])
        assert book_of(build).details("song0")["tracks"][0]["problem"]
        book = SongBook(Corpus.open(build, {"disk": tmp_path}))
        assert book.track("song0", "vocals").parts[0].path == tmp_path / "audio/song0/vocals.flac"
