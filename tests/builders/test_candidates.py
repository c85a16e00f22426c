"""Which tracks can be paired, which pairs are worth comparing, and what the pairs table says of the others."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from builders.candidates import Candidate, TrackRow, find_candidates, music_s, usable_tracks
from builders.recipe import CatalogRecipe
from curation.chromaprint import Fingerprint
from manifests.tables import frame_of

RATE = 1000


def track(track_id: str, *, seconds: float = 60.0, start_s: float = 0.0, **changes: Any) -> TrackRow:
    """A track whose music lasts some seconds; nulls spelt out, as a row of a read table has them."""
    row = frame_of(
        "tracks",
        [
            {
                "track_id": track_id,
                "root": "catalog",
                "path": f"{track_id}.flac",
                "codec": "flac",
                "num_frames": round((start_s + seconds) * RATE),
                "sample_rate": RATE,
                "channels": 2,
                "version": "original",
                "music_start_frame": round(start_s * RATE),
                "music_end_frame": round((start_s + seconds) * RATE),
                **changes,
            }
        ],
    ).to_dict("records")[0]
    return {str(key): None if value is None or value != value else value for key, value in row.items()} | changes


def noise_print(seed: int, items: int = 400) -> Fingerprint:
    return np.random.default_rng(seed).integers(0, 2**32, items, dtype=np.uint32)


def flipped(print_: Fingerprint, share: float, seed: int = 9) -> Fingerprint:
    """The same fingerprint with some share of its bits wrong."""
    bits = np.random.default_rng(seed).random((len(print_), 32)) < share
    return print_ ^ np.packbits(bits, axis=1, bitorder="little").view(np.uint32)[:, 0]


def weighed(a: TrackRow, b: TrackRow, share: float, **recipe: Any) -> Candidate:
    first = noise_print(0)
    candidate = Candidate("a", "b")
    candidate.weigh({"a": a, "b": b}, (first, flipped(first, share)), CatalogRecipe(**recipe))
    return candidate


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (track("a", music_start_frame=None, music_end_frame=None), "silent", "-60 dBFS"),
        (track("a", channels=6), "channels", "6 channels; downmix"),
        (track("a", seconds=9.9), "too short", "9.9 s of music .*min_song_s 10"),
        (track("a", seconds=300.1), "too long", "300.1 s of music .*max_song_s 300"),
        (track("a", seconds=20, start_s=1200), "too long", "1220 s for 20.0 s of music; cut the silence"),
    ],
)
def test_a_track_that_cannot_be_paired_is_rejected_with_its_reason(row: TrackRow, reason: str, detail: str) -> None:
    tracks, rejects = usable_tracks([row, track("b")], CatalogRecipe())
    assert list(tracks) == ["b"]
    (reject,) = rejects
    assert (reject.id, reject.path, reject.stage, reject.reason) == ("a", "a.flac", "match", reason)
    assert re.search(detail, reject.detail)


def test_limits_are_inclusive_and_none_is_no_limit() -> None:
    rows = [track("a", seconds=10), track("b", seconds=300), track("c", seconds=1, start_s=9000)]
    assert list(usable_tracks(rows[:2], CatalogRecipe())[0]) == ["a", "b"]
    assert len(usable_tracks(rows, CatalogRecipe(min_song_s=1, max_song_s=None))[0]) == 3


def test_silence_around_the_music_does_not_count_as_song() -> None:
    row = track("a", seconds=290, start_s=60)
    assert music_s(row) == 290
    assert list(usable_tracks([row], CatalogRecipe())[0]) == ["a"]


def test_the_first_of_equal_files_stands_for_all() -> None:
    copies = [track("a", path=path) for path in ("x/1.flac", "x/2.flac", "y/1.flac")]
    tracks, rejects = usable_tracks([*copies, track("b")], CatalogRecipe())
    assert tracks["a"]["path"] == "x/1.flac"
    assert [(reject.path, reject.reason, reject.detail) for reject in rejects] == [
        ("x/2.flac", "duplicate", "the same bytes as x/1.flac"),
        ("y/1.flac", "duplicate", "the same bytes as x/1.flac"),
    ]


def test_a_pair_within_the_limits_is_kept_with_its_bit_error_rate() -> None:
    candidate = weighed(track("a", seconds=60), track("b", seconds=62, start_s=30), 0.2)
    assert candidate.reason is None
    assert candidate.bit_error_rate == pytest.approx(0.2, abs=0.02)


def test_fingerprints_that_differ_too_much_refuse_a_pair() -> None:
    candidate = weighed(track("a"), track("b"), 0.3, max_bit_error_rate=0.25)
    assert candidate.reason == "fingerprints differ (bit error rate 0.30, at most 0.25)"


def test_durations_that_differ_too_much_refuse_a_pair_unless_any_may() -> None:
    rows = track("a", seconds=60), track("b", seconds=62.1)
    assert weighed(*rows, 0.1).reason == "durations of the music differ by 2.1 s (at most 2 s)"
    assert weighed(*rows, 0.1, max_duration_difference_s=3).reason is None
    assert weighed(*rows, 0.1, max_duration_difference_s=None).reason is None


def test_fingerprints_too_short_to_compare_refuse_a_pair() -> None:
    nothing = np.zeros(0, np.uint32)
    candidate = Candidate("a", "b")
    candidate.weigh({"a": track("a"), "b": track("b")}, (nothing, noise_print(1)), CatalogRecipe())
    assert candidate.bit_error_rate is None
    assert candidate.reason == "fingerprints do not overlap: one of them is too short"


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (("original", "instrumental"), ("a", "b")),
        (("instrumental", "original"), ("b", "a")),
        (("karaoke", "live"), ("b", "a")),
        (("original", "original"), ("a", "b")),
        (("instrumental", "karaoke"), ("a", "b")),
    ],
)
def test_labels_say_which_is_looked_at_as_the_mixture(versions: tuple[str, str], expected: tuple[str, str]) -> None:
    tracks = {name: track(name, version=version) for name, version in zip("ab", versions, strict=True)}
    assert Candidate("a", "b").ordered(tracks) == expected
    row = Candidate("a", "b").row(tracks)
    assert (row["mixture_id"], row["instrumental_id"]) == expected
    assert (row["mixture_path"], row["instrumental_path"]) == tuple(f"{name}.flac" for name in expected)


def test_a_row_tells_all_its_evidence_and_fits_the_table() -> None:
    tracks = {"a" * 32: track("a" * 32), "b" * 32: track("b" * 32)}
    candidate = Candidate("a" * 32, "b" * 32, "isrc (1.00)", 7, 0.125, "too far")
    row = candidate.row(tracks)
    assert row["pair_id"] == f"{'a' * 12}-{'b' * 12}"
    assert row["evidence"] == "isrc (1.00); fingerprint (7 votes)"
    fields = {key: value for key, value in row.items() if key != "relation"}
    frame = frame_of("pairs", [{**fields, "status": "refused"}])
    assert (frame["bit_error_rate"][0], frame["reason"][0]) == (0.125, "too far")


def test_candidates_come_from_tags_and_from_the_sound_sorted_and_merged() -> None:
    tracks = {
        "a": track("a", title="Blue River", song_title="Blue River", artist="Ana"),
        "b": track("b", title="Blue River", song_title="Blue River", artist="Ana", version="instrumental"),
        "c": track("c", title="Stone", song_title="Stone", artist="Bo"),
        "d": track("d", title="Karte", song_title="Karte", artist="Cy"),
        "e": track("e", title="Blue River", song_title="Blue River", artist="Ana", version="live"),
    }
    found = find_candidates(tracks, {("c", "d"): 5, ("a", "e"): 7, ("d", "gone"): 9})
    names = [(candidate.a, candidate.b) for candidate in found]
    assert names == sorted(names)
    assert {("a", "b"), ("c", "d"), ("a", "e")} <= set(names)
    by_name = dict(zip(names, found, strict=True))
    assert (bool(by_name["a", "b"].metadata), by_name["a", "b"].votes) == (True, 0)
    assert (by_name["c", "d"].metadata, by_name["c", "d"].votes) == ("", 5)
    assert (bool(by_name["a", "e"].metadata), by_name["a", "e"].votes) == (True, 7)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_tracks_make_no_candidates(count: int) -> None:
    tracks = {name: track(name) for name in "a"[:count]}
    assert find_candidates(tracks, {("a", "b"): 3}) == []
