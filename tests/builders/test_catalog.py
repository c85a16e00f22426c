"""The path from a folder of releases to triplets, on songs of eight seconds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from builders.catalog import CatalogBuilder
from builders.check import check_build
from builders.engine import LITTLE, LocalEngine, Needs, Outcome
from builders.recipe import CatalogRecipe
from manifests.audio import content_id, read
from manifests.corpus import Corpus
from manifests.errors import AudioError, BuildError, RecipeError
from manifests.files import TEMPORARY_PREFIX
from manifests.lock import BuildLock
from manifests.loudness import loudness_lufs
from manifests.tables import find_table, read_table
from tests.builders.small_catalog import (
    FRAMES,
    MIN_SONG_S,
    RATE,
    SECONDS,
    build,
    chosen_paths,
    contents,
    largest_error,
    mixture,
    mixture_with_intro,
    parts,
    rejections,
    stage_name,
    write_catalog,
    write_file,
    write_pair,
)
from tests.synthesis import fractional_delay

TABLES = ("tracks", "pairs", "stems", "rejected")


class Recorder:
    """An engine that remembers which stages ran on how many items."""

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        for outcome in LocalEngine(0).run(stage, items):
            self.ran[stage_name(stage)] += 1
            yield outcome


class Reversed:
    """An engine whose items are done in the opposite order."""

    def run(
        self, stage: Callable[[Any], Any], items: Iterator[tuple[str, Any]], needs: Needs = LITTLE
    ) -> Iterator[Outcome[Any]]:
        return LocalEngine(0).run(stage, list(items)[::-1])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, a song without one, a copy, and a cover image."""
    folder = write_catalog(tmp_path_factory.mktemp("music"), 0, 1)
    write_file(folder / "Song 2.flac", mixture(2))
    (folder / "copies").mkdir()
    (folder / "copies" / "Song 0.flac").write_bytes((folder / "Song 0.flac").read_bytes())
    (folder / "cover.jpg").write_bytes(b"\xff\xd8")
    return folder


@pytest.fixture(scope="module")
def corpus(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """An undisturbed build; not to be changed."""
    return build(music, tmp_path_factory.mktemp("build"))


def table(corpus: Corpus, name: str) -> pd.DataFrame:
    return read_table(corpus.folder, name)


def test_every_pair_becomes_a_song_that_sums(corpus: Corpus) -> None:
    assert chosen_paths(corpus) == {(f"Song {n}.flac", f"Song {n} (Instrumental).flac") for n in (0, 1)}
    assert len(corpus.songs()) == 2
    assert largest_error(corpus) == 0.0


def test_derived_stems_are_the_songs_own(corpus: Corpus) -> None:
    pairs = {row["song_id"]: row for row in table(corpus, "pairs").to_dict("records")}
    for song_id in corpus.songs():
        pair = pairs[song_id]
        number = int(pair["mixture_path"].removeprefix("Song ").removesuffix(".flac"))
        ((start, end, _),) = json.loads(pair["segments"])
        assert end - start > FRAMES - 100
        truth = parts(number)[1][:, start:end]
        vocals = corpus.load((song_id, "vocals"))
        assert vocals.shape == truth.shape
        assert 10 * np.log10(np.sum(truth**2) / np.sum((vocals - truth) ** 2)) > 15


def test_the_tables_say_what_was_found(corpus: Corpus, music: Path) -> None:
    tracks = table(corpus, "tracks")
    assert list(tracks["path"]) == [
        *(f"Song {end}.flac" for end in ("0 (Instrumental)", "0", "1 (Instrumental)", "1", "2")),
        "copies/Song 0.flac",
    ]
    assert set(tracks["root"]) == {"catalog"}
    for row in tracks.to_dict("records"):
        audio, rate = read(music / row["path"])
        assert row["track_id"] == content_id(music / row["path"])
        assert (row["num_frames"], row["sample_rate"], row["channels"]) == (audio.shape[1], rate, 2)
        assert row["version"] == ("instrumental" if "Instrumental" in row["path"] else "original")
    pairs = table(corpus, "pairs")
    assert (pairs.loc[pairs["status"] == "refused", "reason"].str.len() > 0).all()
    stems = table(corpus, "stems")
    assert list(stems["stem"]) == ["mixture", "instrumental", "vocals"] * 2
    assert list(stems["song_id"]) == sorted(stems["song_id"])
    assert set(stems["song_id"]) == set(pairs.loc[pairs["status"] == "chosen", "mixture_id"])
    for row in stems.to_dict("records"):
        assert content_id(corpus.folder / row["path"]) == row["content_id"]


def test_what_was_left_out_is_told_once_with_its_reason(corpus: Corpus) -> None:
    assert rejections(corpus) == {
        "copies/Song 0.flac": ("match", "duplicate", "the same bytes as Song 0.flac"),
        "cover.jpg": ("scan", "not audio", "suffix '.jpg' is no audio format"),
    }


def test_the_run_adds_up(corpus: Corpus, music: Path) -> None:
    run = json.loads((corpus.folder / "run.json").read_text())
    assert run["recipe"] == CatalogRecipe(min_song_s=MIN_SONG_S).model_dump(mode="json")
    assert run["catalog"] == str(music)
    assert run["counts"]["survey"] == {"in": 6, "kept": 6, "rejected": 0}
    assert run["counts"]["derive"] == {"in": 2, "kept": 2, "rejected": 0}
    assert run["counts"]["choose"]["chosen"] == 2
    assert run["rejected"] == {"match": {"duplicate": 1}, "scan": {"not audio": 1}}
    assert run["hours"]["in"] == pytest.approx(6 * SECONDS / 3600)
    assert run["hours"]["kept"] == pytest.approx(2 * SECONDS / 3600, rel=1e-3)
    assert set(run["wall_s"]) == {"hash", "survey", "match", "align", "derive"}
    assert run["inputs"] == sorted(table(corpus, "tracks")["track_id"])


def test_a_build_passes_its_check_and_leaves_nothing_else_behind(corpus: Corpus) -> None:
    assert list(check_build(corpus.folder)) == []
    audio = {
        f"audio/{song}/{stem}.flac" for song in corpus.songs() for stem in ("mixture", "instrumental", "vocals")
    }
    assert set(contents(corpus.folder)) == audio | {f"{name}.parquet" for name in TABLES} | {"recipe.json"}


def test_a_second_run_computes_nothing_and_changes_no_byte(corpus: Corpus, music: Path) -> None:
    before = contents(corpus.folder)
    times = {name: (corpus.folder / name).stat().st_mtime_ns for name in before if name.startswith("audio")}
    recorder = Recorder()
    build(music, corpus.folder, settings={"engine": recorder})
    assert set(recorder.ran) <= {"hash_file"}
    assert contents(corpus.folder) == before
    assert {name: (corpus.folder / name).stat().st_mtime_ns for name in times} == times


def test_a_moved_catalogue_keeps_its_results(corpus: Corpus, music: Path, tmp_path: Path) -> None:
    shutil.copytree(music, tmp_path / "music")
    before = contents(corpus.folder)
    recorder = Recorder()
    build(tmp_path / "music", corpus.folder, settings={"engine": recorder})
    assert set(recorder.ran) == {"hash_file"}
    assert contents(corpus.folder) == before


def test_a_deleted_or_damaged_stem_is_written_again(corpus: Corpus, music: Path) -> None:
    before = contents(corpus.folder)
    first, second = corpus.songs()
    (corpus.folder / "audio" / first / "vocals.flac").unlink()
    (corpus.folder / "audio" / second / "mixture.flac").write_bytes(b"fLaC")
    recorder = Recorder()
    build(music, corpus.folder, settings={"engine": recorder})
    assert {name: count for name, count in recorder.ran.items() if name != "hash_file"} == {"write_triplet": 2}
    assert contents(corpus.folder) == before


@pytest.mark.parametrize("change", [{"min_song_s": 4.0}, {"loudness_lufs": -23.0}, {"bit_depth": 16}])
def test_another_recipe_is_refused_in_the_same_folder(corpus: Corpus, music: Path, change: dict[str, Any]) -> None:
    before = contents(corpus.folder)
    (field,) = change
    with pytest.raises(
        BuildError, match=rf"recipe\.json: the folder was built with {field} .*another --out folder"
    ):
        build(music, corpus.folder, **change)
    assert contents(corpus.folder) == before


def test_what_a_worker_was_writing_that_was_killed_does_not_stay(tmp_path: Path, music: Path) -> None:
    left: list[Path] = []

    def kill(stage: str, done: int, total: int, rejected: int) -> None:
        if stage == "derive" and not left:
            left.append(tmp_path / "out" / "audio" / f"{TEMPORARY_PREFIX}0123456789abcdef.tmp")
            left[0].parent.mkdir(exist_ok=True)
            left[0].write_bytes(b"half")

    build(music, tmp_path / "out", settings={"progress": kill})
    assert len(left) == 1
    assert not left[0].exists()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", "null", '{"a": ' * 1000, '{"max_song_s": 3}', '{"builder": "catalog", "recipe": []}', "\xff"],
)
def test_a_recipe_file_that_cannot_be_read_is_refused(tmp_path: Path, music: Path, text: str) -> None:
    (tmp_path / "recipe.json").write_text(text, encoding="latin-1")
    with pytest.raises(
        BuildError, match=r"recipe\.json: is no recipe, .* delete the file and run the same command"
    ):
        build(music, tmp_path)


def test_a_recipe_that_the_disk_does_not_give_is_told(tmp_path: Path, music: Path) -> None:
    (tmp_path / "recipe.json").mkdir()
    with pytest.raises(BuildError, match=r"recipe\.json: cannot be read \(Is a directory\); check the disk"):
        build(music, tmp_path)


def test_jsonl_tables_equal_parquet_ones_and_replace_them(corpus: Corpus, music: Path) -> None:
    frames = {name: table(corpus, name) for name in TABLES}
    build(music, corpus.folder, settings={"table_format": "jsonl"})
    assert {path.suffix for path in map(Path, contents(corpus.folder)) if path.stem in TABLES} == {".jsonl"}
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(table(corpus, name), frame)
    build(music, corpus.folder)
    assert {path.suffix for path in map(Path, contents(corpus.folder)) if path.stem in TABLES} == {".parquet"}


def test_the_order_in_which_items_are_done_does_not_show(corpus: Corpus, music: Path, tmp_path: Path) -> None:
    build(music, tmp_path, settings={"engine": Reversed()})
    assert contents(tmp_path) == contents(corpus.folder)


def test_a_limit_takes_the_first_paths_and_tells_of_the_rest(corpus: Corpus, music: Path, tmp_path: Path) -> None:
    limited = build(music, tmp_path, settings={"limit": 2})
    assert list(table(limited, "tracks")["path"]) == ["Song 0 (Instrumental).flac", "Song 0.flac"]
    beyond = {path for path, row in rejections(limited).items() if row[:2] == ("scan", "limit")}
    assert beyond == {"Song 1 (Instrumental).flac", "Song 1.flac", "Song 2.flac", "copies/Song 0.flac"}
    assert len(limited.songs()) == 1
    assert contents(build(music, tmp_path).folder) == contents(corpus.folder)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(RecipeError, match=f"limit is {limit}"):
        CatalogBuilder(tmp_path, limit=limit)


@pytest.mark.parametrize("memory", [0, 999_999_999])
def test_less_memory_than_the_libraries_need_is_refused(tmp_path: Path, memory: int) -> None:
    with pytest.raises(RecipeError, match=f"max_memory_bytes is {memory}; give at least 1e9"):
        CatalogBuilder(tmp_path, max_memory_bytes=memory)


@pytest.mark.parametrize("memory", [None, 2_000_000_000])
def test_the_default_engine_has_the_limits_that_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None
) -> None:
    (tmp_path / "music").mkdir()
    engines: list[LocalEngine] = []

    def run(self: LocalEngine, stage: object, items: object, needs: object = None) -> Iterator[Outcome[Any]]:
        engines.append(self)
        return iter(())

    monkeypatch.setattr(LocalEngine, "run", run)
    build(tmp_path / "music", tmp_path / "out", settings={"jobs": 3, "max_memory_bytes": memory}, max_item_s=7.0)
    assert set(engines) == {LocalEngine(3, timeout_s=7.0, max_memory_bytes=memory)}


@pytest.mark.parametrize(
    "recipe", [{"method": "half-wave"}, {"loudness_lufs": -23.0, "audio_format": "wav", "bit_depth": 16}]
)
def test_other_recipes_keep_the_sum(tmp_path: Path, recipe: dict[str, Any]) -> None:
    write_pair(tmp_path / "music", 0)
    corpus = build(tmp_path / "music", tmp_path / "out", **recipe)
    assert len(corpus.songs()) == 1
    assert largest_error(corpus) == 0.0
    if "loudness_lufs" in recipe:
        audio = corpus.load((corpus.songs()[0], "mixture"))
        assert loudness_lufs(audio, RATE) == pytest.approx(-23.0, abs=0.02)
        assert {path.suffix for path in (corpus.folder / "audio").rglob("*.*")} == {".wav"}


@pytest.mark.parametrize(
    "names",
    [
        ("Song {} (Instrumental).flac", "Song {}.flac"),  # exchanged
        ("xk{}.flac", "7.flac"),  # none
        ("a/Night {}.flac", "b/Day {} (Live).flac"),  # other titles
    ],
)
def test_wrong_or_missing_labels_still_pair(tmp_path: Path, names: tuple[str, str]) -> None:
    first, second = (name.format(0) for name in names)
    write_file(tmp_path / "music" / first, mixture_with_intro(0))
    write_file(tmp_path / "music" / second, parts(0)[0])
    write_pair(tmp_path / "music", 1)
    corpus = build(tmp_path / "music", tmp_path / "out")
    assert chosen_paths(corpus) == {(first, second), ("Song 1.flac", "Song 1 (Instrumental).flac")}


def test_of_two_instrumentals_one_is_chosen_and_the_other_kept_as_alternative(tmp_path: Path) -> None:
    music = write_catalog(tmp_path / "music", 0)
    write_file(music / "Song 0 (Karaoke).flac", fractional_delay(parts(0)[0] * np.float32(0.8), 50.5))
    corpus = build(music, tmp_path / "out")
    assert corpus.pairs is not None
    by_status = corpus.pairs["status"].value_counts().to_dict()
    assert (by_status["chosen"], by_status["alternative"]) == (1, 1)
    assert len(corpus.songs()) == 1


def test_a_song_that_left_the_catalogue_leaves_the_corpus(tmp_path: Path) -> None:
    music = write_catalog(tmp_path / "music", 0, 1)
    both = build(music, tmp_path / "out").songs()
    (music / "Song 0 (Instrumental).flac").unlink()
    left = build(music, tmp_path / "out")
    assert chosen_paths(left) == {("Song 1.flac", "Song 1 (Instrumental).flac")}
    assert [path.name for path in (tmp_path / "out" / "audio").iterdir()] == left.songs()
    assert set(left.songs()) < set(both)
    assert list(check_build(left.folder)) == []


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("left", [[], ["cover.jpg"]])
def test_a_catalogue_that_has_become_empty_is_refused_and_the_stems_stay(
    tmp_path: Path, left: list[str], is_finished: bool
) -> None:
    music, out = write_catalog(tmp_path / "music", 0, 1), tmp_path / "out"
    build(music, out)
    finished = contents(out)
    if not is_finished:
        (out / "stems.parquet").unlink()
    before = contents(out)
    music.rename(tmp_path / "elsewhere")
    music.mkdir()
    for name in left:
        (music / name).touch()
    message = (
        rf"{music}: holds no readable audio file, and {out} has the stems of an earlier build \(songs: 2\), which "
        "would be deleted; mount the drive or correct the path, or delete the build folder to start anew"
    )
    with pytest.raises(BuildError, match=message):
        build(music, out)
    assert contents(out) == before
    assert contents(build(tmp_path / "elsewhere", out).folder) == finished


def test_an_empty_build_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "out" / "audio" / "album").mkdir(parents=True)
    (tmp_path / "out" / "audio" / "album" / "mine.flac").touch()
    first = contents(build(tmp_path / "music", tmp_path / "out").folder)
    assert contents(build(tmp_path / "music", tmp_path / "out").folder) == first


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    music = write_catalog(tmp_path / "music", 0)
    mine = tmp_path / "out" / "audio" / "mine.flac"
    also_mine = tmp_path / "out" / "audio" / "album" / "vocals.flac"
    for path in (mine, also_mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    build(music, tmp_path / "out")
    assert mine.read_bytes() == also_mine.read_bytes() == b"precious"


@pytest.mark.parametrize("out", [".", "build", "a/b/c"])
def test_a_build_folder_inside_the_catalogue_is_refused(tmp_path: Path, out: str) -> None:
    write_file(tmp_path / "Song.flac", parts(0)[0])
    for method in ("build", "scan"):
        with pytest.raises(BuildError, match=r"lies in the catalogue .*; choose an --out folder outside of it"):
            getattr(CatalogBuilder(tmp_path / out, jobs=0), method)(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["Song.flac"]


@pytest.mark.parametrize("folder", ["audio", "audio/music"])
def test_a_catalogue_where_the_stems_go_is_refused(tmp_path: Path, folder: str) -> None:
    song = write_file(tmp_path / folder / "Song.flac", parts(0)[0])
    with pytest.raises(BuildError, match=r"lies where .* keeps its stems; choose another --out folder"):
        build(tmp_path / folder, tmp_path)
    assert song.exists()


def test_a_catalogue_beside_the_stems_is_fine(tmp_path: Path) -> None:
    write_pair(tmp_path / "music", 0)
    assert len(build(tmp_path / "music", tmp_path).songs()) == 1


def test_a_scan_writes_two_tables_and_a_build_of_any_recipe_goes_on_from_it(music: Path, tmp_path: Path) -> None:
    tracks = CatalogBuilder(tmp_path, jobs=0).scan(music)
    assert set(contents(tmp_path)) == {"tracks.parquet", "rejected.parquet"}
    pd.testing.assert_frame_equal(read_table(tmp_path, "tracks"), tracks)
    assert len(tracks) == 6
    recorder = Recorder()
    build(music, tmp_path, settings={"engine": recorder}, min_song_s=7.0)
    assert recorder.ran["survey_file"] == 0
    assert recorder.ran["write_triplet"] == 2


def test_a_scan_does_not_replace_the_tables_of_a_finished_build(corpus: Corpus, music: Path) -> None:
    before = contents(corpus.folder)
    with pytest.raises(BuildError, match="holds a finished build with its tracks table; choose another folder"):
        CatalogBuilder(corpus.folder, jobs=0, limit=1).scan(music)
    assert contents(corpus.folder) == before


def test_progress_covers_every_stage_from_nothing_to_all(music: Path, corpus: Corpus) -> None:
    calls: list[tuple[str, int, int, int]] = []
    build(music, corpus.folder, settings={"progress": lambda *call: calls.append(call)})
    assert list(dict.fromkeys(call[0] for call in calls)) == ["hash", "survey", "match", "align", "derive"]
    for stage in ("hash", "survey", "align", "derive"):
        mine = [call for call in calls if call[0] == stage]
        # files that were at rest are known, and need not be hashed again
        first = mine[0][1] if stage == "hash" else 0
        assert [done for _, done, _, _ in mine] == list(range(first, mine[0][2] + 1))


def test_a_second_build_on_a_folder_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    music = write_catalog(tmp_path / "music", 0)
    refusals: list[str] = []

    def intrude(stage: str, done: int, total: int, rejected: int) -> None:
        with pytest.raises(BuildError, match=r"another build \(pid \d+\) is at work in this folder") as caught:
            build(music, tmp_path / "out")
        refusals.append(str(caught.value))

    corpus = build(music, tmp_path / "out", settings={"progress": intrude})
    assert len(refusals) > 5
    assert len(corpus.songs()) == 1
    with BuildLock(tmp_path / "out"):
        pass


def test_an_unfinished_build_has_no_stems_table(tmp_path: Path) -> None:
    """While the catalogue is read, the earlier build is still whole; from then on there is none."""
    music = write_catalog(tmp_path / "music", 0)
    build(music, tmp_path / "out")
    seen: dict[str, set[bool]] = {}

    def look(stage: str, *_: int) -> None:
        seen.setdefault(stage, set()).add(find_table(tmp_path / "out", "stems") is not None)

    build(music, tmp_path / "out", settings={"progress": look})
    assert seen == {"hash": {True}, "survey": {True}, "match": {False}, "align": {False}, "derive": {False}}
    assert find_table(tmp_path / "out", "stems") is not None


def test_a_catalogue_that_is_no_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is no folder"):
        build(tmp_path / "absent", tmp_path / "out")
    assert not (tmp_path / "out").exists()
