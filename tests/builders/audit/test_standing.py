"""What verdicts say of the stems that are there now, and what the column `audit` is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders.audit.standing import apply_verdicts, newest, standing
from builders.audit.verdicts import read_verdicts
from builders.check import check_build
from builders.pack import PackBuilder
from builders.recipe import PackRecipe
from manifests.corpus import Corpus
from manifests.errors import BuildError
from manifests.lock import BuildLock
from manifests.packed import PackedReader
from manifests.tables import TableFormat, find_table, read_table
from tests.builders.audit.said import say
from tests.builders.small_build import STEMS, edit, make_build, replace_stem, sounds


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return make_build(tmp_path / "build", songs=3)


def column(build: Path) -> dict[tuple[str, str], str]:
    stems = read_table(build, "stems")
    return dict(zip(zip(stems["song_id"], stems["stem"], strict=True), stems["audit"], strict=True))


def of_song(build: Path, song_id: str) -> list[str]:
    return [column(build)[song_id, stem] for stem in STEMS]


def test_a_verdict_on_a_song_holds_for_all_its_stems(build: Path) -> None:
    say(build, "song1", "rejected")
    applied = apply_verdicts(build)
    assert of_song(build, "song1") == ["rejected"] * 3
    assert of_song(build, "song0") == ["unheard"] * 3
    assert (applied.changed, applied.rejected, applied.accepted, applied.unheard) == (True, 3, 0, 6)


def test_a_stem_may_have_a_verdict_of_its_own(build: Path) -> None:
    say(build, "song0", "accepted")
    say(build, "song0", "rejected", "vocals")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["accepted", "accepted", "rejected"]
    say(build, "song0", "unheard", "vocals")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["accepted"] * 3


def test_a_later_verdict_on_the_song_ends_those_on_its_stems_until_it_is_taken_back(build: Path) -> None:
    say(build, "song0", "rejected", "vocals")
    say(build, "song1", "rejected", "vocals")
    say(build, "song0", "accepted")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["accepted"] * 3
    assert of_song(build, "song1") == ["unheard", "unheard", "rejected"]
    say(build, "song0", "rejected", "instrumental")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["accepted", "rejected", "accepted"]
    say(build, "song0", "unheard")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["unheard", "rejected", "rejected"]


def test_a_verdict_on_a_song_that_has_changed_ends_none(build: Path) -> None:
    say(build, "song0", "rejected", "vocals")
    say(build, "song0", "accepted")
    replace_stem(build, "song0", "mixture", sounds(7)["mixture"])
    applied = apply_verdicts(build)
    assert of_song(build, "song0") == ["unheard", "unheard", "rejected"]
    assert applied.notes == ("1 verdict of audio that has changed since it was heard does not count: song0",)


def test_a_verdict_on_a_changed_stem_is_not_told_once_the_song_is_judged_again(build: Path) -> None:
    say(build, "song0", "rejected", "vocals")
    replace_stem(build, "song0", "vocals", sounds(7)["vocals"])
    assert len(apply_verdicts(build).notes) == 1
    say(build, "song0", "accepted")
    assert apply_verdicts(build).notes == ()


def test_the_newest_verdict_counts_and_may_be_taken_back(build: Path) -> None:
    for verdict in ("accepted", "rejected"):
        say(build, "song0", verdict)
        apply_verdicts(build)
        assert of_song(build, "song0") == [verdict] * 3
    say(build, "song0", "unheard")
    apply_verdicts(build)
    assert of_song(build, "song0") == ["unheard"] * 3
    assert newest(read_verdicts(build)) == {}


def test_what_nobody_judged_keeps_what_it_had(build: Path) -> None:
    edit(build, "stems", lambda rows: [row.update(audit="accepted") for row in rows if row["song_id"] == "song2"])
    say(build, "song0", "rejected")
    apply_verdicts(build)
    assert of_song(build, "song2") == ["accepted"] * 3


def test_nothing_new_writes_nothing(build: Path) -> None:
    say(build, "song0", "rejected")
    apply_verdicts(build)
    path = find_table(build, "stems")
    assert path is not None
    before = path.stat().st_mtime_ns
    assert not apply_verdicts(build).changed
    assert path.stat().st_mtime_ns == before


def test_audio_that_has_changed_was_not_judged(build: Path) -> None:
    say(build, "song0", "rejected")
    say(build, "song1", "accepted", "vocals")
    replace_stem(build, "song0", "vocals", sounds(7)["vocals"])
    applied = apply_verdicts(build)
    assert set(column(build).values()) == {"unheard", "accepted"}
    assert of_song(build, "song0") == ["unheard"] * 3
    assert applied.notes == ("1 verdict of audio that has changed since it was heard does not count: song0",)
    replace_stem(build, "song0", "vocals", sounds(0)["vocals"])  # as it was
    apply_verdicts(build)
    assert of_song(build, "song0") == ["rejected"] * 3


def test_a_verdict_on_a_stem_does_not_mind_what_became_of_the_others(build: Path) -> None:
    say(build, "song0", "rejected", "vocals")
    replace_stem(build, "song0", "mixture", sounds(7)["mixture"])
    apply_verdicts(build)
    assert of_song(build, "song0") == ["unheard", "unheard", "rejected"]


def test_songs_that_have_gone_are_told_by_name_and_their_verdicts_kept(build: Path) -> None:
    for number in range(3):
        say(build, f"song{number}", "rejected")
    edit(build, "stems", lambda rows: rows.__delitem__(slice(0, 6)))
    applied = apply_verdicts(build)
    (note,) = applied.notes
    assert "2 verdicts" in note
    assert note.endswith("not in the build any more do not count: song0, song1")
    assert of_song(build, "song2") == ["rejected"] * 3
    assert len(read_verdicts(build)) == 3


def test_a_build_at_work_keeps_its_table(build: Path) -> None:
    say(build, "song0", "rejected")
    with BuildLock(build), pytest.raises(BuildError, match="another build"):
        apply_verdicts(build)
    assert set(column(build).values()) == {"unheard"}


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_judged_build_is_not_a_damaged_one(tmp_path: Path, form: TableFormat) -> None:
    build = make_build(tmp_path / "build", format=form)
    before, known = Corpus.open(build).identity, check_build(build)
    say(build, "song0", "rejected")
    apply_verdicts(build)
    assert check_build(build) == known == []
    assert Corpus.open(build).identity == before
    assert find_table(build, "stems") == build / f"stems.{form}"


def test_a_packed_store_is_not_out_of_date(build: Path) -> None:
    PackBuilder(PackRecipe(), jobs=0).build(build)
    say(build, "song0", "rejected")
    apply_verdicts(build)
    row = Corpus.open(build).song("song1")["vocals"]
    found = PackedReader(build).read(".", row["path"], 10, 100)
    assert np.array_equal(found, sounds(1)["vocals"][:, 10:110])
    edit(build, "stems", lambda rows: rows[0].update(path="audio/elsewhere.flac"))
    with pytest.raises(BuildError, match="was changed after it was packed"):
        PackedReader(build)


def test_packing_after_verdicts_stands_for_what_was_built(build: Path) -> None:
    say(build, "song0", "rejected")
    apply_verdicts(build)
    PackBuilder(PackRecipe(), jobs=0).build(build)
    say(build, "song0", "accepted")
    apply_verdicts(build)
    PackedReader(build)


def test_who_said_what_of_which_stem(build: Path) -> None:
    say(build, "song0", "rejected", note="hum", reviewer="bob")
    say(build, "song0", "accepted", "vocals")
    found = standing(Corpus.open(build), read_verdicts(build))
    assert found.said["song0", "mixture"].note == "hum"
    assert found.said["song0", "vocals"].verdict == "accepted"
    assert ("song1", "vocals") not in found.said
    assert found.notes() == []
