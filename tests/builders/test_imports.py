"""An import: a corpus that a check finds well, whatever happened on the way to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import imports
from builders.catalog import CatalogBuilder
from builders.check import check_build
from builders.imports import ImportBuilder, find_songs
from builders.recipe import ImportRecipe
from manifests.audio import content_id, write
from manifests.corpus import Corpus
from manifests.errors import AudioError, BuildError
from manifests.exports import musdb18
from manifests.files import TEMPORARY_PREFIX
from manifests.imports.songs import TOLERANCE
from tests.builders.small_catalog import contents
from tests.manifests.exports.small_corpus import FOUR, RATE, small_corpus, sounds

ROOT = Path(__file__).parents[2]
FOLDERS = ImportRecipe(layout="folders")


def write_song(folder: Path, seed: int, stems: tuple[str, ...] = ("mixture", *FOUR), bit_depth: int = 24) -> None:
    for stem in stems:
        write(folder / f"{stem}.wav", sounds(seed)[stem], RATE, bit_depth)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    for seed, path in enumerate(("train/A - 1", "train/B - 2", "validation/A - 3", "test/C - 4")):
        write_song(tmp_path / "songs" / path, seed)
    return tmp_path / "songs"


def build(folder: Path, out: Path, recipe: ImportRecipe = FOLDERS, **options: Any) -> Corpus:
    return ImportBuilder(out, recipe, **{"jobs": 0, **options}).build(folder)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the songs that are worked on from now on."""
    taken: list[str] = []
    take = imports.take_song

    def note(song: Any, *rest: Any) -> Any:
        taken.append(song.path)
        return take(song, *rest)

    monkeypatch.setattr(imports, "take_song", note)
    return taken


@pytest.mark.parametrize(("audio", "table_format"), [("copy", "parquet"), ("link", "jsonl")])
def test_a_check_finds_an_imported_corpus_well(songs: Path, tmp_path: Path, audio: Any, table_format: Any) -> None:
    write_song(songs / "no mixture", 5, FOUR)
    write_song(songs / "train" / "16 bit", 6, bit_depth=16)
    write_song(songs / "alone", 7, ("vocals",))
    shutil.copytree(songs / "train" / "A - 1", songs / "train" / "A - 1 again")
    corpus = build(songs, tmp_path / "out", ImportRecipe(layout="folders", audio=audio), table_format=table_format)
    assert check_build(tmp_path / "out") == []
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["builder"], run["folder"]) == ("import", str(songs))
    assert run["inputs"] == sorted(corpus.songs())
    assert run["rejected"] == {"hash": {"duplicate": 1}, "take": {"no stems": 1}}
    assert run["counts"] == {
        "hash": {"in": 8, "kept": 8, "rejected": 0},
        "take": {"in": 7, "kept": 7, "rejected": 0},
    }
    assert run["hours"] == {"kept": pytest.approx(6 * 2000 / 8000 / 3600)}


def test_a_check_sees_what_was_changed_after_the_import(songs: Path, tmp_path: Path) -> None:
    corpus = build(songs, tmp_path / "out")
    path = corpus.path_of(corpus.song(corpus.songs()[0])["vocals"])
    write(path, sounds(9)["vocals"], RATE)
    problems = check_build(tmp_path / "out")
    assert [problem.partition(": ")[2][:10] for problem in problems] == ["content_id"]
    settings = json.loads((tmp_path / "out" / "recipe.json").read_text())
    settings["recipe"]["layout"] = "zip"
    (tmp_path / "out" / "recipe.json").write_text(json.dumps(settings))
    assert any("field 'layout' is 'zip'" in problem for problem in check_build(tmp_path / "out"))


def test_the_artists_of_a_dataset_may_be_in_several_of_its_splits(songs: Path, tmp_path: Path) -> None:
    corpus = build(songs, tmp_path / "out")
    of_a = corpus.stems[corpus.stems["artist"] == "A"]
    assert set(of_a["split"]) == {"train", "validation"}
    assert check_build(tmp_path / "out") == []


def test_the_loudest_difference_that_is_taken_passes_the_check(tmp_path: Path) -> None:
    audio = {stem: np.float32(0.5) * part for stem, part in sounds(0).items()}
    audio["mixture"][0, 7] += np.float32(TOLERANCE * 0.999)
    for stem, part in audio.items():
        write(tmp_path / "songs" / "x" / f"{stem}.wav", part, RATE)
    build(tmp_path / "songs", tmp_path / "out")
    assert check_build(tmp_path / "out") == []


def test_workers_make_the_same_corpus(songs: Path, tmp_path: Path) -> None:
    write_song(songs / "alone", 7, ("vocals",))
    build(songs, tmp_path / "one")
    build(songs, tmp_path / "two", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_import_is_resumed_by_song(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, done: int, total: int, rejected: int) -> None:
        if (stage, done) == ("take", 2):
            raise StopError

    taken = noted(monkeypatch)
    with pytest.raises(StopError):
        build(songs, tmp_path / "out", progress=stop)
    with pytest.raises(BuildError, match="has not finished"):
        check_build(tmp_path / "out")
    first, taken[:] = list(taken), []
    build(songs, tmp_path / "out")
    assert len(first) == len(taken) == 2
    assert not set(first) & set(taken)
    taken.clear()
    build(songs, tmp_path / "out")
    assert taken == []
    build(songs, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from builders.imports import ImportBuilder
from builders.recipe import ImportRecipe
from manifests.exports import placing

real = placing.encoding
def die(path, *rest):
    if path.name == "mixture.flac" and any(path.parent.parent.glob("*/mixture.wav")):
        with real(path, *rest) as put:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(path, *rest)
placing.encoding = die
ImportBuilder(Path(sys.argv[2]), ImportRecipe(layout="folders"), jobs=0).build(Path(sys.argv[1]))
"""


def test_a_killed_import_leaves_nothing_that_looks_complete_and_is_resumed(songs: Path, tmp_path: Path) -> None:
    write_song(songs / "z no mixture", 5, FOUR)
    done = subprocess.run([sys.executable, "-c", KILLED, songs, tmp_path / "out"], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(name.startswith(TEMPORARY_PREFIX) for name in left)
    assert "stems.parquet" not in left
    assert "mixture.flac" not in left
    with pytest.raises(BuildError, match="has not finished"):
        check_build(tmp_path / "out")
    build(songs, tmp_path / "out")
    assert check_build(tmp_path / "out") == []
    assert not any(path.name.startswith(TEMPORARY_PREFIX) for path in (tmp_path / "out").rglob("*"))
    build(songs, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_songs_that_left_take_their_files_with_them(songs: Path, tmp_path: Path) -> None:
    build(songs, tmp_path / "out")
    shutil.rmtree(songs / "test")
    write_song(songs / "train" / "B - 2", 8)
    build(songs, tmp_path / "out")
    assert check_build(tmp_path / "out") == []
    build(songs, tmp_path / "anew")
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


def test_a_file_that_was_damaged_in_the_corpus_is_taken_again(songs: Path, tmp_path: Path) -> None:
    corpus = build(songs, tmp_path / "out", ImportRecipe(layout="folders", audio="link"))
    path = corpus.path_of(corpus.song(corpus.songs()[0])["vocals"])
    path.unlink()
    path.write_bytes(b"damaged")
    build(songs, tmp_path / "out", ImportRecipe(layout="folders", audio="link"))
    assert check_build(tmp_path / "out") == []
    assert path.stat().st_nlink == 2


def test_a_file_that_changes_meanwhile_is_a_rejected_song(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(stage: str, done: int, total: int, rejected: int) -> None:
        if (stage, done) == ("take", 0):
            write(songs / "test" / "C - 4" / "vocals.wav", sounds(3)["vocals"], RATE, 16)

    corpus = build(songs, tmp_path / "out", progress=change)
    assert corpus.rejected is not None
    (row,) = corpus.rejected.to_dict("records")
    assert (row["path"], row["reason"]) == ("test/C - 4", "unreadable")
    assert row["detail"].endswith("vocals.wav: changed while it was read; import it again")
    assert row["id"] == content_id(songs / "test" / "C - 4" / "mixture.wav")
    assert check_build(tmp_path / "out") == []


def test_a_folder_with_other_things_in_it_is_refused(songs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(BuildError, match=r"already holds 'thesis\.tex', which no import has written"):
        build(songs, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]


def test_another_builds_folder_is_refused(songs: Path, tmp_path: Path) -> None:
    CatalogBuilder(tmp_path / "out", jobs=0).build(songs)
    before = contents(tmp_path / "out")
    with pytest.raises(BuildError, match="the folder holds a build of 'catalog'"):
        build(songs, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    build(songs, tmp_path / "mine")
    with pytest.raises(BuildError, match="built with audio 'copy', and this is 'link'"):
        build(songs, tmp_path / "mine", ImportRecipe(layout="folders", audio="link"))


def test_two_imports_into_one_folder_are_refused(songs: Path, tmp_path: Path) -> None:
    def again(stage: str, done: int, total: int, rejected: int) -> None:
        if (stage, done) == ("take", 1):
            with pytest.raises(BuildError, match="is at work in this folder"):
                build(songs, tmp_path / "out")

    build(songs, tmp_path / "out", progress=again)
    assert check_build(tmp_path / "out") == []


def test_a_folder_that_was_emptied_does_not_empty_the_corpus(songs: Path, tmp_path: Path) -> None:
    build(songs, tmp_path / "out")
    songs.rename(tmp_path / "away")
    with pytest.raises(AudioError, match="songs: is no folder"):
        build(songs, tmp_path / "out")
    assert check_build(tmp_path / "out") == []


def test_a_corpus_goes_to_musdb18_and_back_and_is_well(tmp_path: Path) -> None:
    musdb18.export(small_corpus(tmp_path / "corpus"), tmp_path / "musdb")
    recipe = ImportRecipe(layout="musdb18", audio="link", license="CC0")
    corpus = build(tmp_path / "musdb", tmp_path / "out", recipe)
    assert check_build(tmp_path / "out") == []
    splits = corpus.stems.drop_duplicates("song_id").set_index("artist")["split"].to_dict()
    assert splits == {"Band 0": "train", "Band 1": "train", "Band 2": "validation", "Band 3": "test"}
    assert set(corpus.stems["license"]) == {"CC0"}


def test_what_would_be_imported_can_be_asked_for(songs: Path) -> None:
    write_song(songs / "twice", 0)
    write(songs / "twice" / "bass.flac", sounds(0)["bass"], RATE)
    found, left_out = find_songs(songs, FOLDERS)
    assert [song.path for song in found] == ["test/C - 4", "train/A - 1", "train/B - 2", "validation/A - 3"]
    assert [(song.path, song.reason) for song in left_out] == [("twice", "several files of a stem")]
