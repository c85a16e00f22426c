"""Tracks to candidate pairs: by metadata, by shared sub-fingerprints, then by durations and bit error rate.

Every candidate ends as a row of the pairs table; one that is not worth comparing carries the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builders.recipe import CatalogRecipe
from builders.scan import SILENCE_DB, Reject
from curation.chromaprint import Fingerprint
from curation.matching import best_matches
from curation.metadata import metadata_candidates
from curation.versions import WITHOUT_LEAD
from manifests.tables import frame_of

TrackRow = dict[str, Any]
"""A row of the tracks table; nulls are None."""

_MAX_SILENCE = 4.0
"""A file may be this many times as long as the longest song."""


@dataclass
class Candidate:
    """Two tracks that may hold one song. `a` and `b` are content ids, a < b."""

    a: str
    b: str
    metadata: str = ""
    votes: int = 0
    bit_error_rate: float | None = None
    reason: str | None = None

    @property
    def name(self) -> str:
        """The pair's id: both content ids, shortened."""
        return f"{self.a[:12]}-{self.b[:12]}"

    def weigh(
        self, tracks: Mapping[str, TrackRow], prints: tuple[Fingerprint, Fingerprint], recipe: CatalogRecipe
    ) -> None:
        """Set the bit error rate of the two fingerprints, and the reason against the pair if there is one."""
        matches = best_matches(*prints, count=1)
        self.bit_error_rate = matches[0].bit_error_rate if matches else None
        difference_s = abs(music_s(tracks[self.a]) - music_s(tracks[self.b]))
        limit_s = recipe.max_duration_difference_s
        if self.bit_error_rate is None:
            self.reason = "fingerprints do not overlap: one of them is too short"
        elif self.bit_error_rate > recipe.max_bit_error_rate:
            found = f"{self.bit_error_rate:.2f}, at most {recipe.max_bit_error_rate}"
            self.reason = f"fingerprints differ (bit error rate {found})"
        elif limit_s is not None and difference_s > limit_s:
            self.reason = f"durations of the music differ by {difference_s:.1f} s (at most {limit_s:g} s)"

    def is_labelled(self, tracks: Mapping[str, TrackRow]) -> bool:
        """Whether exactly one of the two is called an instrumental."""
        first, second = (tracks[i]["version"] in WITHOUT_LEAD for i in (self.a, self.b))
        return bool(first != second)

    def ordered(self, tracks: Mapping[str, TrackRow]) -> tuple[str, str]:
        """Probable mixture first, by label; the waveforms have the last word."""
        is_exchanged = self.is_labelled(tracks) and tracks[self.a]["version"] in WITHOUT_LEAD
        return (self.b, self.a) if is_exchanged else (self.a, self.b)

    def row(self, tracks: Mapping[str, TrackRow]) -> dict[str, Any]:
        """What the pairs table says before the waveforms are compared."""
        mixture, instrumental = self.ordered(tracks)
        parts = (self.metadata, f"fingerprint ({self.votes} votes)" if self.votes else "")
        return {
            "pair_id": self.name,
            "mixture_id": mixture,
            "instrumental_id": instrumental,
            "mixture_path": tracks[mixture]["path"],
            "instrumental_path": tracks[instrumental]["path"],
            "evidence": "; ".join(part for part in parts if part),
            "votes": self.votes,
            "bit_error_rate": self.bit_error_rate,
            "confidence": None,
            "relation": "unrelated",
            "reason": self.reason,
        }


def usable_tracks(rows: Sequence[TrackRow], recipe: CatalogRecipe) -> tuple[dict[str, TrackRow], list[Reject]]:
    """One row per content that can be paired, by content id; the others become rejects.

    Parameters
    ----------
    rows : sequence of dict
        The tracks table, sorted by path: the first of equal files stands for all.
    recipe : CatalogRecipe

    Returns
    -------
    tracks : dict of str to dict
    rejects : list of Reject
    """
    tracks: dict[str, TrackRow] = {}
    rejects: list[Reject] = []
    for row in rows:
        known = tracks.get(row["track_id"])
        against = ("duplicate", f"the same bytes as {known['path']}") if known else _why_unusable(row, recipe)
        if against is None:
            tracks[row["track_id"]] = row
        else:
            rejects.append(Reject(row["track_id"], row["path"], "match", *against))
    return tracks, rejects


def find_candidates(tracks: Mapping[str, TrackRow], votes: Mapping[tuple[str, str], int]) -> list[Candidate]:
    """Pairs of tracks worth a look, by tags and file names and, without any, by the sound.

    Parameters
    ----------
    tracks : mapping of content id to row
    votes : mapping of (a, b) to int
        Moments at which two tracks sound alike, ``a < b``; those of other tracks are left out.

    Returns
    -------
    list of Candidate
        Sorted by ids.
    """
    found: dict[tuple[str, str], Candidate] = {}
    by_metadata = metadata_candidates(frame_of("tracks", tracks.values()))
    for row in by_metadata.to_dict("records"):
        key = (str(row["a"]), str(row["b"]))
        found[key] = Candidate(*key, metadata=f"{row['evidence']} ({row['score']:.2f})")
    for key, count in votes.items():
        if key[0] in tracks and key[1] in tracks:
            found.setdefault(key, Candidate(*key)).votes = count
    return [found[key] for key in sorted(found)]


def music_s(row: TrackRow) -> float:
    """Duration of the music, from the first to the last audible frame, in seconds."""
    return float(row["music_end_frame"] - row["music_start_frame"]) / float(row["sample_rate"])


def _why_unusable(row: TrackRow, recipe: CatalogRecipe) -> tuple[str, str] | None:
    """Why a track cannot be paired, as (reason, detail); None if it can."""
    if row["music_start_frame"] is None:
        return "silent", f"nothing is louder than {SILENCE_DB:g} dBFS"
    if row["channels"] > 2:
        return "channels", f"has {row['channels']} channels; downmix to stereo first"
    duration_s = music_s(row)
    file_s = row["num_frames"] / row["sample_rate"]
    if duration_s < recipe.min_song_s:
        return "too short", f"{duration_s:.1f} s of music (min_song_s {recipe.min_song_s:g})"
    if recipe.max_song_s is not None and duration_s > recipe.max_song_s:
        return "too long", f"{duration_s:.1f} s of music (max_song_s {recipe.max_song_s:g})"
    # files are read whole from here on, silence and all
    if recipe.max_song_s is not None and file_s > _MAX_SILENCE * recipe.max_song_s:
        return "too long", f"{file_s:.0f} s for {duration_s:.1f} s of music; cut the silence"
    return None
