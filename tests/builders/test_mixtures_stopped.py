"""Sets of mixtures that were stopped resume and come out the same; what cannot be read is replaced or told."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from augment.render import render
from builders import mixtures as mixtures_module
from builders.check import check_build
from manifests.corpus import open_corpora
from manifests.crops import CropReader
from manifests.errors import AudioError, BuildError, RecipeError, TableError
from manifests.loudness import SILENCE_LUFS, loudness_lufs
from manifests.tables import read_table
from tests.builders.mortal_builds import die_before_rename, forked
from tests.builders.small_mixtures import (
    RATE,
    build_mixtures,
    bytes_of,
    mix_recipe,
    plans_in,
    run_of,
    sound_corpus,
    sound_rows,
)
from tests.manifests.exports.small_corpus import files_of


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sounds of each kind; not to be changed."""
    return sound_corpus(tmp_path_factory.mktemp("corpora") / "sounds").folder


@pytest.fixture(scope="module")
def built(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 6 mixtures of them; not to be changed."""
    return build_mixtures(tmp_path_factory.mktemp("built") / "set", sounds).folder


@pytest.fixture
def library(tmp_path: Path, sounds: Path) -> Path:
    """The same sounds, to be changed."""
    return Path(shutil.copytree(sounds, tmp_path / "sounds"))


# stopping, resuming, refusing


def die(out: Path, sounds: Path, allowed: int) -> None:
    die_before_rename(allowed)
    build_mixtures(out, sounds, num=3)


def test_a_set_that_was_killed_resumes_and_comes_out_the_same(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_mixtures(tmp_path / "whole", sounds, num=3)
    rendered: list[int] = []
    real = mixtures_module._render_item
    monkeypatch.setattr(
        mixtures_module, "_render_item", lambda item, **known: rendered.append(item.index) or real(item, **known)
    )
    out = tmp_path / "set"
    # a mixture is four stems, an annotation and a result: killed in the second one's stem, annotation and result
    for allowed in (9, 11, 12):
        shutil.rmtree(out, ignore_errors=True)
        pid = forked(partial(die, out, sounds, allowed))
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert not (out / "stems.parquet").exists()
        assert [path for path in out.rglob(".stemloom-*") if path.is_file()]
        rendered.clear()
        build_mixtures(out, sounds, num=3)
        assert rendered == [1, 2]
        assert bytes_of(out) == bytes_of(tmp_path / "whole")
        rendered.clear()
        build_mixtures(out, sounds, num=3)
        assert rendered == []
        assert bytes_of(out) == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["audio/0-0000-00000001/music.flac", "annotations/0-0000-00000001.jams"])
@pytest.mark.parametrize("kept", [None, 100])
def test_what_was_lost_or_torn_is_rendered_again(
    built: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, kept: int | None
) -> None:
    out = Path(shutil.copytree(built, tmp_path / "set"))
    if kept is None:
        (out / lost).unlink()
    else:
        os.truncate(out / lost, kept)
    rendered: list[int] = []
    real = mixtures_module._render_item
    monkeypatch.setattr(
        mixtures_module, "_render_item", lambda item, **known: rendered.append(item.index) or real(item, **known)
    )
    build_mixtures(out, sounds)
    assert rendered == [1]
    assert bytes_of(out) == bytes_of(built)


def test_workers_make_the_same_bytes(built: Path, sounds: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path / "set", sounds, jobs=2)
    assert bytes_of(tmp_path / "set") == bytes_of(built)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "built with seed 0, and this is 1"),
        ({"num": 7}, "built with num 6, and this is 7"),
        ({"jams": False}, "built with jams True, and this is False"),
        ({"mix": mix_recipe(length_s=0.4)}, r"built with mix\.length_s 0\.5, and this is 0\.4"),
        ({"kind": "cinematic"}, "holds a build of 'universal'"),
    ],
)
def test_other_settings_are_refused_in_the_same_folder(
    built: Path, sounds: Path, change: dict[str, Any], message: str
) -> None:
    before = bytes_of(built)
    with pytest.raises(BuildError, match=message):
        build_mixtures(built, sounds, change.pop("mix", None), **change)
    assert bytes_of(built) == before


def test_a_corpus_whose_tables_changed_is_refused_in_the_same_folder(library: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path / "set", library, num=1)
    sound_rows(library, "effects", 1, first=3)
    sound_corpus(library, {"speech": 3, "music": 3, "effects": 4})
    with pytest.raises(BuildError, match=r"built with corpora\.sounds"):
        build_mixtures(tmp_path / "set", library, num=1)


def test_a_corpus_that_moved_is_the_same(library: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path / "set", library, num=2)
    before = bytes_of(tmp_path / "set")
    moved = tmp_path / "elsewhere" / "sounds"
    moved.parent.mkdir()
    library.rename(moved)
    build_mixtures(tmp_path / "set", moved, num=2)
    assert bytes_of(tmp_path / "set") == before


def test_a_folder_of_somebody_else_is_refused(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"already holds 'thesis\.txt'"):
        build_mixtures(tmp_path, sounds)
    assert files_of(tmp_path) == ["thesis.txt"]


def test_corpora_go_by_the_names_of_their_folders(tmp_path: Path) -> None:
    names = ["m-2", "x/m", "y/m", "music-2023", "music"]
    for name in names:
        sound_corpus(tmp_path / name, {"music": 1})
    found = open_corpora([tmp_path / name for name in names])
    assert list(found) == ["m-2", "m", "m-3", "music-2023", "music"]
    assert [corpus.folder for corpus in found.values()] == [tmp_path / name for name in names]


def test_no_corpora_and_no_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no corpora to draw from"):
        build_mixtures(tmp_path / "set", [])
    with pytest.raises(TableError, match="nowhere"):
        build_mixtures(tmp_path / "set", tmp_path / "nowhere")
    assert not (tmp_path / "set").exists()


# files that cannot be read


def events_of(out: Path) -> set[str]:
    return set(read_table(out, "mixtures")["song_id"].dropna())


@pytest.mark.parametrize("damage", ["vanished", "corrupt"])
def test_mixtures_with_a_broken_file_are_drawn_again(library: Path, tmp_path: Path, damage: str) -> None:
    victim = library / "audio/effects1/effects.flac"  # what comes before it was heard
    if damage == "vanished":
        victim.unlink()
    else:
        victim.write_bytes(b"x" * 4000)
    corpus = build_mixtures(tmp_path / "set", library)
    assert len(corpus.songs()) == 6
    assert "effects1" not in events_of(tmp_path / "set")
    plans = plans_in(tmp_path / "set")
    assert run_of(tmp_path / "set")["replaced"] == sum(plan.attempt for plan in plans) > 0
    assert {plan.attempt for plan in plans} > {0}
    # what was heard before a file broke is not told of the mixture that took its place
    table = read_table(tmp_path / "set", "mixtures")
    heard: list[float] = []
    with CropReader({"sounds": library}) as reader:
        for plan in plans:
            render(plan, reader, heard=lambda event, audio: heard.append(loudness_lufs(audio, RATE)))
    told = table[table["path"].notna()]["loudness_lufs"].fillna(SILENCE_LUFS)
    assert told.tolist() == pytest.approx(heard)
    build_mixtures(tmp_path / "other", library)
    assert bytes_of(tmp_path / "other") == bytes_of(tmp_path / "set")
    build_mixtures(tmp_path / "set", library)  # counts are those of the set, not of the run
    assert run_of(tmp_path / "set")["replaced"] == run_of(tmp_path / "other")["replaced"]
    assert check_build(tmp_path / "set") == []


def test_a_file_that_can_be_read_again_is_heard_where_it_was_first_drawn(library: Path, tmp_path: Path) -> None:
    build_mixtures(tmp_path / "undisturbed", library)
    victim = library / "audio/effects1/effects.flac"
    whole = victim.read_bytes()
    victim.write_bytes(b"x" * 4000)
    build_mixtures(tmp_path / "set", library)
    assert bytes_of(tmp_path / "set") != bytes_of(tmp_path / "undisturbed")
    victim.write_bytes(whole)
    build_mixtures(tmp_path / "set", library)
    assert bytes_of(tmp_path / "set") == bytes_of(tmp_path / "undisturbed")


def test_mixtures_with_a_broken_file_are_left_out_on_request(library: Path, tmp_path: Path) -> None:
    whole = build_mixtures(tmp_path / "whole", library)
    hit = {plan.mixture_id for plan in plans_in(whole.folder) if any(e.song_id == "speech1" for e in plan.events)}
    assert 0 < len(hit) < 6
    (library / "audio/speech1/speech.flac").unlink()
    corpus = build_mixtures(tmp_path / "set", library, on_error="reject")
    assert set(corpus.songs()) == set(whole.songs()) - hit
    assert corpus.rejected is not None
    rows = corpus.rejected.to_dict("records")
    assert {row["id"] for row in rows} == {row["path"] for row in rows} == hit
    assert {(row["stage"], row["reason"]) for row in rows} == {("render", "unreadable")}
    assert all("speech.flac" in row["detail"] for row in rows)
    assert run_of(tmp_path / "set")["rejected"] == {"render": {"unreadable": len(hit)}}
    assert files_of(tmp_path / "set" / "annotations") == sorted(f"{song}.jams" for song in corpus.songs())
    assert check_build(tmp_path / "set") == []


def test_what_a_mixture_left_that_is_rejected_now_is_removed(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    plans = plans_in(build_mixtures(out, library, on_error="reject").folder)
    gone = next(plan.mixture_id for plan in plans if any(event.song_id == "speech1" for event in plan.events))
    (library / "audio/speech1/speech.flac").unlink()
    (out / "audio" / gone / "music.flac").unlink()
    corpus = build_mixtures(out, library, on_error="reject")
    assert gone not in corpus.songs()
    assert not (out / "audio" / gone).exists()
    assert not (out / "annotations" / f"{gone}.jams").exists()
    assert check_build(out) == []


@pytest.mark.parametrize("on_error", ["replace", "reject"])
def test_a_corpus_that_is_gone_is_an_error(library: Path, tmp_path: Path, on_error: str) -> None:
    shutil.rmtree(library / "audio")
    with pytest.raises(AudioError, match=r"none of 2 mixtures could be rendered \(first: .*\.flac"):
        build_mixtures(tmp_path / "set", library, num=2, on_error=on_error)
    assert not (tmp_path / "set" / "stems.parquet").exists()
