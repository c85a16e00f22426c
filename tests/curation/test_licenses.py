"""Licences are recognised however they are written, and a song without one is never taken for one with."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.licenses import (
    License,
    joined_licenses,
    license_table,
    normalise_license,
    stem_licenses,
    unlicensed_songs,
)
from manifests.tables import frame_of


@pytest.mark.parametrize(
    ("text", "name", "hub"),
    [
        ("CC-BY-4.0", "CC-BY-4.0", "cc-by-4.0"),
        ("cc by 4.0", "CC-BY-4.0", "cc-by-4.0"),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0", "cc-by-nc-sa-3.0"),
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/", "CC-BY-NC-SA-3.0", "cc-by-nc-sa-3.0"),
        ("https://creativecommons.org/licenses/by/4.0/deed.de", "CC-BY-4.0", "cc-by-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivs 3.0 Unported", "CC-BY-NC-ND-3.0", "cc-by-nc-nd-3.0"),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0", "cc-by-nc-sa-4.0"),
        ("Attribution Non Commercial No Derivative Works 4.0", "CC-BY-NC-ND-4.0", "cc-by-nc-nd-4.0"),
        ("CC BY", "CC-BY", "cc"),
        ("cc-by-sa-2.5", "CC-BY-SA-2.5", "cc"),
        ("Creative Commons", "Creative Commons", "cc"),
        ("CC0", "CC0-1.0", "cc0-1.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", "cc0-1.0"),
        ("Public Domain", "public domain", "other"),
        ("MIT", "MIT", "mit"),
        ("Apache License 2.0", "Apache-2.0", "apache-2.0"),
        ("(C) 1999 Some Label", "all rights reserved", "other"),
        ("℗ 2020 Label", "all rights reserved", "other"),
        ("All rights reserved.", "all rights reserved", "other"),
        ("ask  my\nmanager", "ask my manager", "other"),
    ],
)
def test_licences_are_recognised(text: str, name: str, hub: str) -> None:
    found = normalise_license(text)
    assert found is not None
    assert (found.name, found.hub) == (name, hub)


@pytest.mark.parametrize("text", [None, "", "  ", "unknown", "Unknown", "none", "N/A"])
def test_no_licence_is_none(text: str | None) -> None:
    assert normalise_license(text) is None


def test_what_a_licence_forbids_is_known() -> None:
    found = normalise_license("CC BY-NC-ND 4.0")
    assert found is not None
    assert (found.forbids_sale, found.forbids_change, found.is_reserved) == (True, True, False)
    reserved = normalise_license("© me")
    assert reserved is not None
    assert reserved.is_reserved


@given(st.text(max_size=200))
def test_any_text_has_a_short_name_that_stays_what_it_is(text: str) -> None:
    found = normalise_license(text)
    assert found is None or (0 < len(found.name) <= 80 and found.hub)
    if found is not None and found.hub not in ("other", "cc"):
        assert normalise_license(found.name) == found


def stem(song_id: str, name: str, license: str | None, **other: Any) -> dict[str, Any]:
    return {
        "song_id": song_id,
        "stem": name,
        "root": ".",
        "path": f"{song_id}/{name}.flac",
        "num_frames": 3600 * 1000,
        "sample_rate": 1000,
        "channels": 2,
        "provenance": "recorded",
        "audit": "unheard",
        "license": license,
        **other,
    }


def track(track_id: str, license: str | None) -> dict[str, Any]:
    return {
        "track_id": track_id,
        "root": "catalog",
        "path": f"{track_id}.flac",
        "codec": "flac",
        "num_frames": 1000,
        "sample_rate": 1000,
        "channels": 2,
        "version": "original",
        "license": license,
    }


def table(stems: list[dict[str, Any]], *tracks: dict[str, Any]) -> dict[tuple[str | None, str], int]:
    rows = license_table(frame_of("stems", stems), frame_of("tracks", tracks))
    return {(row.license and row.license.name, row.provenance): row.songs for row in rows}


def test_a_song_counts_once_under_a_licence_of_all_its_stems() -> None:
    stems = [stem("a", "mixture", "CC-BY-4.0"), stem("a", "vocals", "cc by 4.0"), stem("b", "mixture", "CC0")]
    assert table(stems) == {("CC-BY-4.0", "recorded"): 1, ("CC0-1.0", "recorded"): 1}


def test_one_stem_without_a_licence_makes_the_song_unlicensed() -> None:
    stems = [stem("a", "mixture", "CC0"), stem("a", "vocals", None), stem("b", "mixture", "CC0")]
    rows = license_table(frame_of("stems", stems), frame_of("tracks", []))
    assert rows[0].license is None
    assert unlicensed_songs(rows) == 1
    assert [row.songs for row in rows] == [1, 2]


def test_licences_of_the_recordings_count_where_all_are_known() -> None:
    made = {"parents": "x;y", "provenance": "derived"}
    stems = [stem("a", "vocals", None, **made)]
    assert table(stems, track("x", "CC0"), track("y", "CC-BY-4.0")) == {
        ("CC0-1.0", "derived"): 1,
        ("CC-BY-4.0", "derived"): 1,
    }
    assert (None, "derived") in table(stems, track("x", "CC0"), track("y", None))
    assert (None, "derived") in table(stems, track("x", "CC0"))
    stated = [stem("a", "vocals", "MIT", **made)]
    assert table(stated, track("x", "CC0"), track("y", None)) == {("MIT", "derived"): 1, ("CC0-1.0", "derived"): 1}


def test_a_mixed_stem_has_each_licence_that_it_states() -> None:
    mixed = {"provenance": "mixed", "parents": "speech0;effects1"}
    stems = [stem("a", "mixture", "CC-BY-NC-4.0; CC0-1.0", **mixed), stem("a", "speech", "CC-BY-NC-4.0", **mixed)]
    assert table(stems) == {("CC-BY-NC-4.0", "mixed"): 1, ("CC0-1.0", "mixed"): 1}
    assert table([*stems, stem("a", "effects", None, **mixed)])[None, "mixed"] == 1


def test_a_semicolon_in_the_licence_of_a_recording_is_part_of_it() -> None:
    assert table([stem("a", "mixture", "ask; then ask again")]) == {("ask; then ask again", "recorded"): 1}


@given(
    st.lists(
        st.one_of(st.text(max_size=90), st.sampled_from(["CC0", "cc by 4.0", "(C) me; you", "MIT"])), max_size=5
    )
)
def test_joined_licences_are_taken_apart_again(texts: list[str]) -> None:
    licenses = [normalise_license(text) for text in texts]
    joined = joined_licenses(licenses)
    assert (joined is None) == (None in licenses or not licenses)
    if joined is not None:
        mixed = frame_of("stems", [stem("a", "mixture", joined, provenance="mixed", parents="x")])
        (found,) = stem_licenses(mixed, frame_of("tracks", []))
        known = {license.name for license in licenses if license is not None and license.hub not in ("other", "cc")}
        assert known <= {license.name for license in found if license is not None}
        assert any(license is not None and license.is_reserved for license in found) >= any(
            license is not None and license.is_reserved for license in licenses
        )
        assert joined_licenses(found) == joined


def test_licences_of_stems_are_in_the_order_of_the_rows() -> None:
    stems = [stem("a", "mixture", "CC0"), stem("b", "mixture", None), stem("c", "mixture", None, parents="x")]
    found = stem_licenses(frame_of("stems", stems), frame_of("tracks", [track("x", "MIT")]))
    assert [{license and license.name for license in row} for row in found] == [{"CC0-1.0"}, {None}, {"MIT"}]


def test_hours_and_artists_are_those_of_the_songs() -> None:
    stems = [
        stem("a", "mixture", "CC0", artist="Ann"),
        stem("a", "vocals", "CC0", artist="Ann"),
        stem("b", "mixture", "CC0", artist="Ann"),
        stem("c", "mixture", "CC0"),
    ]
    (row,) = license_table(frame_of("stems", stems), frame_of("tracks", []))
    assert (row.songs, row.hours, row.artists) == (3, 3.0, 1)
    assert row.license == License("CC0-1.0", "cc0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/")


def test_no_songs_have_no_licences() -> None:
    empty = pd.concat([frame_of("stems", [])])
    assert license_table(empty, frame_of("tracks", [])) == []
