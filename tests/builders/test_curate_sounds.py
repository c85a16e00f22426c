"""Libraries of single sounds, imported, checked, curated, shown: songs of one stem, without a mixture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from builders.card import write_card
from builders.check import check_build
from builders.demo.instruments import SAMPLE_RATE as RATE
from builders.demo.performance import perform
from builders.demo.score import compose
from builders.demo.sheets import SHEETS
from builders.report import write_report
from manifests.audio import Audio, read, write
from manifests.corpus import Corpus
from tests.builders.small_corpora import curate, reasons
from tests.manifests.imports.importing import import_corpus
from tests.synthesis import pink_noise

SHORT = {"effects/Click.wav": 1, "effects/Tick.wav": 100, "effects/Knock.wav": RATE // 4}


def noise(seed: int, seconds: float) -> Audio:
    return pink_noise(np.random.default_rng(seed), 1, round(seconds * RATE))


def performed(number: int) -> tuple[Audio, Audio]:
    """Instrumental and vocals of about ten seconds; the network hears the voice."""
    rng = np.random.default_rng(number)
    instrumental, vocals = perform(rng, compose(rng, SHEETS[number], 10.0), SHEETS[number])
    return np.asarray(instrumental, np.float32), np.asarray(vocals, np.float32)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Music without and with a voice, the voice alone, effects; not to be changed."""
    folder = tmp_path_factory.mktemp("library")
    (played, sung), (_, talk) = (performed(4), performed(1))
    sounds = {
        "music/Band - Played.flac": played,
        "music/Band - Sung.flac": 0.2 * played + 0.8 * sung,
        "speech/Ann - Talk.flac": talk,
        "effects/Wind.flac": noise(1, 7.0),
        **{path: noise(2, 1.0)[:, :frames] for path, frames in SHORT.items()},
    }
    for path, audio in sounds.items():
        (folder / path).parent.mkdir(exist_ok=True)
        write(folder / path, audio, RATE, 16)
    return folder


@pytest.fixture(scope="module")
def corpus(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return import_corpus("loose", library, tmp_path_factory.mktemp("corpus") / "out", license="CC0")


@pytest.fixture(scope="module")
def curated(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """With all songs, whatever their grade."""
    return curate(corpus, tmp_path_factory.mktemp("curated") / "out", min_grade="D")


def titled(corpus: Corpus) -> dict[str, str]:
    """Song by title."""
    assert corpus.tracks is not None
    return dict(zip(corpus.tracks["title"], corpus.tracks["track_id"], strict=True))


def test_a_library_has_no_mixture_and_passes_the_check(corpus: Corpus) -> None:
    assert {stem: len(rows) for stem, rows in corpus.stems.groupby("stem")} == {
        "effects": 4,
        "music": 2,
        "speech": 1,
    }
    assert check_build(corpus.folder) == []
    run = json.loads((corpus.folder / "run.json").read_text())
    seconds = (corpus.stems["num_frames"] / corpus.stems["sample_rate"]).sum()
    assert run["hours"]["kept"] == pytest.approx(seconds / 3600)


def test_a_check_still_asks_other_imports_for_their_mixture(corpus: Corpus, tmp_path: Path) -> None:
    for name in ("recipe.json", "run.json"):
        record = json.loads((corpus.folder / name).read_text())
        record["recipe"]["layout"] = "folders"
        (tmp_path / name).write_text(json.dumps(record))
    for path in corpus.folder.iterdir():
        if path.name not in ("recipe.json", "run.json", ".cache", ".lock"):
            (tmp_path / path.name).symlink_to(path)
    problems = check_build(tmp_path)
    assert len([problem for problem in problems if "has no stem mixture" in problem]) == 7


def test_a_peak_beyond_full_scale_is_the_sounds_own(tmp_path: Path) -> None:
    (tmp_path / "in" / "music").mkdir(parents=True)
    loud = 2 * noise(1, 1.0) / np.abs(noise(1, 1.0)).max()
    soundfile.write(tmp_path / "in" / "music" / "loud.wav", loud.T, RATE, "FLOAT")
    import_corpus("loose", tmp_path / "in", tmp_path / "out")
    assert check_build(tmp_path / "out") == []


def test_a_recording_in_two_splits_is_told_though_there_is_no_mixture(library: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "train" / "music").mkdir(parents=True)
    (tmp_path / "in" / "test" / "music").mkdir(parents=True)
    audio, _ = read(library / "music" / "Band - Played.flac")
    write(tmp_path / "in" / "train" / "music" / "a.flac", audio, RATE)
    write(tmp_path / "in" / "test" / "music" / "b.flac", 0.5 * audio, RATE)
    import_corpus("loose", tmp_path / "in", tmp_path / "out")
    (problem,) = check_build(tmp_path / "out")
    assert "is nearly the same as song" in problem
    assert any("Band - Played.flac" in told for told in check_build(tmp_path / "out", unseen=[library / "music"]))


def test_a_voice_in_the_music_is_a_defect_and_in_the_speech_it_is_none(corpus: Corpus, tmp_path: Path) -> None:
    kept = curate(corpus, tmp_path / "out")
    songs = titled(corpus)
    assert reasons(kept) == {songs["Sung"]: "grade: grade D"}
    assert kept.rejected is not None
    assert kept.rejected["detail"][0].startswith("D: voices in the music in ")
    grades = kept.stems.set_index("song_id")["grade"]
    assert grades[songs["Talk"]] == grades[songs["Played"]] == grades[songs["Wind"]] == "A"
    assert check_build(kept.folder) == []


def test_voices_are_measured_in_every_clip_of_a_single_sound(
    corpus: Corpus, curated: Corpus, tmp_path: Path
) -> None:
    assert curated.clips is not None
    voiced = curated.clips.groupby("song_id")["voiced_fraction"].mean()
    songs = titled(corpus)
    assert voiced[songs["Played"]] == voiced[songs["Wind"]] == 0
    assert voiced[songs["Sung"]] > 0.2
    assert voiced[songs["Talk"]] > 0.2
    gated = curate(corpus, tmp_path / "out", min_grade="D", clip_gates=("voiced_fraction <= 0",))
    assert gated.clips is not None
    assert {songs["Played"], songs["Wind"]} <= set(gated.clips["song_id"])
    assert len(gated.clips) == (curated.clips["voiced_fraction"] == 0).sum() < len(curated.clips)


def test_sounds_shorter_than_a_clip_have_none_and_are_counted(corpus: Corpus, curated: Corpus) -> None:
    songs = titled(corpus)
    assert set(curated.songs()) == set(songs.values())
    assert curated.clips is not None
    short = {songs[Path(path).stem] for path in SHORT}
    assert set(songs.values()) - set(curated.clips["song_id"]) == short
    assert json.loads((curated.folder / "run.json").read_text())["clips"]["songs_too_short"] == 3
    assert check_build(curated.folder) == []


def test_single_sounds_have_levels_and_curves(corpus: Corpus, curated: Corpus) -> None:
    songs = titled(corpus)
    row = curated.song(songs["Wind"])["effects"]
    audio = curated.load(row)
    assert row["rms"] == pytest.approx(np.sqrt(np.square(audio).mean()), rel=1e-4)
    assert row["active_fraction"] == 1
    with np.load(curated.folder / f"curves/{songs['Wind']}.npz") as curves:
        assert set(curves) == {"rms_effects", "voice_effects", "grade"}
        second = audio[:, 3 * RATE : 4 * RATE]
        assert curves["rms_effects"][3] == pytest.approx(np.sqrt(np.square(second).mean()), rel=1e-3)
    with np.load(curated.folder / f"curves/{songs['Sung']}.npz") as curves:
        assert curves["voice_music"].max() > 0.9


def test_the_same_sound_twice_stays_once(library: Path, tmp_path: Path) -> None:
    audio, _ = read(library / "music" / "Band - Played.flac")
    for name, gain in (("a", 1.0), ("b", 0.5)):
        write(tmp_path / "in" / "music" / f"{name}.flac", gain * audio, RATE)
    source = import_corpus("loose", tmp_path / "in", tmp_path / "corpus")
    assert len(source.songs()) == 2
    kept = curate(source, tmp_path / "out")
    assert len(kept.songs()) == 1
    assert list(reasons(kept).values()) == ["duplicates: same audio"]


def test_every_kind_of_sound_is_split_alike(tmp_path: Path) -> None:
    for number in range(16):
        write(tmp_path / "in" / "abcdefgh"[number // 2] / f"{number}.wav", noise(number, 0.5), RATE, 16)
    source = import_corpus("loose", tmp_path / "in", tmp_path / "corpus")
    stems = curate(source, tmp_path / "out", shares={"train": 0.5, "test": 0.5}, duplicates="keep").stems
    # by chance this were so once in fifty times
    assert stems.groupby("stem")["split"].nunique().to_dict() == dict.fromkeys("abcdefgh", 2)


def test_splits_of_the_library_can_be_kept(tmp_path: Path) -> None:
    splits = {"a": "test", "b": "train", "c": "validation", "d": "train"}
    for seed, (name, split) in enumerate(splits.items()):
        write(tmp_path / "in" / "effects" / split / f"{name}.wav", noise(seed, 0.5), RATE, 16)
    source = import_corpus("loose", tmp_path / "in", tmp_path / "corpus")
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    kept = curate(source, tmp_path / "out", previous=str(source.folder), shares=shares)
    found = kept.stems.set_index("song_id")["split"]
    assert {title: found[song_id] for title, song_id in titled(source).items()} == splits


def test_a_page_and_a_card_are_made_of_single_sounds(corpus: Corpus, curated: Corpus) -> None:
    assert "Played" in write_report(curated.folder).read_text()
    for build in (corpus, curated):
        card = write_card(build.folder)
        assert (card.songs, card.unlicensed) == (7, 0)
        text = card.readme.read_text()
        assert "| stems | effects, music, speech |" in text
        assert "mixture" not in text
    assert "which took single sounds as they are." in (corpus.folder / "README.md").read_text()
    assert "which graded the songs" in (curated.folder / "README.md").read_text()
