"""A build that is whole has no problems; each thing that is damaged is one line with what, where and how."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from builders import check as check_module
from builders.check import check_build, require_finished
from builders.recipe import RECIPES
from manifests.audio import content_id, write
from manifests.errors import BuildError
from manifests.lock import BuildLock
from manifests.tables import TableFormat
from tests.builders.small_build import FRAMES, RATE, edit, make_build, replace_stem, sounds

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("whole") / "build")


@pytest.fixture
def build(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "build"))


def row_of(rows: Rows, song_id: str, stem: str) -> dict[str, Any]:
    return next(row for row in rows if (row["song_id"], row["stem"]) == (song_id, stem))


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_whole_build_has_no_problems(tmp_path: Path, format: TableFormat) -> None:
    assert check_build(make_build(tmp_path, format=format)) == []


def test_a_build_without_songs_has_no_problems(tmp_path: Path) -> None:
    make_build(tmp_path, songs=0)
    edit(tmp_path, "pairs", lambda rows: rows.clear())
    assert check_build(tmp_path) == []


def test_checking_changes_nothing_in_the_build(build: Path) -> None:
    def state() -> dict[str, tuple[int, str]]:
        files = (path for path in sorted(build.rglob("*")) if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, content_id(path)) for path in files}

    before = state()
    assert check_build(build) == []
    assert state() == before


def test_progress_is_told_by_song_with_the_problems_so_far(build: Path) -> None:
    (build / "audio/song0/vocals.flac").unlink()
    calls: list[tuple[str, int, int, int]] = []
    check_build(build, lambda *call: calls.append(call))
    assert calls == [("check", 0, 2, 0), ("check", 1, 2, 1), ("check", 2, 2, 1)]


def test_a_missing_folder_and_an_unfinished_build_are_errors_that_say_what_to_do(build: Path) -> None:
    with pytest.raises(BuildError, match=r"nowhere: is no folder; give the one .*--out"):
        check_build(build / "nowhere")
    with pytest.raises(BuildError, match=r"audio: holds no stems table; give the folder .*--out"):
        check_build(build / "audio")
    (build / "stems.parquet").unlink()
    with pytest.raises(BuildError, match=r"holds no stems table; its build has not finished: run .* again"):
        require_finished(build)


@pytest.mark.parametrize(
    ("builder", "command"),
    [
        ("catalog", "'stemloom build catalog'"),
        ("universal", "'stemloom build universal'"),
        ("import", "'stemloom import'"),
        ("curate", "'stemloom curate'"),
        ("clean", "'stemloom clean'"),
        ("anchor", "'stemloom anchor'"),
        ("unheard of", "build"),
        (["clean"], "build"),
    ],
)
def test_a_stopped_build_is_told_the_command_that_began_it(build: Path, builder: Any, command: str) -> None:
    change_json(build / "recipe.json", builder=builder)
    (build / "run.json").unlink()
    with pytest.raises(BuildError, match=rf"run\.json: is missing; run the same {command} command again"):
        check_module.read_record(build / "run.json")
    (build / "stems.parquet").unlink()
    with pytest.raises(BuildError, match=rf"not finished: run the same {command} command again, it resumes"):
        require_finished(build)


def test_every_builder_that_keeps_a_recipe_has_a_command() -> None:
    assert set(RECIPES) - set(check_module._COMMANDS) == {"export", "card"}  # these claim no folder


def test_a_build_at_work_in_the_folder_is_waited_for(build: Path) -> None:
    with (
        BuildLock(build),
        pytest.raises(BuildError, match="a build is at work in this folder; check it when"),
    ):
        check_build(build)
    assert check_build(build) == []


TABLES = ("tracks", "pairs", "stems", "rejected")


@pytest.mark.parametrize("name", TABLES)
def test_a_torn_table_is_one_problem(build: Path, name: str) -> None:
    path = build / f"{name}.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    (problem,) = check_build(build)
    assert problem.startswith(f"{path}: cannot be read as Parquet (")
    assert "again" in problem


@pytest.mark.parametrize("name", ["tracks", "pairs", "rejected"])
def test_a_missing_table_is_one_problem(build: Path, name: str) -> None:
    (build / f"{name}.parquet").unlink()
    (problem,) = check_build(build)
    assert re.match(rf"{build}/{name}.parquet: no such table .* run .* again", problem)


def test_a_table_in_both_formats_is_one_problem(build: Path) -> None:
    (build / "stems.jsonl").write_text("")
    (problem,) = check_build(build)
    assert "holds both stems.parquet and stems.jsonl; remove" in problem


def test_a_table_that_breaks_its_schema_is_one_problem_and_the_rest_is_checked(tmp_path: Path) -> None:
    make_build(tmp_path, format="jsonl")
    path = tmp_path / "pairs.jsonl"
    path.write_text(path.read_text().replace('"bit_error_rate":0.1', '"bit_error_rate":1.1'))
    (tmp_path / "audio/song1/vocals.flac").unlink()
    broken, missing = check_build(tmp_path)
    assert broken.startswith(f"{path}: column 'bit_error_rate' has 3 values that are not between 0 and 1")
    assert missing.startswith(f"{tmp_path}/audio/song1/vocals.flac: is missing")


def test_a_song_listed_twice_is_a_problem(tmp_path: Path) -> None:
    make_build(tmp_path, format="jsonl")
    path = tmp_path / "stems.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[2] + "\n")
    (problem,) = check_build(tmp_path)
    assert "1 row repeats the song_id and stem of an earlier one (first: row 6" in problem


@pytest.mark.parametrize(("text", "torn"), [(b"scan", b"sc\xe4n"), (b"reason", b"reas\xe4n")])
def test_text_that_is_not_utf8_is_one_problem(build: Path, text: bytes, torn: bytes) -> None:
    path = build / "rejected.parquet"
    parquet.write_table(parquet.read_table(path), path, compression="none")
    assert check_build(build) == []
    path.write_bytes(path.read_bytes().replace(text, torn))
    (problem,) = check_build(build)
    assert problem.startswith(f"{build}/rejected")
    assert "again" in problem


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_never_crashes_the_check(build: Path, name: str) -> None:
    rng = np.random.default_rng(3)
    path = build / f"{name}.parquet"
    data = path.read_bytes()
    found = 0
    for _ in range(5):
        torn = bytearray(data)
        for at in rng.integers(4, len(torn), 4):
            torn[at] = rng.integers(256)
        path.write_bytes(torn)
        found += bool(check_build(build))
    assert found > 1


def off_at(frame: int, amount: float) -> Any:
    audio = np.zeros((2, FRAMES), np.float32)
    audio[1, frame] = amount
    return audio


def write_float(build: Path, **samples: float) -> None:
    """Give stems of a song one sample that only a float file holds."""
    for stem, value in samples.items():
        audio = sounds(0)[stem]
        audio[1, 700] = value
        soundfile.write(build / f"audio/song0/{stem}.wav", audio.T, RATE, subtype="FLOAT")
        (build / f"audio/song0/{stem}.flac").unlink()

    def change(rows: Rows) -> None:
        for stem in samples:
            path = f"audio/song0/{stem}.wav"
            row_of(rows, "song0", stem).update(path=path, content_id=content_id(build / path))

    edit(build, "stems", change)


def retag(path: Path) -> None:
    """The same sound in other bytes."""
    frames, _ = soundfile.read(path, dtype="int32")
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24", format="FLAC") as file:
        file.title = "changed"
        file.write(frames)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def leave_the_mixture_alone(build: Path) -> None:
    """A build of a kind that promises no particular stems."""
    for name in ("recipe.json", "run.json"):
        change_json(build / name, builder="unknown")
    edit(build, "stems", lambda rows: rows.__delitem__(slice(4, 6)))
    for stem in ("instrumental", "vocals"):
        (build / f"audio/song1/{stem}.flac").unlink()


def name_another_root(build: Path) -> None:
    (build / "audio/song1/vocals.flac").unlink()
    edit(build, "stems", lambda rows: row_of(rows, "song1", "vocals").update(root="films"))


def share_a_file(build: Path) -> None:
    """The same file as vocals and instrumental, in a mixture of it twice."""
    replace_stem(build, "song1", "mixture", 2 * sounds(1)["instrumental"])
    (build / "audio/song1/vocals.flac").unlink()

    def change(rows: Rows) -> None:
        instrumental = row_of(rows, "song1", "instrumental")
        same = {field: instrumental[field] for field in ("path", "content_id")}
        row_of(rows, "song1", "vocals").update(same)

    edit(build, "stems", change)


def mix_from(parents: dict[str, str]) -> Callable[[Rows], None]:
    """Take songs for mixtures of others, each in a split of its own."""

    def change(rows: Rows) -> None:
        for row in rows:
            number = int(row["song_id"].removeprefix("song"))
            row.update(provenance="mixed", parents=parents[row["song_id"]], artist=None)
            row.update(split=("train", "test")[number])

    return change


def split_artist(rows: Rows) -> None:
    for row in rows:
        is_first = row["song_id"] == "song0"
        row.update(split="train" if is_first else "test", artist="The Same" if is_first else "same feat. Guest")


# What is done to the build, and the one line that must tell of it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (
        lambda build: (build / "audio/song1/vocals.flac").unlink(),
        "audio/song1/vocals.flac: is missing, and it is stem 'vocals' of song 'song1'; run the same build",
    ),
    "path out of the build": (
        name_another_root,
        "root 'films' of path 'audio/song1/vocals.flac' is none of '.'",
    ),
    "file changed since": (
        lambda build: retag(build / "audio/song1/vocals.flac"),
        "the file was changed after the build; run the same build",
    ),
    "a stem of another length": (
        lambda build: replace_stem(build, "song0", "vocals", sounds(0)["vocals"][:, :-1]),
        "stems.parquet: stems of song 'song0' differ in num_frames (mixture 11025, instrumental 11025, vocals "
        "11024); run the same build",
    ),
    "a stem of one channel": (
        lambda build: replace_stem(build, "song0", "vocals", sounds(0)["vocals"][:1]),
        "stems of song 'song0' differ in channels (mixture 2, instrumental 2, vocals 1)",
    ),
    "cut file": (
        lambda build: cut(build / "audio/song1/mixture.flac"),
        "audio/song1/mixture.flac: decoding failed after frame ",
    ),
    "sum": (
        lambda build: replace_stem(build, "song0", "vocals", sounds(0)["vocals"] + off_at(700, 2e-4)),
        "audio/song0/mixture.flac: differs from instrumental + vocals by 0.0002",
    ),
    "beyond full scale": (
        lambda build: write_float(build, vocals=1.25, instrumental=-0.5, mixture=0.75),
        "audio/song0/vocals.wav: peak 1.25 at frame 700 is beyond full scale; run the same build",
    ),
    "NaN": (
        lambda build: write_float(build, vocals=np.nan),
        "audio/song0/vocals.wav: sample nan at frame 700, channel 1; ",
    ),
    "same path twice": (
        share_a_file,
        "stems.parquet: row 5: path 'audio/song1/instrumental.flac' stands in an earlier row too",
    ),
    "mixture alone": (
        leave_the_mixture_alone,
        "stems.parquet: song 'song1' has a mixture and no stem that it is the sum of; run the same build",
    ),
    "missing stem": (
        lambda build: (
            edit(build, "stems", lambda rows: rows.remove(row_of(rows, "song1", "vocals"))),
            (build / "audio/song1/vocals.flac").unlink(),
        ),
        "stems.parquet: song 'song1' has no stem vocals; run the same build",
    ),
    "stray audio": (
        lambda build: write(build / "audio/song9/mixture.flac", sounds(0)["mixture"], RATE),
        "audio/song9/mixture.flac: no row of the stems table names this file; run the same build",
    ),
    "killed write": (
        lambda build: (build / "audio/song1/.stemloom-0011223344556677.tmp").write_bytes(b"half"),
        "audio/song1/.stemloom-0011223344556677.tmp: no row of the stems table names this file",
    ),
    "song in two splits": (
        lambda build: edit(
            build, "stems", lambda rows: row_of(rows, "song0", "vocals").update(split="test", artist=None)
        ),
        "stems.parquet: song 'song0' is in the splits none, test; put all of its stems in one",
    ),
    "artist in two splits": (
        lambda build: edit(build, "stems", split_artist),
        "stems.parquet: artist 'The Same' is in the splits train, test; put all their songs in one",
    ),
    "parent in two splits": (
        lambda build: edit(build, "stems", mix_from({"song0": "a;b", "song1": "c;b"})),
        "stems.parquet: song 'b' is in mixtures of the splits test, train; draw each split from songs of its own "
        "('--splits' of the 'stemloom build' commands)",
    ),
    "unknown pair": (
        lambda build: edit(build, "pairs", lambda rows: rows.pop(0)),
        "stems.parquet: song 'song0': pair_id 'song0-inst0' is not in the pairs table; run the same build",
    ),
    "pair not chosen": (
        lambda build: edit(build, "pairs", lambda rows: rows[0].update(status="alternative")),
        "stems.parquet: song 'song0': its pair 'song0-inst0' has status 'alternative'; run the same build",
    ),
    "pair of another song": (
        lambda build: edit(build, "pairs", lambda rows: rows[0].update(song_id="songX")),
        "stems.parquet: song 'song0': its pair 'song0-inst0' has song_id 'songX'; run the same build",
    ),
    "two chosen pairs": (
        lambda build: edit(
            build, "pairs", lambda rows: rows[2].update(status="chosen", song_id="song0", reason=None)
        ),
        "pairs.parquet: song 'song0' has 2 chosen pairs, not one; run the same build",
    ),
    "chosen pair without stems": (
        lambda build: edit(build, "pairs", lambda rows: rows[2].update(status="chosen", song_id="songX")),
        "pairs.parquet: chosen pair 'song0-inst1' has neither stems nor a row in 'rejected'; run the same build",
    ),
    "no run.json": (
        lambda build: (build / "run.json").unlink(),
        "run.json: is missing; run the same 'stemloom build catalog'",
    ),
    "torn run.json": (
        lambda build: (build / "run.json").write_text('{"builder": "cat'),
        "run.json: is not JSON (Unterminated string",
    ),
    "run.json of another kind": (
        lambda build: (build / "run.json").write_text("[1, 2]"),
        "run.json: holds [1, 2], not an object; remove it and run the same 'stemloom build catalog'",
    ),
    "run.json without hours": (
        lambda build: change_json(build / "run.json", hours=7),
        "run.json: field 'hours' is 7, where a JSON object belongs; remove the file and run the same '",
    ),
    "run.json of other inputs": (
        lambda build: change_json(build / "run.json", inputs=["song0", "inst0", "else"]),
        "run.json: field 'inputs' lists 1 content ids that are not in the tracks table, and lacks 2 of the 4",
    ),
    "run.json with other rejects": (
        lambda build: change_json(build / "run.json", rejected={}),
        "run.json: field 'rejected' is scan nothing, and {'unreadable': 1} in its table; run the same build",
    ),
    "no recipe.json": (
        lambda build: (build / "recipe.json").unlink(),
        "recipe.json: is missing; run the same build",
    ),
    "recipe.json that holds nothing": (
        lambda build: (build / "recipe.json").write_text("null"),
        "recipe.json: holds null, not an object; remove it and run the same build command again",
    ),
    "recipe.json of no builder": (
        lambda build: change_json(build / "recipe.json", builder=None),
        "recipe.json: field 'builder' is null, where a JSON string belongs; remove the file and run the",
    ),
    "recipe.json with a bad value": (
        lambda build: [change_json(build / name, recipe={"bit_depth": 8}) for name in ("recipe.json", "run.json")],
        "recipe.json: field 'bit_depth' is 8: Input should be 16 or 24; correct the value",
    ),
    "another recipe": (
        lambda build: change_json(build / "recipe.json", recipe={"bit_depth": 16}),
        "run.json: field 'recipe' is max_duration_difference_s 2.0, and nothing in recipe.json; run the same",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_one_line(build: Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    damage(build)
    problems = check_build(build)
    told = [problem for problem in problems if expected in problem]
    assert told == problems
    assert len(told) == 1
    assert told[0].startswith(str(build))


def test_parents_of_several_splits_are_told_up_to_a_number(build: Path) -> None:
    many = ";".join(f"p{number:02}" for number in range(30))
    edit(build, "stems", mix_from({"song0": many, "song1": f"{many};own"}))
    problems = check_build(build)
    assert len(problems) == 21
    assert [problem.split("'")[1] for problem in problems[:20]] == [f"p{number:02}" for number in range(20)]
    assert problems[20].endswith("10 more songs are in mixtures of several splits")


def test_parents_of_one_split_each_are_well(build: Path) -> None:
    edit(build, "stems", mix_from({"song0": "a;b", "song1": "c"}))
    assert check_build(build) == []


@pytest.mark.parametrize("field", ["num_frames", "sample_rate", "channels"])
def test_a_file_is_held_against_its_row(build: Path, field: str) -> None:
    edit(build, "stems", lambda rows: [row.update({field: 3}) for row in rows if row["song_id"] == "song1"])
    found = {"num_frames": FRAMES, "sample_rate": RATE, "channels": 2}[field]
    assert check_build(build) == [
        f"{build}/audio/song1/{stem}.flac: {field} is {found}, and its row in the stems table says 3; "
        "run the same build command again"
        for stem in ("mixture", "instrumental", "vocals")
    ]


def test_a_song_that_failed_to_derive_is_no_problem(build: Path) -> None:
    edit(build, "pairs", lambda rows: rows[2].update(status="chosen", song_id="songX"))
    row = {"id": None, "path": "song0.flac", "stage": "derive", "reason": "unreadable", "detail": "gone"}
    edit(build, "rejected", lambda rows: rows.append(row))
    change_json(build / "run.json", rejected={"scan": {"unreadable": 1}, "derive": {"unreadable": 1}})
    assert check_build(build) == []


def test_a_difference_within_the_tolerance_is_no_problem(build: Path) -> None:
    replace_stem(build, "song0", "vocals", sounds(0)["vocals"] + off_at(700, 0.9e-4))
    assert check_build(build) == []


def test_a_late_difference_is_found_block_by_block_at_its_frame(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = check_module.blocks

    def counted(path: Path, block_frames: int) -> Iterator[Any]:
        for block in real(path, block_frames):
            sizes.append(block.shape[1])
            yield block

    monkeypatch.setattr(check_module, "_BLOCK_FRAMES", 1000)
    monkeypatch.setattr(check_module, "blocks", counted)
    replace_stem(build, "song0", "vocals", sounds(0)["vocals"] + off_at(9876, 0.01))
    (problem,) = check_build(build)
    assert problem.startswith(f"{build}/audio/song0/mixture.flac: differs from instrumental + vocals by 0.0")
    assert "of full scale at frame 9876 (at most 0.0001)" in problem
    assert set(sizes) == {1000, FRAMES % 1000}


def test_names_with_line_breaks_and_control_codes_stay_in_their_line(build: Path) -> None:
    shutil.copy(build / "audio/song0/vocals.flac", build / "audio/song0/a\nb\x1b[31m\udcff.flac")
    (problem,) = check_build(build)
    assert problem.startswith(f"{build}/audio/song0/a\\nb\\x1b[31m\\udcff.flac: no row")
