"""What people have on their disks: every bad file costs itself alone, with a reason, and nothing is lost.

Most cases are files of one catalogue, built once beside pairs that must come out unharmed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from builders.check import check_build
from builders.scan import FoundFile, survey_file
from manifests.audio import Audio, content_id, probe, write
from manifests.corpus import Corpus
from manifests.tables import read_table
from tests.builders.small_catalog import (
    RATE,
    build,
    chosen_paths,
    largest_error,
    mixture,
    mixture_with_intro,
    parts,
    rejections,
    write_file,
    write_pair,
)
from tests.synthesis import tone

ROOT = Path(__file__).parents[2]
TITLE = "Na\x07ch\u202et \t\x1b[31m 🌙👩‍🎤 " + "x" * 10_000
ARTIST = "שלום عالم\r\n"


def png(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + np.random.default_rng(0).bytes(20_000))


def zero_bytes(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("Lorem ipsum dolor sit amet, " * 500)


def half(path: Path) -> None:
    write_file(path, mixture(8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def header_only(path: Path) -> None:
    write_file(path, mixture(8))
    path.write_bytes(path.read_bytes()[:44])


def no_frames(path: Path) -> None:
    write_file(path, np.zeros((2, 0), np.float32))


def holding(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        audio = mixture(8).copy()
        audio[1, 150_000] = value
        soundfile.write(path, audio.T, RATE, subtype="FLOAT")

    return make


def with_channels(count: int) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, np.tile(mixture(8)[:1].T, (1, count)), RATE) and None


def at_rate(sample_rate: int) -> Callable[[Path], None]:
    return lambda path: write(path, mixture(8), sample_rate)


def constant(level: float) -> Callable[[Path], None]:
    return lambda path: write(path, np.full((2, 6 * RATE), level, np.float32), RATE)


def a_tenth(path: Path) -> None:
    write_file(path, mixture(8)[:, : RATE // 10])


# file name: how it is made, and what becomes of it: stage, reason, detail
BAD: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "zero bytes.mp3": (zero_bytes, "scan", "unreadable", "zero bytes; copy or download the file again"),
    "zero bytes.m4a": (zero_bytes, "scan", "unreadable", "zero bytes.m4a: zero bytes"),
    "a png.mp3": (png, "scan", "unreadable", "not audio that libsndfile can read"),
    "a png.aac": (png, "scan", "unreadable", "a png.aac: "),
    "text.wav": (text, "scan", "unreadable", "not audio that libsndfile can read"),
    "text.ogg": (text, "scan", "unreadable", "not audio that libsndfile can read"),
    "cut.flac": (half, "scan", "unreadable", "cut short or damaged"),
    "cut.wav": (half, "scan", "unreadable", "cut short|copy it again"),
    "cut.mp3": (half, "scan", "unreadable", "cut short"),
    "cut.ogg": (half, "scan", "unreadable", "cut short"),
    "header.wav": (header_only, "scan", "unreadable", "header.wav: "),
    "header.flac": (header_only, "scan", "unreadable", "header.flac: "),
    "no frames.wav": (no_frames, "scan", "unreadable", "no frames.wav: "),
    "nan.wav": (holding(np.nan), "scan", "unreadable", "sample nan at frame 150000, channel 1; export the file"),
    "inf.wav": (holding(-np.inf), "scan", "unreadable", "sample -inf at frame 150000, channel 1; export the file"),
    "silence.flac": (constant(0.0), "match", "silent", "nothing is louder than -60 dBFS"),
    "constant.flac": (constant(0.5), "match", "silent", "nothing is louder than -60 dBFS"),
    "full scale.flac": (constant(-1.0), "match", "silent", "nothing is louder than -60 dBFS"),
    "a tenth.flac": (a_tenth, "match", "too short", "0.1 s of music"),
    "surround.flac": (with_channels(6), "match", "channels", "has 6 channels; downmix to stereo first"),
    "eight.wav": (with_channels(8), "scan", "unreadable", "8 channels, can weigh 1 to 6; downmix first"),
    "slow.wav": (at_rate(4000), "scan", "unreadable", "4000, can measure 8000 to 192000; resample it"),
    "fast.wav": (at_rate(384_000), "scan", "unreadable", "384000, can measure 8000 to 192000; resample it"),
    "notes.txt": (text, "scan", "not audio", "suffix '.txt' is no audio format"),
    "no suffix": (text, "scan", "not audio", "suffix '' is no audio format"),
    "._Song.mp3": (png, "scan", "unreadable", "not audio that libsndfile can read"),
}


def write_tagged(folder: Path) -> tuple[str, str]:
    names = "t/1.flac", "t/2.flac"
    write_file(folder / names[0], mixture(1), title=TITLE, artist=ARTIST)
    write_file(folder / names[1], parts(1)[0], title=f"(Instrumental) {TITLE}", artist=ARTIST)
    return names


def write_named(folder: Path) -> tuple[str, str]:
    names = "n/\u202e🌙 שלום\n\t'\"[b].flac", "n/\u202e🌙 שלום\n\t'\"[b] (Instrumental).flac"
    write_file(folder / names[0], mixture(2))
    write_file(folder / names[1], parts(2)[0])
    return names


def write_as(*files: tuple[str, Audio, int]) -> Callable[[Path], tuple[str, str]]:
    def write_both(folder: Path) -> tuple[str, str]:
        for name, audio, sample_rate in files:
            write_file(folder / name, audio, sample_rate)
        return files[0][0], files[1][0]

    return write_both


def write_mislabelled(folder: Path) -> tuple[str, str]:
    write_pair(folder, 6, ("Six {}.wav", "Six {} (Instrumental).wav"))
    (folder / "Six 6.wav").rename(folder / "Six 6.flac")
    return "Six 6.flac", "Six 6 (Instrumental).wav"


ODD: dict[str, Callable[[Path], tuple[str, str]]] = {
    "control characters, 10 kB, emoji and right-to-left text in tags": write_tagged,
    "the same in file names": write_named,
    "mono": write_as(("M.flac", mixture(3)[:1], RATE), ("M (Instrumental).flac", parts(3)[0][:1], RATE)),
    "8 kHz": write_as(
        ("E.flac", mixture_with_intro(4, 12, 8000), 8000), ("E (Instrumental).flac", parts(4, 12, 8000)[0], 8000)
    ),
    "192 kHz": write_as(
        ("F.flac", mixture(5, 7, 192_000), 192_000), ("F (Instrumental).flac", parts(5, 7, 192_000)[0], 192_000)
    ),
    "a wav that is called flac": write_mislabelled,
    "clipped": write_as(
        ("C.flac", np.clip(2 * mixture(7), -1, 1), RATE), ("C (Instrumental).flac", parts(7)[0], RATE)
    ),
}


@pytest.fixture(scope="module")
def odd_paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, str]]]:
    """The catalogue, and the two paths of each odd pair in it."""
    folder = tmp_path_factory.mktemp("music")
    write_pair(folder, 0)
    for name, (make, *_) in BAD.items():
        make(folder / name)
    return folder, {name: write_both(folder) for name, write_both in ODD.items()}


@pytest.fixture(scope="module")
def corpus(odd_paths: tuple[Path, dict[str, tuple[str, str]]], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(odd_paths[0], tmp_path_factory.mktemp("build"))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_rejected_with_a_reason_that_helps(corpus: Corpus, name: str) -> None:
    _, *expected, detail = BAD[name]
    *found, found_detail = rejections(corpus)[name]
    assert found == expected
    assert re.search(detail, found_detail), found_detail


@pytest.mark.parametrize("name", ODD)
def test_an_odd_pair_is_found_and_its_stems_sum(
    corpus: Corpus, odd_paths: tuple[Path, dict[str, tuple[str, str]]], name: str
) -> None:
    assert odd_paths[1][name] in chosen_paths(corpus)


def test_nothing_is_lost_and_nothing_else_is_rejected(
    corpus: Corpus, odd_paths: tuple[Path, dict[str, tuple[str, str]]]
) -> None:
    assert set(rejections(corpus)) == set(BAD)
    folder, odd = odd_paths
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    surveyed = set(read_table(corpus.folder, "tracks")["path"])
    unread = {path for path, (stage, *_) in rejections(corpus).items() if stage == "scan"}
    assert surveyed | unread == files
    assert not surveyed & unread
    assert chosen_paths(corpus) == {("Song 0.flac", "Song 0 (Instrumental).flac"), *odd.values()}
    assert largest_error(corpus) == 0.0
    assert list(check_build(corpus.folder)) == []


def test_a_file_that_is_known_is_rejected_by_its_content_id(
    corpus: Corpus, odd_paths: tuple[Path, dict[str, tuple[str, str]]]
) -> None:
    rows = read_table(corpus.folder, "rejected").set_index("path")
    assert rows.loc["nan.wav", "id"] == content_id(odd_paths[0] / "nan.wav")
    assert rows.loc["silence.flac", "id"] == content_id(odd_paths[0] / "silence.flac")


def test_wild_tags_are_tamed_and_read_back_equal_in_both_formats(
    corpus: Corpus, odd_paths: tuple[Path, dict[str, tuple[str, str]]]
) -> None:
    before = read_table(corpus.folder, "tracks")
    build(odd_paths[0], corpus.folder, settings={"table_format": "jsonl"})
    pd.testing.assert_frame_equal(read_table(corpus.folder, "tracks"), before)
    build(odd_paths[0], corpus.folder)
    rows = {row["path"]: row for row in before.to_dict("records")}
    title, artist = rows["t/1.flac"]["title"], rows["t/1.flac"]["artist"]
    assert title.startswith("Nacht [31m 🌙👩‍🎤 xxx")
    assert len(title) <= 500
    assert artist == "שלום عالم"


def test_protected_files_are_rejected(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV writes the m4a file; it is in the extra 'av'")
    write_m4a(av, tmp_path / "music" / "plain.m4a", mixture(0))
    assert probe(tmp_path / "music" / "plain.m4a").codec == "aac"
    data = bytearray((tmp_path / "music" / "plain.m4a").read_bytes())
    start = data.index(b"mdat")
    size = int.from_bytes(data[start - 4 : start], "big")
    data[start + 4 : start + size - 4] = np.random.default_rng(0).bytes(size - 8)  # as an unknown key leaves it
    for tag in (b"drms", b"enca"):
        protected = bytes(data).replace(b"mp4a", tag)
        (tmp_path / "music" / f"{tag.decode()}.m4a").write_bytes(protected)
    corpus = build(tmp_path / "music", tmp_path / "out")
    found = rejections(corpus)
    assert {path: row[:2] for path, row in found.items()} == dict.fromkeys(
        ("drms.m4a", "enca.m4a"), ("scan", "unreadable")
    )
    for name in ("drms", "enca"):
        assert f"{name}.m4a: protected: its audio is encrypted (DRM, '{name}'); remove" in found[f"{name}.m4a"][2]
    assert list(read_table(corpus.folder, "tracks")["path"]) == ["plain.m4a"]


def write_m4a(av: Any, path: Path, audio: Audio) -> None:
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        for start in range(0, audio.shape[1], 1024):
            piece = np.ascontiguousarray(audio[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("names", [[], ["notes.txt", "cover.jpg"], ["one.flac"], ["1.flac", "2.flac"]])
def test_a_catalogue_without_a_pair_makes_an_empty_corpus_that_says_so(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "music").mkdir()
    for number, name in enumerate(names):
        if name.endswith(".flac"):
            write_file(tmp_path / "music" / name, mixture(number))
        else:
            text(tmp_path / "music" / name)
    corpus = build(tmp_path / "music", tmp_path / "out")
    assert corpus.songs() == []
    assert corpus.pairs is not None
    assert set(corpus.pairs["status"]) <= {"refused"}
    assert len(read_table(corpus.folder, "tracks")) + len(rejections(corpus)) == len(names)
    assert list(check_build(corpus.folder)) == []


def test_copies_are_surveyed_once_and_paired_once(tmp_path: Path) -> None:
    first, second = write_pair(tmp_path / "music", 0)
    for path in (first, second):
        for name in ("b", "c"):
            (tmp_path / "music" / name).mkdir(exist_ok=True)
            (tmp_path / "music" / name / path.name).write_bytes(path.read_bytes())
    corpus = build(tmp_path / "music", tmp_path / "out")
    assert chosen_paths(corpus) == {("Song 0.flac", "Song 0 (Instrumental).flac")}
    assert len(rejections(corpus)) == 4
    assert {row[:2] for row in rejections(corpus).values()} == {("match", "duplicate")}


def test_a_copy_with_a_misleading_suffix_does_not_take_the_good_one_along(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV writes the m4a file; it is in the extra 'av'")
    write_m4a(av, tmp_path / "music" / "b.m4a", mixture(0))
    (tmp_path / "music" / "a.mp3").write_bytes((tmp_path / "music" / "b.m4a").read_bytes())
    corpus = build(tmp_path / "music", tmp_path / "out")
    assert {path: row[:2] for path, row in rejections(corpus).items()} == {"a.mp3": ("scan", "unreadable")}
    assert list(read_table(corpus.folder, "tracks")["path"]) == ["b.m4a"]


def test_file_names_that_are_not_utf8_are_named_by_their_bytes(tmp_path: Path) -> None:
    write_pair(tmp_path / "music", 0)
    odd = os.fsencode(tmp_path / "music") + b"/caf\xe9.flac"
    os.rename(os.fsencode(write_file(tmp_path / "music" / "x.flac", mixture(1))), odd)
    corpus = build(tmp_path / "music", tmp_path / "out")
    assert rejections(corpus) == {
        "caf\\udce9.flac": ("scan", "file name", "the name is not valid UTF-8; rename the file")
    }
    assert len(corpus.songs()) == 1


def test_a_catalogue_in_a_folder_that_is_not_utf8_is_built(tmp_path: Path) -> None:
    write_pair(tmp_path / "music", 0)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcsic"))
    (tmp_path / "music").rename(folder)
    zero_bytes(folder / "nothing.mp3")
    corpus = build(folder, tmp_path / "out")
    assert len(corpus.songs()) == 1
    assert "m\\udcfcsic/nothing.mp3: zero bytes" in rejections(corpus)["nothing.mp3"][2]
    run = json.loads((corpus.folder / "run.json").read_bytes())
    assert run["catalog"] == str(folder)


def test_links_lead_round_in_circles_or_nowhere_without_harm(tmp_path: Path) -> None:
    music = tmp_path / "music"
    write_pair(music / "a", 0)
    (music / "a" / "again").symlink_to(music)
    (music / "self.flac").symlink_to("self.flac")
    (music / "gone.flac").symlink_to("nowhere.flac")
    corpus = build(music, tmp_path / "out")
    assert {path: row[1] for path, row in rejections(corpus).items()} == {
        "a/again": "link",
        "self.flac": "not a file",
        "gone.flac": "not a file",
    }
    assert len(corpus.songs()) == 1


FORBIDDEN = """
import json, os, sys
from pathlib import Path
from tests.builders.small_catalog import build, rejections

music, out = Path(sys.argv[1]), Path(sys.argv[2])
if os.geteuid() == 0:
    # Nothing is forbidden to root. What is imported late must be there before: it may be root's alone.
    build(music, out / "as-root")
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
corpus = build(music, out / "build")
rows = {path: row[1:] for path, row in rejections(corpus).items()}
print(json.dumps([rows, list(corpus.tracks["path"])]))
"""


def run_script(script: str, *arguments: Path) -> Any:
    """What a script prints as JSON, run in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_may_not_be_read_is_rejected() -> None:
    # not in pytest's folder, which is its user's alone
    with tempfile.TemporaryDirectory() as name:
        music, out = Path(name, "music"), Path(name, "out")
        write_file(music / "open.flac", mixture(1))
        for path in ("secret.flac", "locked/x.flac", "listed/y.flac"):
            write_file(music / path, mixture(1))
        (music / "link.flac").symlink_to("listed/y.flac")
        out.mkdir()
        modes = {
            Path(name): 0o755,
            out: 0o777,
            music / "secret.flac": 0,
            music / "locked": 0,
            music / "listed": 0o444,
        }
        try:
            for place, mode in modes.items():
                place.chmod(mode)
            rows, tracks = run_script(FORBIDDEN, music, out)
        finally:
            for place in modes:
                place.chmod(0o755)
    assert tracks == ["open.flac"]
    reasons = {path: reason for path, (reason, _) in rows.items()}
    assert reasons.pop("listed/y.flac") in ("unreadable", "not a file")  # whether a listing tells files apart
    assert reasons == {"secret.flac": "unreadable", "locked": "unreadable folder", "link.flac": "not a file"}
    assert "ermission" in rows["secret.flac"][1]
    assert "change its permissions" in rows["locked"][1]


LONG = """
import json, sys
from pathlib import Path
import numpy as np
from tests.builders.small_catalog import build, mixture, rejections, write_file

def held():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

music, out = Path(sys.argv[1]), Path(sys.argv[2])
write_file(out / "small" / "a.flac", mixture(0))
build(out / "small", out / "small-build")
before = held()
corpus = build(music, out / "build")
print(json.dumps([rejections(corpus), held() - before]))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not tell how much memory was held"
)
def test_two_hours_are_surveyed_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    minute = np.zeros(60 * 8000, np.int16)
    sound = (tone(440, 20 * 8000, 8000, channels=1)[0] * 32767).astype(np.int16)
    with soundfile.SoundFile(tmp_path / "music" / "long.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(120):
            file.write(minute)
        file.write(sound)
    whole_mb = 120 * len(minute) * 4 / 2**20
    rows, grown_mb = run_script(LONG, tmp_path / "music", tmp_path)
    assert rows == {"long.flac": ["match", "too long", "7220 s for 20.0 s of music; cut the silence"]}
    assert grown_mb < whole_mb / 4


def test_a_survey_of_one_frame_is_finite(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.full((1, 1), 0.5, np.float32), RATE)
    survey = survey_file(FoundFile(str(tmp_path), "a.wav", content_id(tmp_path / "a.wav"))).value
    json.dumps(survey, allow_nan=False)
    assert survey["num_frames"] == 1
