"""An evaluation of separators whose scores are known: tables, summaries, resuming, excerpts, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soxr

import training.songs
from manifests.audio import Audio, read
from manifests.corpus import Corpus
from manifests.errors import AudioError, RecipeError, TableError
from manifests.loudness import loudness_lufs
from manifests.tables import frame_of, write_table
from separators.separator import Separator
from tests.manifests.exports.small_corpus import FOUR, small_corpus, sounds, write_song, write_tables
from tests.synthesis import song
from tests.training.small_separators import Breaking, Clipping, Gains, Shortening
from training.evaluation import Evaluation, EvaluationSettings, evaluate
from training.excerpts import chosen_songs, excerpt_start
from training.metrics import improvements, measure, sdr
from training.oracles import ideal_ratio_mask
from training.perceptual import PeaqMovs
from training.targets import alike, stems_for, target_stems

HALVES = {"vocals": 0.5, "bass": 0.25}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("corpus"))


def halves(**how: Any) -> Gains:
    return Gains("halves", HALVES, **how)


def row(table: pd.DataFrame, **wanted: Any) -> pd.Series[Any]:
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_song_has_the_scores_of_its_estimates(corpus: Corpus, tmp_path: Path) -> None:
    found = evaluate(halves(), corpus, tmp_path)
    assert isinstance(halves(), Separator)
    assert list(found.songs["song_id"].unique()) == corpus.songs()
    assert len(found.songs) == 4 * 2
    for song_id in corpus.songs():
        references = np.stack([corpus.load((song_id, stem)) for stem in HALVES])
        mixture = corpus.load((song_id, "mixture"))
        estimates = np.stack([gain * mixture for gain in HALVES.values()])
        wanted = measure(references, estimates) | improvements(references, estimates, mixture)
        for number, target in enumerate(HALVES):
            scored = row(found.songs, song_id=song_id, target=target)
            assert scored["method"] == "halves"
            for name, values in wanted.items():
                np.testing.assert_allclose(scored[name], values[number], atol=1e-4)
    assert row(found.songs, song_id="s3", target="bass")["split"] == "test"
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "songs.parquet"), found.songs)
    assert len(found.clips) == len(found.sweep) == 0
    assert not (tmp_path / "clips.parquet").exists()


def test_the_summary_is_over_songs_and_of_the_mean_of_targets(corpus: Corpus, tmp_path: Path) -> None:
    found = evaluate(halves(), corpus, tmp_path)
    values = found.songs.pivot(index="song_id", columns="target", values="sdr_db")
    for target, wanted in (("bass", values["bass"]), ("mean", values.mean(axis=1))):
        summed = row(found.summary, target=target, score="sdr_db")
        assert (summed["count"], summed["silent"]) == (4, 0)
        np.testing.assert_allclose(
            [summed["median"], summed["mean"], summed["std"]], [wanted.median(), wanted.mean(), wanted.std()]
        )
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["summary"][0]["median"] == found.summary["median"][0]
    assert record["targets"] == ["vocals", "bass"]
    assert record["songs"] == 4


def test_others_and_oracles_stand_beside_it(corpus: Corpus, tmp_path: Path) -> None:
    others = [Gains("nothing", {"bass": 0.0, "drums": 1.0, "voice": 1.0})]
    settings = EvaluationSettings(oracles=("ideal ratio mask", "scaled identity"), limit=1)
    found = evaluate(halves(), corpus, tmp_path, settings, beside=others)
    assert list(found.songs["method"].unique()) == ["halves", "nothing", "ideal ratio mask", "scaled identity"]
    assert row(found.songs, method="nothing", target="bass")["snr_db"] == 0.0
    assert row(found.songs, method="nothing", target="vocals")["sdr_improvement_db"] == 0.0
    stems = np.stack([corpus.load(("s0", stem)) for stem in ("vocals", "bass", "drums", "other")])
    mixture = corpus.load(("s0", "mixture"))
    rest = np.stack([*stems[:2], stems[2] + stems[3]])
    wanted = sdr(rest[:2], ideal_ratio_mask(rest, mixture, 8000)[:2])
    for target, value in zip(HALVES, wanted, strict=True):
        found_db = row(found.songs, method="ideal ratio mask", target=target)["sdr_db"]
        assert found_db == pytest.approx(value, abs=1e-4)
    identity = sdr(stems[:1], mixture[None] / 3)[0]
    assert row(found.songs, method="scaled identity", target="vocals")["sdr_db"] == pytest.approx(
        identity, abs=1e-4
    )


def test_an_evaluation_goes_on_where_it_was_stopped(corpus: Corpus, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_at(stage: str, done: int, total: int, rejected: int) -> None:
        assert (total, rejected) == (4, 0)
        if done == 2:
            raise Stop

    first = halves()
    settings = EvaluationSettings(excerpts=0)
    with pytest.raises(Stop):
        evaluate(first, corpus, tmp_path, settings, progress=stop_at)
    assert first.frames == 2 * 2000
    assert not (tmp_path / "evaluation.json").exists()
    assert not [name for name in files(tmp_path) if not name.startswith("scores/")]
    second = halves()
    resumed = evaluate(second, corpus, tmp_path, settings)
    assert second.frames == 2 * 2000
    whole = evaluate(halves(), corpus, tmp_path / "whole", settings)
    pd.testing.assert_frame_equal(resumed.songs, whole.songs)
    assert files(tmp_path / "whole") == {name for name in files(tmp_path) if not name.startswith("whole/")}
    damaged = next((tmp_path / "scores").iterdir())
    damaged.write_text("{")
    third = halves()
    pd.testing.assert_frame_equal(evaluate(third, corpus, tmp_path, settings).songs, whole.songs)
    assert third.frames == 2000


def test_what_scores_depend_on_computes_them_again(corpus: Corpus, tmp_path: Path) -> None:
    settings = EvaluationSettings(excerpts=0)
    evaluate(halves(), corpus, tmp_path, settings)
    for changed, frames in (
        (EvaluationSettings(excerpts=0, split="test"), 0),
        (EvaluationSettings(excerpts=0, limit=1, clips=0.1), 2000),
        (EvaluationSettings(excerpts=0, limit=1, sweep_lufs=(-30.0,)), 4000),
        (EvaluationSettings(excerpts=0, limit=1, targets={"vocals": "bass"}), 2000),
    ):
        again = halves()
        evaluate(again, corpus, tmp_path, changed)
        assert again.frames == frames
    other = halves(identity="others weights")
    evaluate(other, corpus, tmp_path, settings)
    assert other.frames == 4 * 2000


def test_what_is_known_of_a_song_may_change_without_its_scores(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "in")
    evaluate(halves(), corpus, tmp_path / "out", EvaluationSettings(excerpts=0))
    write_table(tmp_path / "in", "stems", corpus.stems.assign(split="other", genre=None))
    again = halves()
    found = evaluate(again, Corpus.open(tmp_path / "in"), tmp_path / "out", EvaluationSettings(excerpts=0))
    assert again.frames == 0
    assert set(found.songs["split"]) == {"other"}
    assert found.songs["genre"].isna().all()
    assert set(found.songs["duration_s"]) == {0.25}


def test_an_evaluation_that_fails_late_is_not_taken_for_the_one_before(corpus: Corpus, tmp_path: Path) -> None:
    evaluate(halves(), corpus, tmp_path, EvaluationSettings(excerpts=0))

    def fail(stage: str, done: int, total: int, rejected: int) -> None:
        assert stage == "measure", "stopped at the excerpts"

    with pytest.raises(AssertionError, match="stopped"):
        evaluate(halves(), corpus, tmp_path, EvaluationSettings(limit=2), progress=fail)
    assert len(pd.read_parquet(tmp_path / "songs.parquet")) == 4
    assert not (tmp_path / "evaluation.json").exists()


def test_infinities_and_silence_survive_the_disk(tmp_path: Path) -> None:
    stems = sounds(0, ("vocals", "bass"))
    stems["bass"] = np.zeros_like(stems["bass"])
    stems["mixture"] = stems["vocals"]
    corpus = write_tables(tmp_path / "in", write_song(tmp_path / "in", "song", stems))
    same = Gains("same", {"vocals": 1.0, "bass": 1.0})
    for _ in range(2):
        found = evaluate(same, corpus, tmp_path / "out")
        assert row(found.songs, target="vocals")["snr_db"] == np.inf
        assert np.isnan(row(found.songs, target="bass")["snr_db"])
        assert np.isnan(row(found.songs, target="vocals")["snr_improvement_db"])
    summed = row(found.summary, target="bass", score="sdr_db")
    assert (summed["count"], summed["silent"]) == (0, 1)
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text(), parse_constant=pytest.fail)
    by_name = {(item["target"], item["score"]): item for item in record["summary"]}
    assert by_name["vocals", "snr_db"]["median"] == "inf"
    assert by_name["bass", "snr_db"]["median"] is None


def test_clips_are_windows_or_those_of_the_table(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path / "in")
    clips = [
        {"clip_id": f"c{start}", "song_id": "s1", "start_frame": start, "num_frames": 500} for start in (0, 900)
    ]
    write_table(tmp_path / "in", "clips", frame_of("clips", clips))
    corpus = Corpus.open(tmp_path / "in")
    table = evaluate(halves(), corpus, tmp_path / "table", EvaluationSettings(clips="table")).clips
    assert table.groupby("clip_id").size().to_dict() == {"c0": 2, "c900": 2}
    part = slice(900, 1400)
    references = corpus.load(("s1", "vocals"))[None, :, part]
    mixture = corpus.load(("s1", "mixture"))[:, part]
    scored = row(table, clip_id="c900", target="vocals")
    wanted = measure(references, 0.5 * mixture[None]) | improvements(references, 0.5 * mixture[None], mixture)
    for name in ("sdr_db", "sdr_improvement_db", "si_sdr_improvement_db"):
        assert scored[name] == pytest.approx(wanted[name][0], abs=1e-4)
    windows = evaluate(halves(), corpus, tmp_path / "windows", EvaluationSettings(clips=0.1, limit=1)).clips
    frames = windows[windows["target"] == "bass"][["start_frame", "num_frames"]].to_numpy().tolist()
    assert frames == [[0, 800], [800, 800], [1600, 400]]
    summary = evaluate(halves(), corpus, tmp_path / "windows", EvaluationSettings(clips=0.1, limit=1)).summary
    summed = row(summary, per="clip", target="mean", score="sdr_db")
    assert summed["count"] == 3
    assert summed["mean"] == pytest.approx(windows.groupby("clip_id")["sdr_db"].mean().mean())
    assert row(summary, per="song", target="mean", score="sdr_db")["count"] == 1
    too_long = {**clips[1], "num_frames": 1101}
    write_table(tmp_path / "in", "clips", frame_of("clips", [too_long]))
    with pytest.raises(TableError, match="'c900' ends at frame 2001, and song 's1' has 2000"):
        evaluate(halves(), Corpus.open(tmp_path / "in"), tmp_path / "long", EvaluationSettings(clips="table"))


def test_a_sweep_scales_the_mixture_and_the_estimates_back(corpus: Corpus, tmp_path: Path) -> None:
    levels = (-60.0, -30.0, -5.0)
    clipping = Clipping("clipping", {"vocals": 0.5})
    settings = EvaluationSettings(sweep_lufs=levels, limit=1, oracles=("scaled identity",))
    found = evaluate(halves(), corpus, tmp_path, settings, beside=[Clipping("clipping", HALVES)])
    assert set(found.sweep["method"]) == {"halves", "clipping"}
    assert len(found.sweep) == 2 * 2 * len(levels)
    linear = found.sweep[(found.sweep["method"] == "halves") & (found.sweep["target"] == "bass")]
    np.testing.assert_allclose(
        linear["sdr_db"], row(found.songs, method="halves", target="bass")["sdr_db"], atol=1e-3
    )
    mixture, vocals = (corpus.load(("s0", stem)) for stem in ("mixture", "vocals"))
    for level in levels:
        gain = 10 ** ((level - loudness_lufs(mixture, 8000)) / 20)
        wanted = sdr(vocals[None], clipping.given(0.5 * gain * mixture)[None] / gain)[0]
        scored = row(found.sweep, method="clipping", target="vocals", input_lufs=level)
        assert scored["sdr_db"] == pytest.approx(wanted, abs=1e-3)


def test_bsseval_and_the_2f_model_come_with_the_scores(corpus: Corpus, tmp_path: Path) -> None:
    class Peaq:
        name = "constant"

        def __call__(self, reference: Audio, estimate: Audio) -> PeaqMovs:
            return PeaqMovs(0.0, 2.5)

    settings = EvaluationSettings(bsseval="blocks", limit=1, targets={"vocals": ["vocals"]})
    found = evaluate(halves(), corpus, tmp_path, settings, peaq=Peaq())
    only = row(found.songs, target="vocals")
    assert np.isfinite(only["bsseval_sdr_db"])
    assert only["bsseval_sir_db"] == np.inf
    assert only["two_f_score"] == pytest.approx(56.1345 / (1 + 0.8628**2) - 2.5 * 27.1451 + 86.3515)
    assert json.loads((tmp_path / "evaluation.json").read_text())["settings"]["peaq"] == "constant"


@pytest.mark.parametrize("rate", [16000, 5333, 11025])
def test_separators_of_other_rates_are_measured_at_the_corpus_rate(rate: int, tmp_path: Path) -> None:
    low = [soxr.resample(audio.T, 44100, 8000).T for audio in song(np.random.default_rng(0), 2.0)]
    # what is above both rates cannot come back
    smooth = [soxr.resample(soxr.resample(audio.T, 8000, 4000), 4000, 8000).T[:, :15990] * 0.5 for audio in low]
    parts = {"instrumental": smooth[0], "vocals": smooth[1], "mixture": smooth[0] + smooth[1]}
    corpus = write_tables(tmp_path / "in", write_song(tmp_path / "in", "song", parts))
    same = evaluate(Gains("same", {"vocals": 1.0}), corpus, tmp_path / "same")
    other = evaluate(Gains("other", {"vocals": 1.0}, sample_rate=rate), corpus, tmp_path / "other")
    wanted = row(same.songs, target="vocals")["sdr_db"]
    assert row(other.songs, target="vocals")["sdr_db"] == pytest.approx(wanted, abs=0.02)


def test_separators_of_other_channels_are_measured_on_the_corpus_channels(corpus: Corpus, tmp_path: Path) -> None:
    stereo = evaluate(halves(), corpus, tmp_path / "stereo").songs
    mono = halves(channels=1)
    found = evaluate(mono, corpus, tmp_path / "mono", EvaluationSettings(excerpts=0)).songs
    assert mono.frames == 4 * 2 * 2000
    pd.testing.assert_frame_equal(found, stereo)
    stems = {stem: audio[:1] for stem, audio in sounds(0).items()}
    narrow = write_tables(tmp_path / "in", write_song(tmp_path / "in", "song", stems))
    both = [evaluate(halves(channels=count), narrow, tmp_path / f"{count}").songs for count in (1, 2)]
    pd.testing.assert_frame_equal(*both)
    with pytest.raises(AudioError, match="song 's0', 'halves': the audio has 2 channels, and halves takes 6"):
        evaluate(halves(channels=6), corpus, tmp_path / "six")


def test_blocks_do_not_show(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rate in (8000, 11025):
        whole = evaluate(halves(sample_rate=rate), corpus, tmp_path / f"whole{rate}").songs
        monkeypatch.setattr(training.songs, "_BLOCK_FRAMES", 333)
        cut = evaluate(halves(sample_rate=rate), corpus, tmp_path / f"cut{rate}").songs
        pd.testing.assert_frame_equal(cut, whole, atol=1e-3, rtol=0)
        monkeypatch.undo()


def excerpts_of(found: Evaluation) -> list[dict[str, Any]]:
    record = json.loads((found.folder / "evaluation.json").read_text())
    return list(record["excerpts"])


def test_excerpts_are_of_the_best_middle_and_worst_song(corpus: Corpus, tmp_path: Path) -> None:
    separator = halves()
    found = evaluate(separator, corpus, tmp_path, EvaluationSettings(excerpt_s=0.1))
    listed = excerpts_of(found)
    means = found.songs.groupby("song_id")["sdr_db"].mean().sort_values()
    assert [item["rank"] for item in listed] == ["best", "median", "worst"]
    assert (listed[0]["song_id"], listed[2]["song_id"]) == (means.index[-1], means.index[0])
    for item in listed:
        mixture = corpus.load((item["song_id"], "mixture"))
        start = round(item["start_s"] * 8000)
        assert [(file["role"], file["target"]) for file in item["files"]] == [
            ("mixture", None),
            ("reference", "vocals"),
            ("reference", "bass"),
            ("estimate", "vocals"),
            ("estimate", "bass"),
        ]
        audio, rate = read(tmp_path / item["folder"] / item["files"][3]["path"])
        assert (rate, audio.shape) == (8000, (2, 800))
        np.testing.assert_allclose(audio, 0.5 * mixture[:, start : start + 800], atol=2**-15)
    taken = separator.frames
    evaluate(separator, corpus, tmp_path, EvaluationSettings(excerpt_s=0.1))
    assert separator.frames == taken
    assert excerpts_of(evaluate(separator, corpus, tmp_path / "none", EvaluationSettings(excerpts=0))) == []


def test_excerpts_hold_what_each_separator_makes_and_its_level(corpus: Corpus, tmp_path: Path) -> None:
    loud, silent = Gains("loud", {"vocals": 20.0}), Gains("silent", {"voice": 0.1})
    settings = EvaluationSettings(limit=1, excerpt_s=0.1, oracles=("ideal ratio mask",))
    (item,) = excerpts_of(evaluate(loud, corpus, tmp_path, settings, beside=[silent], names=["a", "b"]))
    assert [(file["role"], file.get("method")) for file in item["files"]] == [
        ("mixture", None),
        ("reference", None),
        ("estimate", "a"),
        ("estimate", "b"),
    ]
    mixture, _, first, second = (read(tmp_path / item["folder"] / file["path"])[0] for file in item["files"])
    np.testing.assert_allclose(first, 20 * mixture, atol=11 * 2**-15)
    gain_db = item["files"][2]["gain_db"]
    assert item["gain_db"] == gain_db < item["files"][3]["gain_db"] == 0.0
    np.testing.assert_allclose(second * 10 ** (gain_db / 20), 0.1 * mixture, atol=2**-15)
    taken = loud.frames, silent.frames
    (renamed,) = excerpts_of(evaluate(loud, corpus, tmp_path, settings, beside=[silent], names=["a", "c"]))
    assert renamed["files"][3]["method"] == "c"
    assert (loud.frames, silent.frames) == taken
    evaluate(loud, corpus, tmp_path, settings, beside=[silent, halves()], names=["a", "c", "d"])
    assert (loud.frames, silent.frames) == taken


def test_methods_may_be_named(corpus: Corpus, tmp_path: Path) -> None:
    settings = EvaluationSettings(limit=1, excerpts=0)
    found = evaluate(halves(), corpus, tmp_path, settings, beside=[halves()], names=["one", "two"])
    assert list(found.songs["method"]) == ["one", "one", "two", "two"]
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert record["separator"]["name"] == "one"
    assert [method["name"] for method in record["methods"]] == ["one", "two"]
    with pytest.raises(RecipeError, match="2 separators and 1 names"):
        evaluate(halves(), corpus, tmp_path, settings, beside=[halves()], names=["one"])
    with pytest.raises(RecipeError, match=r"two methods are called 'one'.*as in mine=one"):
        evaluate(halves(), corpus, tmp_path, settings, beside=[halves()], names=["one", "one"])


def test_songs_have_the_titles_of_their_recordings(tmp_path: Path) -> None:
    small_corpus(tmp_path / "in")
    facts = {"root": "catalog", "num_frames": 2000, "sample_rate": 8000, "channels": 2}
    facts |= {"codec": "flac", "version": "original"}
    tracks = [
        {"track_id": "s0", "path": "a.flac", "title": "Lanterns (Live)", "song_title": "Lanterns", **facts},
        {"track_id": "t1", "path": "b.flac", "title": "Rain", **facts},
        {"track_id": "s2", "path": "c.flac", **facts},
    ]
    write_table(tmp_path / "in", "tracks", frame_of("tracks", tracks))
    pair = {"pair_id": "p", "mixture_id": "t1", "instrumental_id": "s2", "status": "chosen", "song_id": "s1"}
    pair |= {"mixture_path": "b.flac", "instrumental_path": "c.flac", "evidence": "{}"}
    write_table(tmp_path / "in", "pairs", frame_of("pairs", [pair]))
    found = evaluate(halves(), Corpus.open(tmp_path / "in"), tmp_path / "out", EvaluationSettings(excerpts=0))
    titles = found.songs.drop_duplicates("song_id").set_index("song_id")["title"]
    assert titles.dropna().to_dict() == {"s0": "Lanterns", "s1": "Rain"}


def test_excerpts_are_of_songs_that_have_all_targets_where_there_are_any(tmp_path: Path) -> None:
    rows = []
    for number in range(2):
        stems = sounds(number, ("vocals", "bass"))
        stems["vocals"] = number * stems["vocals"]
        stems["mixture"] = stems["vocals"] + stems["bass"]
        rows += write_song(tmp_path / "in", f"s{number}", stems)
    corpus = write_tables(tmp_path / "in", rows)
    bass = Gains("bass", {"vocals": 0.5, "bass": 1.0})
    settings = EvaluationSettings(excerpts=2)
    assert [item["song_id"] for item in excerpts_of(evaluate(bass, corpus, tmp_path / "out", settings))] == ["s1"]
    alone = EvaluationSettings(limit=1)
    assert [item["song_id"] for item in excerpts_of(evaluate(bass, corpus, tmp_path / "out", alone))] == ["s0"]


def test_excerpts_beyond_full_scale_are_brought_within(corpus: Corpus, tmp_path: Path) -> None:
    loud = Gains("loud", {"vocals": 20.0})
    (item,) = excerpts_of(evaluate(loud, corpus, tmp_path, EvaluationSettings(limit=1)))
    folder = tmp_path / item["folder"]
    mixture, _, estimate = (read(folder / file["path"])[0] for file in item["files"])
    assert item["gain_db"] < -1.0
    assert np.abs(estimate).max() == pytest.approx(1.0, abs=1e-3)
    wanted = corpus.load(("s0", "mixture")) * 10 ** (item["gain_db"] / 20)
    np.testing.assert_allclose(mixture, wanted, atol=2**-15)


def test_an_excerpt_is_where_all_targets_are_heard() -> None:
    references = np.zeros((2, 1, 40_000), np.float32)
    references[0, :, :24_000] = 0.5
    references[1, :, 16_000:36_000] = 0.1
    assert excerpt_start(references, 8000, 8000) == 16_000
    assert excerpt_start(references[:, :, :100], 8000, 100) == 0


def test_songs_are_chosen_once() -> None:
    scores = {"a": 3.0, "b": np.nan, "c": 1.0, "d": 2.0, "e": 0.0, "f": 5.0}
    assert chosen_songs(scores, 1) == {"f": "best", "d": "median", "e": "worst"}
    assert chosen_songs({"a": 1.0, "b": 2.0}, 3) == {"b": "best", "a": "best"}
    assert chosen_songs({"a": np.nan}, 1) == {}


@pytest.mark.parametrize(
    ("source", "stems", "wanted"),
    [
        ("vocals", FOUR, ("vocals",)),
        ("instrumental", FOUR, ("bass", "drums", "other")),
        ("accompaniment", ("mixture", "vocals", "instrumental"), ("instrumental",)),
        ("dialogue", ("mixture", "speech", "music"), ("speech",)),
        ("speech", ("music", "dialogue"), ("dialogue",)),
        ("background", ("mixture", "speech", "music", "effects"), ("music", "effects")),
        ("other", ("mixture", "vocals"), None),
        ("instrumental", ("mixture", "vocals"), None),
        ("mixture", ("mixture", "vocals"), None),
        ("music", ("mixture", "vocals"), None),
    ],
)
def test_sources_are_found_among_stems(source: str, stems: tuple[str, ...], wanted: tuple[str, ...] | None) -> None:
    assert stems_for(source, stems) == wanted
    assert alike(source)[0] == source


def test_targets_may_be_said(corpus: Corpus, tmp_path: Path) -> None:
    settings = EvaluationSettings(targets={"vocals": "drums + other"}, limit=1)
    found = evaluate(halves(), corpus, tmp_path, settings)
    assert list(found.songs["target"]) == ["vocals"]
    reference = corpus.load(("s0", "drums")) + corpus.load(("s0", "other"))
    wanted = sdr(reference[None], 0.5 * corpus.load(("s0", "mixture"))[None])[0]
    assert row(found.songs, target="vocals")["sdr_db"] == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(RecipeError, match=r"the source 'vocal' \(did you mean 'vocals'\?\)"):
        target_stems(["vocals"], corpus, "s0", {"vocal": "vocals"})
    with pytest.raises(RecipeError, match="empty"):
        target_stems(["vocals"], corpus, "s0", {})
    with pytest.raises(TableError, match=r"song 's0' has no stem 'bas'.*did you mean 'bass'"):
        target_stems(["vocals"], corpus, "s0", {"vocals": "drums+bas"})


def test_songs_without_a_mixture_are_summed(tmp_path: Path) -> None:
    stems = sounds(0)
    mixture = stems.pop("mixture")
    corpus = write_tables(tmp_path / "in", write_song(tmp_path / "in", "song", stems))
    found = evaluate(halves(), corpus, tmp_path / "out")
    wanted = sdr(stems["vocals"][None], 0.5 * mixture[None])[0]
    assert row(found.songs, target="vocals")["sdr_db"] == pytest.approx(wanted, abs=1e-4)


def test_tables_may_be_csv(corpus: Corpus, tmp_path: Path) -> None:
    evaluate(halves(), corpus, tmp_path)
    found = evaluate(halves(), corpus, tmp_path, table_format="csv")
    assert not (tmp_path / "songs.parquet").exists()
    read_back = pd.read_csv(tmp_path / "songs.csv")
    np.testing.assert_allclose(read_back["sdr_db"], found.songs["sdr_db"])
    with pytest.raises(RecipeError, match="'xlsx'"):
        evaluate(halves(), corpus, tmp_path, table_format="xlsx")  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_named(corpus: Corpus, tmp_path: Path) -> None:
    piano = Gains("piano", {"piano": 1.0})
    with pytest.raises(
        TableError, match=r"for the source 'piano' \(it has mixture, bass.*--target piano=STEM\+STEM"
    ):
        evaluate(piano, corpus, tmp_path)
    with pytest.raises(RecipeError, match="'piano' separates piano and not 'vocals'"):
        evaluate(halves(), corpus, tmp_path, beside=[piano])
    with pytest.raises(RecipeError, match="two methods are called 'halves'"):
        evaluate(halves(), corpus, tmp_path, beside=[halves()])
    with pytest.raises(RecipeError, match=r"split 'tset' \(did you mean 'test'\?\)"):
        evaluate(halves(), corpus, tmp_path, EvaluationSettings(split="tset"))
    with pytest.raises(RecipeError, match="no clips table"):
        evaluate(halves(), corpus, tmp_path, EvaluationSettings(clips="table"))
    with pytest.raises(AudioError, match=r"song 's0', 'short': .* gave 1999 frames for 2000"):
        evaluate(Shortening("short", HALVES), corpus, tmp_path)
    with pytest.raises(AudioError, match=r"song 's0', 'broken': .*NaN"):
        evaluate(Breaking("broken", HALVES), corpus, tmp_path)
    assert {name.partition("/")[0] for name in files(tmp_path)} <= {"scores"}
    stems = sounds(0)
    stems["bass"] = stems["bass"][:, :-1]
    uneven = write_tables(tmp_path / "in", write_song(tmp_path / "in", "song", stems))
    with pytest.raises(TableError, match="song 'song' has num_frames 2000 in 'mixture' and 1999 in 'bass'"):
        evaluate(halves(), uneven, tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"clips": "all"},
        {"clips": 0.0},
        {"oracles": ("ideal",)},
        {"sweep_lufs": (float("nan"),)},
        {"excerpts": -1},
        {"excerpt_s": 0.0},
    ],
)
def test_settings_that_are_impossible_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong)).removesuffix("s")):
        EvaluationSettings(**wrong)
