"""A curation leaves out what people rejected by ear, and keeps what they accepted whatever its grade."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.check import check_build
from manifests.corpus import Corpus
from tests.builders.audit.said import say
from tests.builders.small_build import edit
from tests.builders.small_corpora import curate, misaligned, reasons, stems, unsung, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Three clean songs, and two with a defect."""
    songs = [(f"s{number}", stems(number)) for number in range(3)]
    return write_corpus(tmp_path / "source", [*songs, ("shifted", misaligned(6)), ("unsung", unsung(7))])


def test_a_rejected_song_leaves_with_the_reason_and_who_said_so(corpus: Corpus, tmp_path: Path) -> None:
    said = say(corpus.folder, "s1", "rejected", reason="residue", note="a piano, left", reviewer="ann")
    curated = curate(corpus, tmp_path / "out")
    assert curated.songs() == ["s0", "s2"]
    assert reasons(curated)["s1"] == "audit: residue"
    assert curated.rejected is not None
    detail = curated.rejected.set_index("id").loc["s1", "detail"]
    assert detail == f"song: rejected by ann on {said.time[:10]}: a piano, left"
    assert check_build(curated.folder) == []


def test_a_stem_rejected_alone_takes_its_song_out_until_that_is_judged_again(
    corpus: Corpus, tmp_path: Path
) -> None:
    say(corpus.folder, "s0", "accepted")
    say(corpus.folder, "s0", "rejected", "vocals")
    say(corpus.folder, "s1", "rejected", "vocals")
    say(corpus.folder, "s1", "accepted")
    curated = curate(corpus, tmp_path / "out")
    assert reasons(curated)["s0"] == "audit: rejected"
    assert "s1" in curated.songs()
    assert curated.rejected is not None
    assert curated.rejected.set_index("id").loc["s0", "detail"].startswith("vocals: rejected by ann")


def test_what_was_accepted_stays_whatever_its_grade(corpus: Corpus, tmp_path: Path) -> None:
    say(corpus.folder, "shifted", "accepted")
    say(corpus.folder, "unsung", "accepted", "vocals")  # not all of it
    curated = curate(corpus, tmp_path / "out")
    assert set(curated.songs()) == {"s0", "s1", "s2", "shifted"}
    assert curated.song("shifted")["vocals"]["grade"] == "D"
    assert {row["audit"] for row in curated.song("shifted").values()} == {"accepted"}
    assert reasons(curated) == {"unsung": "grade: grade D"}


def test_gates_hold_for_what_was_accepted(corpus: Corpus, tmp_path: Path) -> None:
    say(corpus.folder, "unsung", "accepted")
    curated = curate(corpus, tmp_path / "out", gates=("vocals.rms >= 0.01",))
    assert reasons(curated)["unsung"].startswith("gate: vocals.rms")


def test_only_what_was_accepted(corpus: Corpus, tmp_path: Path) -> None:
    say(corpus.folder, "s0", "accepted")
    say(corpus.folder, "s1", "rejected")
    curated = curate(corpus, tmp_path / "out", audit="unheard")
    assert curated.songs() == ["s0"]
    assert reasons(curated) == {
        "s1": "audit: rejected",
        **dict.fromkeys(("s2", "shifted", "unsung"), "audit: unheard"),
    }


def test_verdicts_may_be_ignored(corpus: Corpus, tmp_path: Path) -> None:
    say(corpus.folder, "s0", "rejected")
    say(corpus.folder, "shifted", "accepted")
    curated = curate(corpus, tmp_path / "out", audit="ignore")
    assert curated.songs() == ["s0", "s1", "s2"]


def test_verdicts_in_the_stems_table_alone_count(corpus: Corpus, tmp_path: Path) -> None:
    edit(corpus.folder, "stems", lambda rows: [r.update(audit="rejected") for r in rows if r["song_id"] == "s2"])
    curated = curate(corpus, tmp_path / "out")
    assert reasons(curated)["s2"] == "audit: rejected"


def test_of_two_songs_that_are_the_same_the_accepted_one_stays(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "source", [("a", stems(0)), ("b", stems(0)), ("c", stems(1))])
    assert curate(corpus, tmp_path / "before").songs() == ["a", "c"]
    say(corpus.folder, "b", "accepted")
    assert curate(corpus, tmp_path / "out").songs() == ["b", "c"]


def test_audio_that_was_not_heard_is_not_left_out(
    corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    say(corpus.folder, "s0", "rejected")
    edit(corpus.folder, "stems", lambda rows: [r.update(content_id=None) for r in rows if r["song_id"] == "s0"])
    assert "s0" in curate(corpus, tmp_path / "out").songs()
    assert "audio that has changed since it was heard does not count: s0" in caplog.text
